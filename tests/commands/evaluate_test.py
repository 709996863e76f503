import shutil

import numpy as np
import pytest
import refusals
import tiny_commands as tiny

from dap import main
from dap.evaluation import points as points_lib
from dap.study.reading import runs as points

EVALUATION = {
  'points.Evaluation.num_prompts': 16,
  'points.Evaluation.num_kl_prompts': 12,
  'points.Evaluation.num_pairs': 8,
  'points.Evaluation.batch_size': 8,
  # The golden model is the proxy itself.
  'golden/t5.T5Config.emb_dim': 16,
  'golden/t5.T5Config.num_heads': 2,
  'golden/t5.T5Config.mlp_dim': 32,
}


def words_of(runs, folder, *others, config='online_ipo', **changes):
  paths = {
    'REFERENCE_CHECKPOINT_PATH': runs / 'sft',
    'OPPONENT_CHECKPOINT_PATH': runs / 'sft',
    'GOLDEN_CHECKPOINT_PATH': runs / 'judge',
    'PROXY_CHECKPOINT_PATH': runs / 'judge',
  }
  given = {name: str(path) for name, path in paths.items()}
  return tiny.argv(
    'evaluate',
    config,
    folder,
    '--gin_file=gin/commands/evaluate.gin',
    *others,
    **{**given, **EVALUATION, **changes},
  )


def evaluate(runs, folder, *others, **changes):
  main.main(words_of(runs, folder, *others, **changes))


@pytest.fixture(scope='module')
def evaluated(runs, tmp_path_factory):
  """The online run, its two checkpoints evaluated."""
  folder = tmp_path_factory.mktemp('evaluated') / 'online'
  shutil.copytree(runs / 'online', folder)
  evaluate(runs, folder)
  return folder


def test_every_checkpoint_is_a_point_with_its_arrays(evaluated):
  found = points.read(evaluated / 'runs.jsonl')
  assert [point.step for point in found] == [3, 6]
  for point in found:
    assert (point.run, point.algorithm) == ('online', 'online_ipo')
    assert (point.lr, point.scalars, point.seed) == (5e-4, {'beta': 0.05}, 0)
    assert 0 < point.kl_nats < 1
    assert point.win_rate == point.proxy_win_rate  # one model judges as both
    arrays = points.read_arrays(
      evaluated / str(point.per_prompt), ('kl', 'tokens', 'golden_p_ab')
    )
    assert arrays['kl'].shape == (12,) and arrays['tokens'].shape == (16, 6)
    assert point.kl_nats == pytest.approx(np.mean(arrays['kl']), rel=1e-5)
  assert found[0].kl_nats < found[1].kl_nats  # it moves away from the start


def test_a_second_evaluation_gives_the_same_bytes(runs, evaluated):
  before = (evaluated / 'runs.jsonl').read_bytes()
  evaluate(runs, evaluated)
  assert (evaluated / 'runs.jsonl').read_bytes() == before


def test_a_run_that_has_not_moved_has_no_kl(runs, tmp_path):
  """The SFT policy as a run of its own, against itself."""
  folder = tmp_path / 'online'
  shutil.copytree(runs / 'sft' / 'checkpoints', folder / 'checkpoints')
  evaluate(runs, folder)
  (point,) = points.read(folder / 'runs.jsonl')
  assert point.kl_nats == 0 and point.classification_accuracy == 0.5


def test_a_point_has_the_name_of_its_source_and_loss(runs, tmp_path):
  folder = tmp_path / 'offline'
  shutil.copytree(runs / 'sft' / 'checkpoints', folder / 'checkpoints')
  loss = '--gin_file=gin/losses/dpo.gin'
  evaluate(runs, folder, loss, config='offline_ipo')
  (point,) = points.read(folder / 'runs.jsonl')
  assert point.algorithm == 'offline_dpo'


def test_a_dry_run_names_the_checkpoints_and_writes_nothing(
  runs, capsys, tmp_path
):
  folder = shutil.copytree(runs / 'online', tmp_path / 'online')
  evaluate(runs, folder, '--dry_run')
  assert 'would evaluate 2 checkpoints' in capsys.readouterr().out
  assert not (folder / 'runs.jsonl').exists()


@pytest.mark.parametrize('which', ['GOLDEN', 'PROXY'])
def test_a_policy_is_no_judge(runs, tmp_path, capsys, which):
  folder = shutil.copytree(runs / 'online', tmp_path / 'online')
  path = {f'{which}_CHECKPOINT_PATH': str(runs / 'sft')}
  words = words_of(runs, folder, **path)
  said = refusals.refused(capsys, words)
  assert 'A preference model, which compares' in said
  assert f'{runs / "sft"}/checkpoints/checkpoint_10 is a policy' in said
  assert 'configs/embedded/preference_model.gin' in said
  assert not (folder / 'runs.jsonl').exists()


def test_a_policy_labels_no_samples(runs, tmp_path, capsys):
  words = tiny.argv(
    'train',
    'online_ipo',
    tmp_path / 'out',
    f'--gin.INITIAL_CHECKPOINT_PATH={str(runs / "sft")!r}',
    f'--gin.ANNOTATOR_CHECKPOINT_PATH={str(runs / "sft")!r}',
  )
  said = refusals.refused(capsys, words)
  assert 'A preference model, which compares' in said
  assert not (tmp_path / 'out' / 'checkpoints').exists()


def test_a_golden_model_that_always_ties_is_told(
  runs, tmp_path, capsys, monkeypatch
):
  folder = shutil.copytree(runs / 'online', tmp_path / 'online')

  def ties(judge, prompts, *_):
    return np.full(len(prompts), 0.75), np.full(len(prompts), 0.75)

  monkeypatch.setattr(points_lib, 'preferences', ties)
  said = refusals.refused(capsys, words_of(runs, folder))
  assert 'training split need golden labels; of 8' in said
