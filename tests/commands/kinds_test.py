"""Wrong values of bindings: exit 2, who gave them, what is wanted."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal, Protocol, runtime_checkable

import pytest
import tiny_commands
import tiny_study
from refusals import refused

from dap import errors, main
from dap.commands import kinds, said
from dap.losses import ranges
from dap.losses.ranges import Range, Seed, Seeds, Size
from dap.study import design


@runtime_checkable
class Named(Protocol):
  name: str

  @property
  def size(self) -> int: ...


@dataclasses.dataclass(frozen=True)
class Thing:
  name: str = 'a'

  @property
  def size(self) -> int:
    raise RuntimeError('it is in a file')


def one(x):
  return x


def named(value):
  """An id that is the same in every process."""
  return getattr(value, '__name__', None) or str(value)


FITS = [
  (float, 1, 1.0),
  (int | None, None, None),
  (float | None, 2, 2.0),
  (tuple[float, ...], [1, 2.5], (1.0, 2.5)),
  (tuple[tuple[float, float], ...], [[1, 2]], ((1.0, 2.0),)),
  (tuple[int, str], (1, 'a'), (1, 'a')),
  (list[float], (1,), [1.0]),
  (Sequence[int], [1], (1,)),
  (Mapping[str, float], {'a': 1}, {'a': 1.0}),
  (Mapping[str, object] | tuple[tuple[str, object], ...], {}, {}),
  (Literal['a', 'b'], 'b', 'b'),
  (Callable[[int], int], one, one),
  (Callable[..., int], max, max),
  (Callable[[], Thing], Thing, Thing),
  (Thing | None, Thing('b'), Thing('b')),
  (Named, Thing(), Thing()),  # its size is never computed
  (Any, {1: 2}, {1: 2}),
  (Seed, 2**32 - 1, 2**32 - 1),
  (Annotated[float | None, Range(0)], 1, 1.0),
  (Annotated[float | None, Range(0)], None, None),
  (type, Thing, Thing),
]


@pytest.mark.parametrize(('annotation', 'value', 'expected'), FITS, ids=named)
def test_what_fits_is_the_value_as_the_annotation_has_it(
  annotation, value, expected
):
  found = kinds.fitted(annotation, value)
  assert found == expected and type(found) is type(expected)


UNFIT = [
  (int, True, 'int', ''),
  (int, 32.0, 'int', 'without a point: 32'),
  (int, '32', 'int', 'without quotes: 32'),
  (int, 0.5, 'int', 'whole number'),
  (float, 'high', 'float', 'Such as 0.1'),
  (float, 10**400, 'float', 'too large'),
  (bool, 1, 'bool', 'True or False'),
  (bool, 'false', 'bool', 'True or False'),
  (str, 3, 'str', 'quotes'),
  (tuple[int, ...], 7, 'a tuple of int', 'comma: (7,)'),
  (tuple[str, ...], 'one', 'a tuple of str', "comma: ('one',)"),
  (tuple[tuple[str, int], ...], ('a', 1), '', "comma: (('a', 1),)"),
  (tuple[Thing, ...], Thing(), 'Thing', 'comma: (%NAME,)'),
  (tuple[int, int], 4, 'a tuple of 2: (int, int), such as (1, 1)', ''),
  (tuple[int, int], (4,), 'a tuple of 2', ''),
  (Mapping[str, float], 3, 'dictionary', ''),
  (Mapping[str, float], {3: 1}, 'str', ''),
  (Literal['a', 'b'], 'c', "one of 'a', 'b'", ''),
  (Callable[[int], int], 'one', 'a function of 1 argument', '@'),
  (Callable[[int, int], int], one, 'a function of 2 arguments', ''),
  (Callable[[int], int], Thing, 'a function', 'kinds_test.Thing()'),
  (Thing, Thing, 'Thing', 'kinds_test.Thing()'),
  (Thing, one, 'Thing', 'Call it, if it makes one: @'),
  (Named, Thing, 'Named', 'Call it'),
  (Named, 3, 'kinds_test.Named', ''),
  (Named, errors.InputError('x'), 'Named', 'It has no name, size'),
  (Size, 0, 'int >= 1', ''),
  (Seed, 2**32, 'in [0, 4294967295]', '2**32 - 1'),
  (Seeds, (1, 1), 'that differ, at least one', ''),
  (Seeds, (), 'that differ, at least one', ''),
  (Annotated[float | None, Range(0)], 0.0, 'float or None > 0', ''),
  (None, 1, 'None', ''),
]


@pytest.mark.parametrize(('annotation', 'value', 'wanted', 'hint'), UNFIT,
                         ids=named)  # fmt: skip
def test_what_does_not_fit_says_what_is_wanted(annotation, value, wanted, hint):
  with pytest.raises(kinds.Unfit) as raised:
    kinds.fitted(annotation, value)
  assert wanted in raised.value.wanted and hint in raised.value.hint


def test_a_part_that_does_not_fit_is_found_in_the_whole():
  with pytest.raises(kinds.Unfit) as raised:
    kinds.fitted(tuple[tuple[int, float], ...], ((1, 2), (3, 'x')))
  assert (raised.value.path, raised.value.value) == ((1, 1), 'x')
  assert raised.value.wanted == 'float'


def test_no_message_repeats_a_long_value():
  for value in ('x' * 5000, 10**5000, (10**5000,), list(range(5000)), 'é' * 99):
    assert len(said.told(value)) < 120


def test_a_dataclass_holds_itself_to_its_ranges():
  @dataclasses.dataclass(frozen=True)
  class Sizes:
    width: Size = 1
    share: Annotated[float, Range(0, 1, why='It is a share.')] = 0.5

    def __post_init__(self):
      ranges.check(self)

  with pytest.raises(errors.InputError, match='Sizes needs width >= 1, got -1'):
    Sizes(-1)
  with pytest.raises(errors.InputError, match='got nan. It is a share.'):
    Sizes(1, math.nan)


# A number that is not whole is for the checks of types of tests.
@pytest.mark.parametrize('seeds', [(-1,), (2**32,), (3, 3), ()])
def test_a_study_in_python_refuses_seeds_as_well(seeds):
  with pytest.raises(errors.InputError, match='seed'):
    design.check_seeds(seeds)


# Through the command line: what came is the caller's, in every command.

OF_STUDY = {
  'SEEDS=(0, -7)': ['SEEDS=(0, -7): study.run.run.seeds[1] must be int in [0,'],
  'SEEDS=(4)': ['A tuple of one has a comma: (4,).'],
  'SETTINGS=((1e-3, 0.2))': ['A tuple of one has a comma: ((0.001, 0.2),).'],
  'MESH=2': ['must be a tuple of 2', 'such as (1, 1), got 2 (int)'],
  'MESH=(1, 0)': ['mesh[1] must be int >= 1, got 0'],
  'EXPERIMENTS=(%GAP)': ['EXPERIMENTS=(%GAP): ', 'comma: (%NAME,)'],
  'KL_RANGE=3': ['(float, float), such as (0.1, 0.1), got 3 (int)'],
  'CAVEATS="tuned"': ["comma: ('tuned',)", 'CAVEATS is read at gin/commands/'],
  'ONLINE_SAVE_STEPS=2': ['comma: (2,)', 'is read at gin/study/online.gin:'],
  'sft/train.Run.seed=-5': ['sft/algorithms.run.Run.seed must be int in [0,'],
  'DEVICE="a100"': ['must be a costs.Device or None'],
}
# Not bound in vain where EXPERIMENTS is another.
MEASURES = tuple(tiny_study.MEASURED['gap'])
OF_TRAIN = {
  'BATCH_SIZE="16"': ['BATCH_SIZE="16": algorithms.run.Run.batch_size must be',
                      'without quotes: 16.', 'is read at gin/study/common.gin'],
  'BATCH_SIZE=16.0': ['Write it without a point: 16.'],
  'BATCH_SIZE=-2': ['--gin.BATCH_SIZE=-2: A run needs batch_size >= 1'],
  'BETA=0.0': ['--gin.BETA=0.0: beta of ipo_loss must be > 0'],
  'RECORD_STREAM=false': ['RECORD_STREAM=false: Write True or False.'],
  'RECORD_STREAM=Yes': ['Write True or False.'],
  'DROPOUT_RATE=null': ['Write None.'],
  'PROMPT_LENGTH=0': ['prompt_length must be int in [1, 1048576], got 0'],
  'PROMPT_LENGTH=100000000': ['1048576], got 100000000', 'its arrays are as'],
  'RESPONSE_LENGTH=-4': ['length >= 1, got -4'],
  't5.T5Config.num_heads=0': ['num_heads must be int >= 1'],
  't5.T5Config.dropout_rate=1.5': ['dropout_rate must be float in [0, 1)'],
  'OPTIMIZER=@optimizers.AdamW': ['Call it: @optimizers.AdamW()'],
  'VOCABULARY="words"': ['PairData needs a vocabulary', 'vocabulary.Bytes()'],
  'online/train.Run.schedule=@optimizers.Constant': ['optimizers.Constant()'],
  'LEARNING_RATE=' + '7' * 5000: ['...7777777 (5000 characters)'],
  'objectives.Loss.scalars={[]: 1}': ['a value is a number'],
}  # fmt: skip


@pytest.mark.parametrize('how', ['--dry_run', '--show_config'])
@pytest.mark.parametrize('word', OF_STUDY)
def test_a_wrong_value_of_a_study_is_refused(capfd, tmp_path, word, how):
  folder = tmp_path / 'study'
  argv = tiny_study.argv(folder, f'--gin.{word}', how, without=MEASURES)
  said_ = refused(capfd, argv)
  assert all(each in said_ for each in OF_STUDY[word]), said_
  assert said_.startswith(f'dap study: --gin.{word}: ')
  assert not folder.exists()


@pytest.mark.parametrize('word', OF_TRAIN)
def test_a_wrong_value_of_a_training_is_refused(capfd, tmp_path, word):
  folder = tmp_path / 'run'
  starts = tiny_commands.starts(tmp_path)
  words = ['train', 'online_ipo', folder, *starts, f'--gin.{word}']
  said_ = refused(capfd, tiny_commands.argv(*words, '--show_config'))
  assert all(each in said_ for each in OF_TRAIN[word]), said_
  assert len(said_) < 600 and not folder.exists()


def test_a_file_that_gives_a_wrong_value_is_named_with_its_line(
  capfd, tmp_path
):
  own = tmp_path / 'own.gin'
  own.write_text('# mine\nSTEPS = 10.5\nSFT_STEPS = %STEPS\n')
  words = tiny_commands.argv(
    'train', 'sft', tmp_path / 'run', f'--gin_file={own}', without=['SFT_STEPS']
  )
  assert f'{own}:2: sft/algorithms.run.Run.num_steps must be int' in refused(
    capfd, words
  )


def test_a_dictionary_with_a_list_for_a_key_is_refused(capfd, tmp_path):
  own = tmp_path / 'own.gin'
  own.write_text('\nX = {\n  [1]: 2}\n')
  words = tiny_commands.argv(
    'train', 'sft', tmp_path / 'run', f'--gin_file={own}'
  )
  assert f'{own}:3: not gin syntax: a value that Python' in refused(
    capfd, words
  )
  own.write_text('X = {%Y: 2}\nY = [3]\nBETAS = %X\n')
  assert 'nobody reads' in refused(capfd, words)


def test_what_a_class_makes_of_a_wrong_value_is_words(
  capfd, tmp_path, monkeypatch
):
  (tmp_path / 'brittle.py').write_text(
    'import dataclasses\n'
    '@dataclasses.dataclass(frozen=True)\n'
    'class Decay:\n'
    '  over: int = 1\n'
    '  def __post_init__(self):\n'
    '    1 % self.over\n'
    '  def __call__(self, step): return 1.0\n'
  )
  (tmp_path / 'own.gin').write_text(
    'from __gin__ import dynamic_registration\n'
    'import brittle\n'
    'from dap import train\n'
    'OVER = 0\n'
    'brittle.Decay.over = %OVER\n'
    'sft/train.Run.schedule = @brittle.Decay()\n'
  )
  monkeypatch.syspath_prepend(tmp_path)
  words = tiny_commands.argv(
    'train', 'sft', tmp_path / 'run', f'--gin_file={tmp_path / "own.gin"}'
  )
  said_ = refused(capfd, words)
  assert 'ZeroDivisionError: ' in said_
  assert 'in @brittle.Decay(), the value of sft/algorithms.run.Run.sch' in said_


def test_a_function_whose_first_argument_is_given_lacks_it(capfd, tmp_path):
  words = tiny_commands.argv(
    'train', 'sft', tmp_path, '--gin_file=gin/models/t5_1_1_tiny.gin',
    '--gin.t5.T5Config.cross_query_init=@dap.models.t5_initial.own_query',
    '--gin.dap.models.t5_initial.own_query.query=1',
  )  # fmt: skip
  assert 'cross_query_init must be a function of 2 arg' in refused(capfd, words)


def test_right_values_of_other_spellings_are_still_taken(capsys, tmp_path):
  main.main(
    tiny_commands.argv(
      'train', 'sft', tmp_path / 'run', '--show_config',
      '--gin.sft/train.Run.learning_rate=1', '--gin.MESH=[1, 1]',
    )
  )  # fmt: skip
  shown = capsys.readouterr().out
  assert 'learning_rate: 1.0\n' in shown and 'mesh: 1, 1\n' in shown
