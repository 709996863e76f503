"""Layer 8. The experiments of configs/embedded, read for what they are.

Nothing is said twice: names are files, slots are resolved bindings, and words
are the comments of the gin files.
"""

import pathlib
import re
from typing import NamedTuple

from dap.algorithms.run import Run
from dap.commands import (
  bindings,
  modules,
  places,
  reads,
  resolve,
  settings,
  syntax,
  train,
)
from dap.commands.bindings import REQUIRED, Binding, Bindings, Reference

FOLDER = 'configs/embedded'
_OF_ALGORITHMS = ('algorithms', 'losses')
_OF_NUMBERS = (*_OF_ALGORITHMS, 'reference', 'refresh')


class Experiment(NamedTuple):
  """One file, resolved as `dap train` would.

  Attributes:
    name: of the file.
    path: of the file.
    run: its choices.
    bindings: all that it reads, parts included.
    from_nothing: whether it starts without a checkpoint: a policy or a
      preference model that algorithms start from.
  """

  name: str
  path: pathlib.Path
  run: Run
  bindings: Bindings
  from_nothing: bool


class Default(NamedTuple):
  """A number of an algorithm.

  Attributes:
    name: of the macro.
    value: of the part, as gin has it.
    told: the part's comment on it: unit, source.
    part: the file.
    here: the experiment's own value; '' where it keeps the part's.
    here_told: its comment.
  """

  name: str
  value: str
  told: str
  part: str
  here: str
  here_told: str


def names() -> list[str]:
  """All there are, artefacts included."""
  return sorted(path.stem for path in (places.root() / FOLDER).glob('*.gin'))


def read(name: str) -> Experiment:
  """The experiment of that name, whatever its folders and checkpoints."""
  path = places.root() / FOLDER / f'{name}.gin'
  parsed = syntax.parse([str(path)])
  allowed = modules.allowed(parsed)
  bound = bindings.look_up(parsed, allowed)
  missing = reads.required(bound, train.train)
  stand_ins = syntax.parse((), [(each, f"'<{each}>'") for each in missing])
  parsed = parsed._replace(overrides=stand_ins.overrides)
  bound = bindings.look_up(parsed, allowed)
  given = resolve.resolve(bound, train.train)
  run = given['run']
  assert isinstance(run, Run), f'{path} names no run'
  start = given.get('initial_checkpoint_path')
  return Experiment(name, path.resolve(), run, bound, not start)


def head(path: pathlib.Path) -> tuple[str, str]:
  """The comment that a gin file opens with: its words, and its command."""
  lines: list[str] = []
  for line in path.read_text(encoding='utf-8').splitlines():
    if not line.startswith('#'):
      break
    lines.append(line.removeprefix('#').strip())
  begin = [i for i, line in enumerate(lines) if line.startswith('dap ')]
  end = begin[0] if begin else len(lines)
  return ' '.join(lines[:end]), '\n  '.join(lines[end:])


def summary(experiment: Experiment) -> str:
  """The first clause of its head; the corpus is all experiments'."""
  words, _ = head(experiment.path)
  first = re.split(r'(?<=[\w)]{2})\.(?: (?=[A-Z]|\d+ s )|$)|; ', words)[0]
  return re.sub(r',? (on|of) the embedded corpus', '', first)


def parts(experiment: Experiment) -> list[pathlib.Path]:
  """The parts of gin/algorithms and gin/losses that it is made of."""
  return _files(experiment.bindings, _OF_ALGORITHMS)


def defaults(experiment: Experiment) -> list[Default]:
  """Its numbers with what its parts say of them, in their order."""
  walked = reads.walk(experiment.bindings, [train.train], reads.live)
  live = {each.name for each, _ in walked if each.is_macro}
  given = [
    binding
    for binding in experiment.bindings
    if binding.is_macro and binding.name in live and _is_number(binding)
  ]
  last = {each.name: each for each in given}
  return [_default(experiment.bindings, each) for each in last.values()]


def _default(bound: Bindings, part: Binding) -> Default:
  own = bound.of(part.name)[-1]
  here = own if own is not part else None
  assert part.file is not None
  must = part.value == REQUIRED
  return Default(
    part.name,
    'must be given' if must else settings.as_written(part.value),
    settings.comment_on(part),
    places.shorten(part.file),
    settings.as_written(here.value) if here else '',
    settings.comment_on(here) if here else '',
  )


def _is_number(binding: Binding) -> bool:
  """Whether it is a number of an algorithm's part, not a choice."""
  chosen = isinstance(binding.value, Reference) or binding.value is None
  return not chosen and _within(binding.file, _OF_NUMBERS)


def _files(bound: Bindings, folders: tuple[str, ...]) -> list[pathlib.Path]:
  found = [each.file for each in bound if each.file is not None]
  return [path for path in dict.fromkeys(found) if _within(path, folders)]


def _within(path: pathlib.Path | None, folders: tuple[str, ...]) -> bool:
  if path is None:
    return False
  gin = (places.root() / 'gin').resolve()
  return any(path.parent == gin / folder for folder in folders)
