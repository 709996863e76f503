"""Layer 8. One command: configure, refuse bad input, then run or dry-run."""

import contextlib
import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import MappingProxyType

from dap import folders, secrets
from dap.commands import (
  Command,
  bindings,
  idle,
  modules,
  reads,
  resolve,
  said,
  settings,
  show,
  syntax,
)

_TASK_MODULES = ('data.seqio_source.SeqioTask', 'modules')


def configure(
  command: Command,
  files: Sequence[str],
  overrides: Sequence[tuple[str, str]],
  commands: Mapping[str, Command],
  stand_ins: Callable[[Sequence[str]], None] | None = None,
  named: Sequence[str] = (),
) -> dict[str, object]:
  """The keyword arguments of the command's run function.

  Args:
    command: the command to configure.
    files: gin files in the order given; later bindings win.
    overrides: (NAME, VALUE) of each `--gin.NAME=VALUE`.
    commands: all commands: a gin file may bind the run functions of several.
    stand_ins: where it is given, what is required and missing has a text in
      place of its value, and this is called with the names.
    named: modules that gin files may import besides, see `modules.allowed`.

  Raises:
    InputError: whatever is wrong with the files and overrides.
  """
  parsed = syntax.parse(files, overrides)  # before anything slow is imported
  own = {each.module.partition('.')[0] for each in commands.values()}
  allowed = modules.allowed(parsed, named, sorted(own))
  function = getattr(importlib.import_module(command.module), command.function)
  read = bindings.look_up(parsed, allowed)
  run_functions = _run_functions(commands)
  reads.refuse_unread(read, function, run_functions)
  idle.refuse_idle(read, [function, *run_functions])
  if stand_ins and (missing := reads.required(read, function)):
    stand_ins(missing)
    given = [(name, f"'<{name}>'") for name in missing]
    more = syntax.parse((), given).overrides
    overriding = (*parsed.overrides, *more)
    read = bindings.look_up(parsed._replace(overrides=overriding), allowed)
  reads.refuse_missing(read, function)
  _check_tasks(read, function, allowed)
  return resolve.resolve(read, function)


def _say_missing(names: Sequence[str]) -> None:
  print(f'Needed to run it, and not given: {", ".join(names)}\n', flush=True)


def _alone(folder: Path, command: Command) -> AbstractContextManager[None]:
  """Of two commands that write the same files of a folder one is refused."""
  lock = folder / f'.{command.function}.lock'
  return folders.held(
    lock, folders.refuse(f'{command.writes.upper()} {folder}')
  )


def what_can_be_set(
  command: Command,
  files: Sequence[str],
  overrides: Sequence[tuple[str, str]],
  commands: Mapping[str, Command],
  named: Sequence[str] = (),
) -> str:
  """What gin files have to set, see `settings.text`; arguments as above.

  Raises:
    InputError: the files or overrides cannot be read.
  """
  parsed = syntax.parse(files, overrides)
  own = {each.module.partition('.')[0] for each in commands.values()}
  allowed = modules.allowed(parsed, named, sorted(own))
  function = getattr(importlib.import_module(command.module), command.function)
  read = bindings.look_up(parsed, allowed)
  return secrets.hidden(settings.text(read, function))


def _check_tasks(
  read: bindings.Bindings, function: object, allowed: modules.Allowed
) -> None:
  """Modules of seqio Tasks are imports too; an override is the caller's own."""
  for binding, _ in reads.walk(read, [function], reads.live):
    if (said.name_of(binding.target), binding.argument) != _TASK_MODULES:
      continue
    given, value = resolve.giver(read, binding)
    for name in value if isinstance(value, list | tuple) else ():
      if not given.is_override:
        how = f"give --gin.{given.name}='({name!r},)' or --import={name}"
        modules.check_named(allowed, str(name), given.origin, how)


def _run_functions(commands: Mapping[str, Command]) -> list[object]:
  """Those that are loaded: no gin file can have bound the others."""
  return [
    getattr(sys.modules[command.module], command.function)
    for command in commands.values()
    if command.module in sys.modules
  ]


def run(
  command: Command,
  files: Sequence[str],
  overrides: Sequence[tuple[str, str]],
  dry_run: bool,
  commands: Mapping[str, Command],
  show_config: bool = False,
  measure: bool = False,
  named: Sequence[str] = (),
  switches: Mapping[str, bool] = MappingProxyType({}),
):
  """Run a command, or with `dry_run` print what it would do and cost.

  With `show_config` print every value that it would be given, and stop there.
  A dry run may `measure`, where the command can: slower, nearer to the truth.
  Gin files may import the modules `named`, too.
  """
  shows = (dry_run or show_config) and not command.dry_run_needs_all
  stand_ins = _say_missing if shows else None
  arguments = configure(command, files, overrides, commands, stand_ins, named)
  arguments |= {name: True for name, given in switches.items() if given}
  if show_config:
    print(secrets.hidden(show.text(arguments)), flush=True)
    return
  module = importlib.import_module(command.module)
  with contextlib.ExitStack() as stack:
    if command.writes:
      folder = folders.check_name(
        str(arguments[command.writes]), command.writes.upper()
      )
      if command.writes_alone and not dry_run:
        stack.enter_context(_alone(folder, command))
    if not dry_run:
      getattr(module, command.function)(**arguments)
      return
  if arguments:
    print(secrets.hidden(show.compact(arguments)), flush=True)
  module.dry_run(**arguments, **({'measure': True} if measure else {}))
