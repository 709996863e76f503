"""Layer 8. The command line: `dap COMMAND --gin_file=FILE [--gin.NAME=VALUE]`.

Exit codes are those of `errors.Exit`. What the caller can solve is one message
on stderr; any other exception is a mistake of ours and keeps its traceback.
"""

import argparse
import importlib
import logging
import os
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

from dap import __version__, secrets, stopping
from dap.commands import COMMANDS, Command, Word, failures, nearest
from dap.errors import Exit, InputError

_DESCRIPTION = """\
Direct alignment from preferences: how far does online training beat offline
training at the same KL budget?

A command is configured by gin files: parts in gin/, experiments in configs/,
found from any directory. A gin file can run code, also under --dry_run: it may
name what is of dap, of modules beside it, and of those given with --import.
The caller's own numbers come after them:

  dap train --gin_file=configs/embedded/online_ipo.gin \\
    --gin.MODEL_DIR='"out/ipo"' --gin.BETA=0.1
"""

_OVERRIDES = """\
  --gin.NAME=VALUE   give a macro or an argument a value; may be repeated, the
                     last wins. A string keeps its own quotes: '"out/ipo"'.
                     NAME is a macro (BETA) or function and argument
                     (t5.T5Config.emb_dim), with its scope before a slash
                     (online/train.Run.num_steps).
                     A name that this command does not read is refused.
"""

_HELP = ('-h', '--help')
_SETTINGS = """\
what a file has to set, with its values: dap {name} --gin_file=FILE --help
"""


class _Parser(argparse.ArgumentParser):
  """An argument parser whose errors are one message, without the usage."""

  def error(self, message: str) -> NoReturn:
    raise InputError(f'{message}. See: {self.prog} --help')


def main(argv: Sequence[str] | None = None) -> None:
  """Run the command that `argv` (without the program's name) asks for.

  Raises:
    SystemExit: with 0 after `--help`, with the exit code of a failure.
  """
  _prepare_output()
  arguments = list(sys.argv[1:] if argv is None else argv)
  named = [word for word in arguments[:1] if word in COMMANDS]
  speaker = ' '.join(['dap', *named])
  try:
    rest, overrides = _take_overrides(arguments)
    _refuse_unknown_command(rest)
    with stopping.signals_heard():
      _do(rest, overrides)
  except (stopping.Stopped, KeyboardInterrupt) as stopped:
    print(f'{speaker}: {_how_it_stopped(stopped, named)}', file=sys.stderr)
    code = getattr(stopped, 'exit_code', Exit.INTERRUPTED)
    raise SystemExit(int(code)) from None
  except BrokenPipeError:  # `| head` has read enough
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    raise SystemExit(int(Exit.UNREAD)) from None
  except Exception as error:
    message = failures.explain(error)
    if message is None:
      raise
    print(f'{speaker}: {secrets.hidden(message)}', file=sys.stderr)
    raise SystemExit(int(Exit.REFUSED)) from None


def _do(rest: list[str], overrides: list[tuple[str, str]]):
  if _asks_what_can_be_set(rest):
    rest = [word for word in rest if word not in _HELP]
    options = _parsed(rest)
    _say_what_can_be_set(COMMANDS[options.command], options, overrides)
    return
  options = _parsed(rest)
  _run(COMMANDS[options.command], options, overrides)


def _how_it_stopped(stopped: BaseException, named: Sequence[str]) -> str:
  """One line: which signal, what is kept, what the same command does."""
  how = 'goes on from the last checkpoint or finished stage'
  if named and COMMANDS[named[0]].words:
    how = 'begins anew: nothing was written'
  by = signal.Signals(getattr(stopped, 'signum', signal.SIGINT)).name
  where = f'; {stopped}' if str(stopped) else ''
  return f'stopped by {by}{where}. The same command {how}.'


def _parsed(words: list[str]) -> argparse.Namespace:
  """The options; an unknown one is refused with the nearest."""
  options, unknown = _parser().parse_known_args(words)
  if not unknown:
    return options
  known = _options(COMMANDS[options.command])
  name, _, value = unknown[0].partition('=')
  hint = nearest.hint(name, known) if name.startswith('-') else ''
  if name.strip('-').isupper():
    hint = f' A value of gin is given as --gin.{name.strip("-")}={value or 1}.'
  raise InputError(
    f'unrecognized arguments: {" ".join(unknown)}.{hint} See: dap'
    f' {options.command} --help'
  )


def _options(command: Command) -> list[str]:
  if command.words:
    own = [*(word.name for word in command.words), '--dry_run', '--help']
    return [*own, *(f'--{name}' for name, _ in command.switches)]
  measure = ['--measure'] if command.measures else []
  measure += [f'--{name}' for name, _ in command.switches]
  own = ['--gin_file', '--dry_run', '--show_config', '--import', '--help']
  return [*own, *measure]


def _asks_what_can_be_set(words: list[str]) -> bool:
  files = [word for word in words if word.startswith('--gin_file')]
  return bool(files) and any(word in _HELP for word in words)


def _say_what_can_be_set(
  command: Command,
  options: argparse.Namespace,
  overrides: list[tuple[str, str]],
):
  from dap.commands import run  # A list needs gin; the plain help does not.

  files, named = options.gin_file, options.named
  print(run.what_can_be_set(command, files, overrides, COMMANDS, named))


def _prepare_output():
  """No letter that a locale lacks ends a command; no log line has a secret."""
  reconfigure = getattr(sys.stdout, 'reconfigure', None)
  if reconfigure is not None:
    reconfigure(errors='replace')
  if logging.lastResort is not None:
    logging.lastResort.setFormatter(secrets.Formatter())
  if not logging.root.handlers:  # of a notebook, or of a test
    handler = logging.StreamHandler()
    handler.setFormatter(secrets.Formatter())
    logging.root.addHandler(handler)


def _run(
  command: Command,
  options: argparse.Namespace,
  overrides: list[tuple[str, str]],
):
  if command.words:
    _run_words(command, options, overrides)
    return
  from dap.commands import run  # After --help, which shall need no gin.

  run.run(
    command,
    options.gin_file,
    overrides,
    options.dry_run,
    COMMANDS,
    options.show_config,
    _measure(options),
    options.named,
    {name: getattr(options, name) for name, _ in command.switches},
  )


def _measure(options: argparse.Namespace) -> bool:
  measure = getattr(options, 'measure', False)
  if measure and not options.dry_run:
    raise InputError(
      '--measure says how --dry_run tells what a run costs. Give both, or'
      ' neither to run it.'
    )
  return measure


def _run_words(
  command: Command,
  options: argparse.Namespace,
  overrides: list[tuple[str, str]],
):
  if overrides:
    raise InputError(
      f'--gin.{overrides[0][0]}: `{options.command}` is not configured by gin.'
      f' See: dap {options.command} --help'
    )
  given = {name: x for name, x in vars(options).items() if name != 'command'}
  module = importlib.import_module(command.module)
  getattr(module, command.function)(**given)


def _take_overrides(
  arguments: list[str],
) -> tuple[list[str], list[tuple[str, str]]]:
  """Split off `--gin.NAME=VALUE` and `--gin.NAME VALUE`."""
  rest: list[str] = []
  overrides: list[tuple[str, str]] = []
  words = iter(arguments)
  for word in words:
    if not word.startswith('--gin.'):
      rest.append(word)
      continue
    name, equals, value = word.removeprefix('--gin.').partition('=')
    if not equals:
      value = next(words, '--')
    if not name or value.startswith('--') or not value.strip():
      raise InputError(
        f'{word} needs a name and a value: --gin.NAME=VALUE, such as'
        ' --gin.BETA=0.1'
      )
    overrides.append((name.strip(), value.strip()))
  return rest, overrides


def _refuse_unknown_command(arguments: list[str]):
  if not arguments:
    raise InputError(f'name a command: {", ".join(COMMANDS)}. See: dap --help')
  word = arguments[0]
  if not word.startswith('-') and word not in COMMANDS:
    raise InputError(
      f'there is no command `{word}`.{nearest.hint(word, COMMANDS)}'
      ' See: dap --help'
    )


def _parser() -> argparse.ArgumentParser:
  parser = _Parser(
    prog='dap',
    description=_DESCRIPTION,
    formatter_class=argparse.RawDescriptionHelpFormatter,
    allow_abbrev=False,
    epilog='What a command reads and an example: dap COMMAND --help',
  )
  parser.add_argument(
    '--version', action='version', version=f'dap {__version__}'
  )
  commands = parser.add_subparsers(
    dest='command', metavar='COMMAND', title='commands', required=True
  )
  for name, command in COMMANDS.items():
    _add_command(commands, name, command)
  return parser


def _add_command(commands, name: str, command: Command):
  settings = _SETTINGS.format(name=name)
  overrides = '' if command.words else f'{_OVERRIDES}\n{settings}\n'
  parser = commands.add_parser(
    name,
    help=command.summary,
    description=f'dap {name}: {command.summary}.\n\n{command.description}',
    epilog=f'{overrides}example:\n  {command.example}',
    formatter_class=argparse.RawDescriptionHelpFormatter,
    allow_abbrev=False,
  )
  if command.words:
    _add_words(parser, command.words)
  else:
    _add_options(parser, command)
  for switch, words in command.switches:
    parser.add_argument(f'--{switch}', action='store_true', help=words)


def _add_options(parser: argparse.ArgumentParser, command: Command):
  """The options of a command that gin files configure."""
  parser.add_argument(
    '--gin_file',
    action='append',
    default=[],
    metavar='FILE',
    help='a part or an experiment; may be repeated, later files win',
  )
  parser.add_argument(
    '--dry_run',
    action='store_true',
    help='print the resolved configuration, equal values once, and what it'
    ' costs; run nothing',
  )
  parser.add_argument(
    '--import',
    action='append',
    default=[],
    dest='named',
    metavar='MODULE',
    help='let gin files import this module; may be repeated. A gin file can run'
    ' what it imports: without this, dap and modules beside the given files',
  )
  if command.measures:
    parser.add_argument(
      '--measure',
      action='store_true',
      help=f'with --dry_run: {command.measures}',
    )
  parser.add_argument(
    '--show_config',
    action='store_true',
    help='print every value of the resolved configuration; run nothing',
  )


def _add_words(parser: argparse.ArgumentParser, words: Sequence[Word]):
  for word in words:
    is_option = word.name.startswith('--')
    needed = {'required': word.default is None, 'default': word.default}
    by_place = {'nargs': '?', 'default': word.default}
    parser.add_argument(
      word.name,
      help=word.help,
      choices=word.choices or None,
      metavar=None if word.choices else word.name.strip('-').upper(),
      **(needed if is_option else by_place if word.default is not None else {}),
    )
  parser.add_argument(
    '--dry_run',
    action='store_true',
    help='print what is there and what would be written; write nothing',
  )


if __name__ == '__main__':
  main()
