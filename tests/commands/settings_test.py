"""`dap COMMAND --gin_file=FILE --help`, and hints for unknown names."""

import pathlib

import pytest
import tiny_commands
import tiny_study
from refusals import refused

from dap import main
from dap.commands import nearest, settings

OWN = """\
# Mine: a head that is of the whole file.
# dap train --gin_file=own.gin

BETA = 0.25  # of my own, a "#" in it
# How often it is done;
# at least once.
SFT_STEPS = 7
WORDS = ('a # b',)
"""


def listed(capsys, *words):
  main.main([*words, '--help'])
  return capsys.readouterr().out


def test_the_macros_of_a_configuration_are_listed_by_part(capsys):
  out = listed(capsys, 'train', '--gin_file=configs/embedded/online_ipo.gin')
  must, rest = out.split('\n\n', 1)
  assert must.startswith('must be given\n') and '--gin.MODEL_DIR ' in must
  assert '--gin.INITIAL_CHECKPOINT_PATH' in must and '=' not in must
  assert 'gin/losses/ipo.gin: Loss: IPO' in rest
  assert '  --gin.BETA=0.05               per nat\n' in rest
  assert '--gin.BATCH_SIZE=32 ' in rest and 'pairs (or prompts) of a st' in rest
  assert '--gin.LOSS=@ipo/algorithms.objectives.Loss()\n' in rest
  assert 'GOLDEN_STEPS' not in out  # nobody reads it here
  assert all(len(line) < 80 for line in out.splitlines())


def test_comments_beside_and_above_a_macro_are_its_line(
  capsys, tmp_path, monkeypatch
):
  monkeypatch.chdir(tmp_path)
  pathlib.Path('own.gin').write_text(OWN)
  out = listed(
    capsys, 'train', '--gin_file=configs/embedded/sft.gin', '--gin_file=own.gin'
  )
  assert 'own.gin: Mine: a head that is of the whole file.' in out
  line = next(each for each in out.splitlines() if 'SFT_STEPS' in each)
  assert line.split() == ['--gin.SFT_STEPS=7', 'How', 'often', 'it', 'is',
                          'done;', 'at', 'least', 'once.']  # fmt: skip
  assert 'BETA' not in out and 'WORDS' not in out


def test_a_number_of_a_loss_is_told_by_the_loss(capsys):
  out = listed(
    capsys, 'train', '--gin_file=configs/embedded/offline_ipo.gin',
    '--gin.BETA=0.3',
  )  # fmt: skip
  assert 'given on the command line\n  --gin.BETA=0.3 ' in out
  assert 'pull to the reference, per nat, > 0.' in out


def test_a_study_is_listed_and_nothing_is_run(capsys, tmp_path):
  out = listed(capsys, *tiny_study.argv(tmp_path / 'study'))
  assert '--gin.SEEDS' in out and 'of everything that is random' in out
  assert not list(tmp_path.iterdir())


def test_the_plain_help_says_how_to_get_the_list(capsys):
  with pytest.raises(SystemExit, match='0'):
    main.main(['train', '--help'])
  assert 'dap train --gin_file=FILE --help' in capsys.readouterr().out


def test_a_docstring_gives_the_whole_entry_of_an_argument():
  def function(first, second):
    """One line.

    Args:
      first: what comes
        in two lines.
      second: other.

    Returns:
      first: nothing.
    """

  assert settings.of_argument(function, 'first') == 'what comes in two lines.'
  assert settings.of_argument(function, 'second') == 'other.'
  assert settings.of_argument(function, 'third') == ''


UNKNOWN = {
  '--dry-run': 'Nearest: --dry_run',
  '--show-config': 'Nearest: --show_config',
  '--gin-file=a.gin': 'Nearest: --gin_file',
  '--Measure': 'Nearest: --measure',
  '--imports=a': 'Nearest: --import',
  '--BETA=0.1': 'given as --gin.BETA=0.1',
}


@pytest.mark.parametrize('word', UNKNOWN)
def test_an_unknown_option_is_refused_with_the_nearest(capfd, word):
  said = refused(capfd, ['train', word])
  assert f'unrecognized arguments: {word}' in said and UNKNOWN[word] in said


def test_dashes_and_capitals_do_not_matter_to_what_is_near():
  assert nearest.names('Prompt-Length', ['PROMPT_LENGTH']) == ['PROMPT_LENGTH']


@pytest.mark.parametrize(
  ('name', 'expected'),
  [
    ('stf/train.Run.seed', 'sft/algorithms.run.Run.seed'),  # bound by nobody
    ('sft/train.Run.num_microbatches_', 'has no argument'),
    ('sftt/optimizers.Cosine.floor', 'sft/optimizers.Cosine.floor'),
    ('golden/t5.T5Config.emb_dim', 'models.t5_stacks.T5Config.emb_dim'),
  ],
)
def test_a_name_in_a_wrong_scope_is_refused_with_the_nearest_in_all(
  capfd, tmp_path, name, expected
):
  words = tiny_commands.argv('train', 'sft', tmp_path, f'--gin.{name}=1')
  assert expected in refused(capfd, words)
