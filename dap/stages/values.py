"""Layer 0. Configuration values in readable form, and a name made of it.

What configuration holds is values: numbers, words, frozen dataclasses, tuples,
functions, arrays. `describe` writes one as JSON that is the same in every
process; `digest` hashes that. Two values with one digest do the same work, so
whatever could hide a difference (a path, a mutable object) is refused.
"""

import dataclasses
import enum
import functools
import hashlib
import importlib
import inspect
import json
import logging
import math
import pathlib
import re
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import ClassVar, Protocol, runtime_checkable

import numpy as np

from dap.errors import InputError
from dap.stages import code


def digest(value: object) -> str:
  """16 hexadecimal characters of the SHA-256 of `describe(value)`."""
  return code.sha256(canonical(describe(value)))


def canonical(description: object) -> str:
  """JSON in one spelling: no spaces, keys in order, ASCII."""
  return json.dumps(
    description, sort_keys=True, separators=(',', ':'), allow_nan=False
  )


def describe(value: object) -> object:
  """What a value is, as JSON: its parts all the way down.

  A value with a `fingerprint()` method is described by that instead of by its
  fields; a function by its name, a hash of its text without comments and
  docstring, and what it closes over. A function or class of the user's own
  (neither of this package nor of an installed one) also by the defaults and
  globals that it reads.

  Raises:
    InputError: for a path, whose content is not its name, and for an object
      that has no content to tell it by.
  """
  return _describe(value, '', frozenset())


def _describe(value: object, where: str, seen: frozenset[str]) -> object:
  """`where` is the path from the root, for messages; `seen` the functions."""
  if value is None or isinstance(value, bool | str) or type(value) is int:
    return value
  if isinstance(value, enum.Enum):
    return {'$enum': f'{code.name(type(value))}.{value.name}'}
  if type(value) is float:
    return value if math.isfinite(value) else {'$float': repr(value)}
  if isinstance(value, pathlib.PurePath):
    raise InputError(
      f'{where or "the value"} is the path {value}: results are named by the'
      ' content of files, not by where they lie. Give a value whose'
      ' fingerprint() hashes the content.'
    )
  for test, form in _FORMS:
    if test(value):
      return form(value, where, seen)
  if code.lookup(value) is value:
    return {'$object': code.name(value)}
  raise InputError(
    f'{where or "the value"} is a {code.name(type(value))}, which has no'
    ' content to name results by. Use a frozen dataclass of numbers, words and'
    ' functions, or give it a fingerprint() method.'
  )


@runtime_checkable
class _Fingerprinted(Protocol):
  def fingerprint(self) -> object: ...


@runtime_checkable
class _Array(Protocol):
  @property
  def dtype(self) -> object: ...

  def __array__(self) -> np.ndarray: ...


class _Params(Protocol):
  frozen: bool


@runtime_checkable
class _Dataclass(Protocol):
  __dataclass_fields__: ClassVar[dict[str, dataclasses.Field]]
  __dataclass_params__: ClassVar[_Params]


@runtime_checkable
class _NamedTuple(Protocol):
  @property
  def _fields(self) -> tuple[str, ...]: ...

  def __iter__(self) -> Iterator[object]: ...


def _fingerprinted(
  value: _Fingerprinted, where: str, seen: frozenset[str]
) -> object:
  return {
    '$type': code.name(type(value)),
    'fingerprint': str(value.fingerprint()),
  }


def _dtype(value: type | np.dtype, where: str, seen: frozenset[str]) -> object:
  return {'$dtype': np.dtype(value).name}


def _array(value: _Array, where: str, seen: frozenset[str]) -> object:
  if str(value.dtype).startswith('key<'):
    key_data = importlib.import_module('jax').random.key_data(value)
    return {'$key': str(value.dtype), 'data': np.asarray(key_data).tolist()}
  array = np.ascontiguousarray(value)
  if array.dtype.hasobject:
    raise InputError(f'{where} is an array of objects: use numbers.')
  content = hashlib.sha256(array.tobytes()).hexdigest()[:16]
  shape = list(np.shape(value))
  return {'$array': content, 'dtype': array.dtype.name, 'shape': shape}


def _dataclass(value: _Dataclass, where: str, seen: frozenset[str]) -> object:
  kind = type(value)
  if not kind.__dataclass_params__.frozen:
    raise InputError(
      f'{where or "the value"} is a {code.name(kind)}, which can change'
      ' after it has named results: make it @dataclass(frozen=True).'
    )
  parts = {
    field.name: _describe(
      getattr(value, field.name), f'{where}.{field.name}', seen
    )
    for field in dataclasses.fields(value)
    if field.compare
  }
  return {**_type(kind, where, seen), **parts}


def _named_tuple(
  value: _NamedTuple, where: str, seen: frozenset[str]
) -> object:
  parts = {
    name: _describe(part, f'{where}.{name}', seen)
    for name, part in zip(value._fields, value, strict=True)
  }
  return {**_type(type(value), where, seen), **parts}


def _type(kind: type, where: str, seen: frozenset[str]) -> dict[str, object]:
  if code.is_library(kind):
    return {'$type': code.name(kind)}
  described = _class(kind, where, seen)
  return {'$type': code.name(kind), '$code': described.get('members', '')}


def _sequence(
  value: Iterable[object], where: str, seen: frozenset[str]
) -> list[object]:
  return [
    _describe(part, f'{where}[{index}]', seen)
    for index, part in enumerate(value)
  ]


def _set(value: Iterable[object], where: str, seen: frozenset[str]) -> object:
  return {'$set': sorted(_sequence(value, where, seen), key=canonical)}


def _mapping(value: Mapping, where: str, seen: frozenset[str]) -> object:
  items = [
    (name, _describe(part, f'{where}[{name!r}]', seen))
    for name, part in value.items()
  ]
  if all(type(name) is str and not name.startswith('$') for name, _ in items):
    return dict(items)
  pairs = [[_describe(name, where, seen), part] for name, part in items]
  return {'$dict': sorted(pairs, key=canonical)}


def _bytes(value: bytes, where: str, seen: frozenset[str]) -> object:
  return {'$bytes': hashlib.sha256(value).hexdigest()[:16]}


def _pattern(value: re.Pattern, where: str, seen: frozenset[str]) -> object:
  pattern = _describe(value.pattern, where, seen)  # a text or bytes
  return {'$pattern': pattern, 'flags': value.flags}


def _logger(value: logging.Logger, where: str, seen: frozenset[str]) -> object:
  return {'$logger': value.name}  # what is said changes no result


def _partial(
  value: functools.partial, where: str, seen: frozenset[str]
) -> object:
  return {
    '$partial': _describe(value.func, where, seen),
    'args': _sequence(value.args, where, seen),
    'keywords': _mapping(value.keywords, where, seen),
  }


def _method(
  value: types.MethodType, where: str, seen: frozenset[str]
) -> object:
  owner = _describe(value.__self__, where, seen)
  return {'$method': value.__name__, 'of': owner}


def _function(value: Callable, where: str, seen: frozenset[str]) -> object:
  function = inspect.unwrap(value)
  name = code.name(function)
  described = {'$function': name}
  if name in seen or getattr(function, '__code__', None) is None:
    return described
  described['source'] = code.text_hash(function.__code__)
  reads = code.cells(function)
  if not code.is_library(function):
    reads |= code.defaults(function) | code.globals_read(function)
  within = f'{where or "the value"}, in {name}'
  parts = {
    label: _describe(part, f'{within}: {label}', seen | {name})
    for label, part in reads.items()
  }
  return {**described, **({'reads': parts} if parts else {})}


def _class(value: type, where: str, seen: frozenset[str]) -> dict[str, object]:
  own = code.name(value)
  described: dict[str, object] = {'$class': own}
  if code.is_library(value) or own in seen:
    return described
  seen = seen | {own}
  members = {
    f'{code.name(kind)}.{name}': _describe(member, f'{where}.{name}', seen)
    for kind in value.__mro__
    if not code.is_library(kind)
    for name, member in code.members(kind).items()
  }
  return {**described, **({'members': members} if members else {})}


def _is_dtype(value: object) -> bool:
  if isinstance(value, np.dtype):
    return True
  if not inspect.isclass(value):
    return False
  return issubclass(value, np.generic) or isinstance(
    getattr(value, 'dtype', None), np.dtype
  )


# The first test that holds decides.
_FORMS: tuple[tuple[Callable[[object], bool], Callable[..., object]], ...] = (
  (_is_dtype, _dtype),
  (inspect.isclass, _class),
  (lambda value: callable(getattr(value, 'fingerprint', None)), _fingerprinted),
  (lambda value: isinstance(value, functools.partial), _partial),
  (inspect.ismethod, _method),
  (code.is_array, _array),
  (dataclasses.is_dataclass, _dataclass),
  (lambda value: isinstance(value, tuple) and hasattr(value, '_fields'),
   _named_tuple),
  (lambda value: isinstance(value, tuple | list), _sequence),
  (lambda value: isinstance(value, set | frozenset), _set),
  (lambda value: isinstance(value, Mapping), _mapping),
  (lambda value: isinstance(value, bytes), _bytes),
  (lambda value: isinstance(value, re.Pattern), _pattern),
  (lambda value: isinstance(value, logging.Logger), _logger),
  (lambda value: inspect.isroutine(value) or hasattr(value, '__wrapped__'),
   _function),
)  # fmt: skip
