"""Layer 8. A part that the caller gives and nobody reads, and what to write.

A part that another file includes is a default, and may stay idle. One given by
`--gin_file` is a choice: to ignore it would run another experiment.
"""

import pathlib
from collections.abc import Collection, Iterator, Sequence

from gin import config_parser

from dap.commands import places, reads, syntax
from dap.commands.bindings import Binding, Bindings, Macro
from dap.commands.said import name_of
from dap.errors import InputError

# What is called, and in which scope.
Called = tuple[object, reads.Scope]
Winners = dict[tuple[object, ...], Binding]
_SHOWN = 3  # slots that a message names


def refuse_idle(bindings: Bindings, roots: Collection[object]):
  """Refuse a given part that the run functions `roots` do not read.

  Later files win: a part that was read until an override or another part
  replaced its choice was heeded, one that an experiment replaces was not.

  Raises:
    InputError: naming each such part, what nobody reads, who fills its slot
      instead, and what to write.
  """
  walked = list(reads.walk(bindings, roots, reads.live))
  winners = {_key(binding): binding for binding, _ in walked}
  called: dict[Called, None] = {(root, ()): None for root in roots}
  for binding, scope in walked:
    for reference in reads.references(binding.value):
      if not isinstance(reference, Macro):
        called[reference.target, reference.scope or scope] = None
  complaints = [
    _complaint(bindings, part, of_part, winners, list(called))
    for part, of_part in _given_parts(bindings)
    if not _is_heeded(bindings, of_part, winners)
    and not _was_heeded(bindings, part, of_part, roots)
  ]
  if complaints:
    raise InputError('\n'.join(complaints))


def _key(binding: Binding) -> tuple[object, ...]:
  return binding.scope, binding.target, binding.argument


def _given_parts(
  bindings: Bindings,
) -> Iterator[tuple[pathlib.Path, list[Binding]]]:
  """Each with its own bindings, or where it has none those it includes."""
  for part in dict.fromkeys(binding.given for binding in bindings):
    if part is not None and places.is_part(part):
      brought = [binding for binding in bindings if binding.given == part]
      yield part, [each for each in brought if each.file == part] or brought


def _is_heeded(
  bindings: Bindings, of_part: list[Binding], winners: Winners
) -> bool:
  return any(
    _key(each) in winners and winners[_key(each)].value == each.value
    for each in _choices(bindings, of_part)
  )


def _was_heeded(
  bindings: Bindings,
  part: pathlib.Path,
  of_part: list[Binding],
  roots: Collection[object],
) -> bool:
  """Whether it was, before what the caller gave after it."""
  end = max(i for i, each in enumerate(bindings) if each.given == part) + 1
  so_far = Bindings(bindings[:end])
  walked = reads.walk(so_far, roots, reads.live)
  return _is_heeded(so_far, of_part, {_key(b): b for b, _ in walked})


def _choices(bindings: Bindings, of_part: list[Binding]) -> list[Binding]:
  """What makes a part: functions, their arguments, and numbers of its own.

  A number that other files bind too, such as BETA, is read where the function
  beside it is not: it counts only where the part has nothing else.
  """
  chosen = [
    binding
    for binding in of_part
    if not binding.is_macro
    or any(reads.references(binding.value))
    or not any(
      other.given not in (None, binding.given)
      for other in bindings.of(binding.target)
    )
  ]
  return chosen or of_part


def _complaint(
  bindings: Bindings,
  part: pathlib.Path,
  of_part: Sequence[Binding],
  winners: Winners,
  called: Sequence[Called],
) -> str:
  names = list(dict.fromkeys(binding.name for binding in of_part))
  named = ', '.join(names[:3])
  if len(names) > 3:
    named += f' and {len(names) - 3} more'
  outermost = _outermost(of_part)
  advice = (
    _of_replaced(part, outermost, winners)
    or _of_macros(bindings, outermost, called)
    or _of_experiments(part)
    or _of_scopes(outermost, called)
  )
  otherwise = ' Or take' if advice else ' Take'
  return (
    f'--gin_file={places.shorten(part)}: nobody reads what this part binds:'
    f' {named}.{advice}{otherwise} the part away.'
  )


def _outermost(of_part: Sequence[Binding]) -> list[Binding]:
  """Those that no other binding of the part refers to."""
  inner = {
    reference.name if isinstance(reference, Macro) else reference.target
    for binding in of_part
    for reference in reads.references(binding.value)
  }
  return [binding for binding in of_part if binding.target not in inner]


def _of_replaced(
  part: pathlib.Path,
  outermost: Sequence[Binding],
  winners: Winners,
) -> str:
  """A file that was read after the part binds the same."""
  replaced = [
    winners[_key(each)]
    for each in outermost
    if _key(each) in winners and winners[_key(each)].value != each.value
  ]
  if not replaced:
    return ''
  return (
    f' {replaced[0].origin} binds {replaced[0].name} after it. Give'
    f' {places.shorten(part)} later.'
  )


def _of_macros(
  bindings: Bindings, outermost: Sequence[Binding], called: Sequence[Called]
) -> str:
  """Who fills the slots that the part's macros are meant for."""
  known, instead = [], []
  for macro in (binding.name for binding in outermost if binding.is_macro):
    slots = []
    for target, scope, argument in _slots(macro, called):
      live = reads.live(bindings, target, scope)
      slot = f'{"/".join([*scope, name_of(target)])}.{argument}'
      text = f' Nothing binds {slot}.'
      for other in live:
        if other.argument == argument:
          slot = other.name
          text = f' {other.origin} binds {slot}.'
      known.append(text)
      slots.append(f'--gin.{slot}=%{macro}')
    if slots:
      instead.append(_either(slots))
  if not instead:
    return ''
  told = ''.join(list(dict.fromkeys(known))[:_SHOWN])
  return f'{told} To use the part, add {", and ".join(instead)}.'


def _either(words: Sequence[str]) -> str:
  return ' or '.join(list(dict.fromkeys(words))[:_SHOWN])


def _slots(
  macro: str, called: Sequence[Called]
) -> Iterator[tuple[object, reads.Scope, str]]:
  """Arguments of what is called that the project's files give the macro to."""
  meant = {
    (what.selector.rpartition('.')[2], what.arg_name)
    for path in _files('gin', 'configs')
    for what, _ in syntax.statements(path)
    if isinstance(what, config_parser.BindingStatement)
    and what.arg_name
    and what.value == Macro(macro)
  }
  for target, scope in called:
    for name, argument in sorted(meant):
      if getattr(target, '__name__', None) == name:
        yield target, scope, argument


def _files(*folders: str) -> list[pathlib.Path]:
  return sorted(
    path
    for folder in folders
    for path in (places.root() / folder).rglob('*.gin')
  )


def _of_experiments(part: pathlib.Path) -> str:
  """Experiments that include the part."""
  name = places.shorten(part)
  found = [
    places.shorten(path)
    for path in _files('configs')
    for what, _ in syntax.statements(path)
    if isinstance(what, config_parser.IncludeStatement)
    and what.filename == name
  ]
  if not found:
    return ''
  return f' An experiment that has it: {_either(found)}.'


def _of_scopes(outermost: Sequence[Binding], called: Sequence[Called]) -> str:
  """Scopes in which is called what the part binds in another one."""
  for binding in outermost:
    scopes = ['/'.join(s) for target, s in called if target == binding.target]
    if scopes:
      bound = f'{name_of(binding.target)}.{binding.argument}'
      instead = ['/'.join(filter(None, [scope, bound])) for scope in scopes]
      return (
        f' Nobody reads it in its scope: in place of {binding.name}, bind'
        f' {_either(instead)}.'
      )
  return ''
