import dataclasses
import enum
import functools
import logging
import os
import pathlib
import re
import subprocess
import sys
import textwrap
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dap import losses
from dap.errors import InputError
from dap.stages import values

ROOT = str(pathlib.Path(__file__).parents[2])


class Colour(enum.Enum):
  RED = 1


class Two(NamedTuple):
  left: Any
  right: Any


@dataclasses.dataclass(frozen=True)
class Choice:
  loss: Any = losses.ipo_loss
  beta: float = 0.1
  cache: int = dataclasses.field(default=0, compare=False)


@dataclasses.dataclass(frozen=True)
class FromFile:
  path: str

  def fingerprint(self):
    return pathlib.Path(self.path).read_text()


@dataclasses.dataclass
class Mutable:
  beta: float = 0.1


def scaled(x, scale=2.0):
  return x * scale


def closed_over(value):
  return lambda x: x + value


DIFFERENT = {
  'none': None,
  'false': False,
  'zero': 0,
  'zero_point_zero': 0.0,
  'minus_zero': -0.0,
  'nan': float('nan'),
  'infinity': float('inf'),
  'word': '0',
  'empty_tuple': (),
  'nested': ((), ()),
  'bytes': b'0',
  'pattern': re.compile('0'),
  'other_pattern': re.compile('0', re.ASCII),
  'pattern_of_bytes': re.compile(b'0'),
  'logger': logging.getLogger('0'),
  'set': frozenset({1, 2}),
  'dict': {'a': 1},
  'dict_of_int': {1: 'a'},
  'dollar': {'$float': 'nan'},
  'enum': Colour.RED,
  'dtype': np.dtype('float32'),
  'other_dtype': jnp.bfloat16,
  'array': np.arange(3.0),
  'other_array': np.arange(3.0)[::-1],
  'array_of_int': np.arange(3),
  'numpy_scalar': np.float32(0.1),
  'key': jax.random.key(0),
  'other_key': jax.random.key(1),
  'pair': Two(1, 2),
  'swapped': Two(2, 1),
  'choice': Choice(),
  'other_beta': Choice(beta=0.2),
  'other_loss': Choice(loss=losses.dpo_loss),
  'function': losses.ipo_loss,
  'partial': functools.partial(losses.ipo_loss, beta=0.1),
  'other_partial': functools.partial(losses.ipo_loss, beta=0.2),
  'closure': closed_over(1),
  'other_closure': closed_over(2),
  'own': scaled,
  'class': Choice,
  'method': Two(1, 2).count,
  'builtin': len,
  'ufunc': np.exp,
  'optimizer': optax.adam(1e-3),
  'other_optimizer': optax.adam(2e-3),
  'schedule': optax.chain(
    optax.clip_by_global_norm(1.0),
    optax.adamw(optax.warmup_cosine_decay_schedule(0.0, 1e-3, 10, 100)),
  ),
}


def digests():
  return {name: values.digest(value) for name, value in DIFFERENT.items()}


def test_different_values_have_different_names():
  names = digests()
  assert len(set(names.values())) == len(names)
  assert all(len(name) == 16 for name in names.values())


def test_names_are_the_same_in_processes_with_other_hash_seeds():
  program = (
    f'import json, {__name__} as test; print(json.dumps(test.digests()))'
  )
  printed = [
    subprocess.run(
      [sys.executable, '-c', program],
      env={
        **os.environ,
        'PYTHONHASHSEED': seed,
        'PYTHONPATH': os.pathsep.join([ROOT, *sys.path]),
      },
      check=True,
      capture_output=True,
      text=True,
    ).stdout
    for seed in ('1', '2')
  ]
  assert printed[0] == printed[1]


def test_equal_values_have_one_name():
  assert values.digest(Choice()) == values.digest(Choice(cache=7))
  assert values.digest({'a': 1, 'b': 2}) == values.digest({'b': 2, 'a': 1})
  assert values.digest(jnp.ones(2)) == values.digest(np.ones(2, np.float32))
  assert values.digest(jnp.float32) == values.digest(np.dtype('float32'))
  jitted = jax.jit(losses.ipo_loss)
  assert values.digest(jitted) == values.digest(losses.ipo_loss)


def test_a_value_is_described_by_its_parts():
  described = values.describe(Two(1, (np.dtype('int32'), FromFile(__file__))))
  assert described['left'] == 1
  assert described['right'][0] == {'$dtype': 'int32'}
  assert described['right'][1]['fingerprint'].startswith('import dataclasses')


def defined(text, **names):
  """The function `loss` of a user's own text, as in a notebook cell."""
  space = {'__name__': '__main__', **names}
  exec(textwrap.dedent(text), space)
  return space['loss']


LOSS = """
  MARGIN = 1.0
  def helper(x):
    return x * MARGIN
  def loss(x, beta=0.1):
    return beta * helper(x)
"""


@pytest.mark.parametrize(
  ('old', 'new'),
  [
    ('beta * helper', 'beta + helper'),
    ('x * MARGIN', 'x / MARGIN'),
    ('MARGIN = 1.0', 'MARGIN = 2.0'),
    ('beta=0.1', 'beta=0.2'),
  ],
)
def test_an_edit_of_what_a_loss_reads_changes_its_name(old, new):
  before, after = defined(LOSS), defined(LOSS.replace(old, new))
  assert values.digest(before) == values.digest(defined(LOSS))
  assert values.digest(before) != values.digest(after)


def test_comments_and_docstrings_do_not_change_a_name(tmp_path, monkeypatch):
  plain = 'def loss(x):\n  return x\n'
  commented = 'def loss(x):\n  """Doc."""\n  # why\n  return (x)\n'
  monkeypatch.syspath_prepend(tmp_path)
  sources = []
  for name, text in (('plain', plain), ('commented', commented)):
    (tmp_path / f'{name}.py').write_text(text)
    module = __import__(name)
    sources.append(values.describe(module.loss)['source'])
  assert sources[0] == sources[1]


def test_a_function_that_calls_itself_has_a_name():
  text = 'def loss(n):\n  return n and loss(n - 1)\n'
  assert values.digest(defined(text)) == values.digest(defined(text))


@pytest.mark.parametrize(
  ('value', 'message'),
  [
    (Two(pathlib.Path('/data'), 1), r'\.left is the path /data.*fingerprint'),
    ({'loss': [Mutable()]}, r"\['loss'\]\[0\] is a .*Mutable.*frozen=True"),
    ((1, object()), r'\[1\] is a builtins.object, which has no content'),
    (np.array([object()]), 'an array of objects'),
  ],
)
def test_what_could_hide_a_difference_is_refused(value, message):
  with pytest.raises(InputError, match=message):
    values.digest(value)


def test_a_loss_that_reads_an_opaque_global_is_refused():
  text = 'def loss(x):\n  return model(x)\n'
  with pytest.raises(InputError, match='in __main__.loss: model is a .*object'):
    values.digest(defined(text, model=object()))
