"""The commands that the campaigns start, at sizes of seconds."""

import pathlib
from collections.abc import Sequence

import tiny_commands
import tiny_study
from lab import ROOT, Lab

_EVALUATION = {
  'points.Evaluation.num_prompts': 16,
  'points.Evaluation.num_kl_prompts': 12,
  'points.Evaluation.num_pairs': 8,
  'points.Evaluation.batch_size': 8,
  # The golden model is the proxy itself.
  'golden/t5.T5Config.emb_dim': 16,
  'golden/t5.T5Config.num_heads': 2,
  'golden/t5.T5Config.mlp_dim': 32,
}


def starting_points(lab: Lab) -> pathlib.Path:
  """A folder with trained `sft` and `judge`."""
  if not lab.made.exists():
    lab.make(sft(lab.made / 'sft', 10))
    lab.make(judge(lab.made / 'judge'))
  return lab.made


def sft(folder: pathlib.Path, steps: int = 60) -> list[str]:
  """A supervised training."""
  return tiny_commands.argv('train', 'sft', folder, SFT_STEPS=steps)


def judge(folder: pathlib.Path) -> list[str]:
  """A training of a preference model."""
  return tiny_commands.argv('train', 'preference_model', folder)


def online(
  made: pathlib.Path,
  folder: pathlib.Path,
  steps: int = 12,
  saves: Sequence[int] = (4, 8),
) -> list[str]:
  """An online training that records its stream."""
  return tiny_commands.argv(
    'train',
    'online_ipo',
    folder,
    *tiny_commands.starts(made),
    ONLINE_STEPS=steps,
    ONLINE_SAVE_STEPS=tuple(saves),
    RECORD_STREAM=True,
  )


def evaluate(made: pathlib.Path, folder: pathlib.Path) -> list[str]:
  """Measures the checkpoints of an online training."""
  paths = {
    'REFERENCE_CHECKPOINT_PATH': made / 'sft',
    'OPPONENT_CHECKPOINT_PATH': made / 'sft',
    'GOLDEN_CHECKPOINT_PATH': made / 'judge',
    'PROXY_CHECKPOINT_PATH': made / 'judge',
  }
  return tiny_commands.argv(
    'evaluate',
    'online_ipo',
    folder,
    '--gin_file=gin/commands/evaluate.gin',
    ONLINE_STEPS=12,
    ONLINE_SAVE_STEPS=(4, 8),
    **{name: str(path) for name, path in paths.items()},
    **_EVALUATION,
  )


def data(cache: pathlib.Path) -> list[str]:
  """Tokenises the embedded corpus into a cache."""
  return [
    'data',
    '--gin_file=gin/data/embedded.gin',
    '--gin.corpus.EmbeddedCorpus.num_train=32',
    '--gin.corpus.EmbeddedCorpus.num_stress=8',
    '--gin.corpus.EmbeddedCorpus.num_test=8',
    f'--gin.data.prepare_data.cache_dir={str(cache)!r}',
  ]


def convert(folder: pathlib.Path, to: str) -> list[str]:
  """Writes a checkpoint of the fixtures in another layout."""
  source = ROOT / 'tests' / 'fixtures' / 't5x' / 'orbax'
  return ['convert', str(source), str(folder), f'--to={to}']


def study(folder: pathlib.Path, **changes: object) -> list[str]:
  """The study of tests/tiny_study.py."""
  return tiny_study.argv(folder, **changes)


def coverage(folder: pathlib.Path) -> list[str]:
  """A study that has a measure: a stream's repetition."""
  setting = ((5e-4, 0.05),)  # of the arms that read a stream
  return tiny_study.argv(folder, config='h1_coverage', SETTINGS=setting)


def report(folder: pathlib.Path) -> list[str]:
  """The report of that study."""
  return tiny_study.report_argv(folder)
