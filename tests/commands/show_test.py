import dataclasses
import textwrap

import pytest
import tiny_study

from dap import main
from dap.commands import bindings, resolve, show


@dataclasses.dataclass(frozen=True)
class Model:
  width: int = 4
  depth: int = 2
  heads: int = 8


@dataclasses.dataclass(frozen=True)
class Run:
  model: Model
  steps: int
  name: str = ''


@dataclasses.dataclass(frozen=True)
class Plain:
  words: tuple[str, ...]


def made(steps=1, name='', **model):
  return Run(Model(**model), steps, name)


def shown(**arguments):
  """Its lines, without the name of this module."""
  module = bindings.name_of(Run).removesuffix('Run')
  return show.compact(arguments).replace(module, '').splitlines()


def test_a_value_stands_once_and_is_named_by_its_place_after_that():
  lines = shown(first=made(), second=made(), model=Model())
  assert (
    lines
    == textwrap.dedent("""\
    first: Run
      model: Model
        width: 4
        depth: 2
        heads: 8
      steps: 1
      name: ''
    second: as first
    model: as first.model""").splitlines()
  )


def test_of_a_value_like_another_only_what_differs_is_shown():
  lines = shown(first=made(), second=made(steps=3, depth=5))
  assert lines[-3:] == [
    'second: Run, as first but',
    '  model.depth: 5',
    '  steps: 3',
  ]


def test_a_value_with_a_name_is_called_by_it():
  lines = shown(runs=(made(name='online'), made(name='offline', width=9)))
  assert lines[-3:] == [
    '  - 1: Run, as online but',
    '    model.width: 9',
    "    name: 'offline'",
  ]
  assert (
    shown(runs=(made(name='a'),), again=made(name='a'))[-1] == 'again: as a'
  )


def test_the_nearest_of_the_values_is_taken():
  lines = shown(a=made(), b=made(steps=7, width=1, depth=1, heads=1),
                c=made(steps=8, width=1, depth=1, heads=1))  # fmt: skip
  assert lines[-2:] == ['c: Run, as b but', '  steps: 8']


def test_values_of_few_lines_and_of_no_likeness_stand_in_full():
  lines = shown(a=Plain(('x',)), b=Plain(('x',)))
  assert lines == ['a: Plain', "  words: 'x'"] + [
    'b: Plain', "  words: 'x'",
  ]  # fmt: skip
  lines = shown(a=Model(1, 2, 3), b=Model(4, 5, 6))
  assert lines[4:] == ['b: Model', '  width: 4', '  depth: 5',
                       '  heads: 6']  # fmt: skip


def test_long_rows_are_cut_and_rows_in_rows_keep_their_brackets():
  words = tuple('abcdefghijklm')
  assert shown(words=words) == ["words: 'a', 'b', 'c', 'd', ... (13 in all)"]
  assert show.text({'words': words}).count(',') == 12
  assert shown(grid=((1, 2), (3, None))) == ['grid: (1, 2), (3, None)']


def test_bound_functions_differ_by_their_arguments():
  def bound(**arguments):
    return resolve.Bound(made, tuple(sorted(arguments.items())))

  lines = shown(a=bound(b=1, c=2, d=3), b=bound(b=1, c=2, d=4))
  assert lines[-1] == '  d: 4' and 'as a but' in lines[-2]


def printed(capsys, flag):
  main.main(tiny_study.argv('out/study', flag, config='gap'))
  return capsys.readouterr().out


def test_a_study_is_shown_whole_on_request(capsys):
  whole = printed(capsys, '--show_config')
  assert whole.count('models.t5_stacks.T5Config') > 6
  assert 'stages to run' not in whole and ' as ' not in whole
  assert "words: 'sister', 'brother'" in whole


def test_a_dry_run_of_a_study_asks_for_no_path(capsys):
  words = tiny_study.argv('out/study', '--show_config')
  main.main([word for word in words if 'STUDY_DIR' not in word])
  out = capsys.readouterr().out
  assert out.startswith('Needed to run it, and not given: STUDY_DIR\n')
  assert "study_dir: '<STUDY_DIR>'" in out
  with pytest.raises(SystemExit, match='2'):
    main.main([w for w in words if 'STUDY_DIR' not in w and 'show' not in w])
  assert 'STUDY_DIR must be given' in capsys.readouterr().err
