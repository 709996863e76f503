"""Layer 2. The dtypes that models compute in and checkpoints are stored in.

One place knows their spellings; whoever reads a configuration asks it.
"""

from typing import Any

import numpy as np

from dap.errors import InputError

NAMES = ('float32', 'bfloat16')
Spelling = Any  # a name, a dtype, or a type such as jnp.bfloat16
_SPELLINGS = {
  'float32': ('float32', 'f32', 'fp32', 'float', 'single'),
  'bfloat16': ('bfloat16', 'bf16', 'bfloat'),
  'float16': ('float16', 'f16', 'fp16', 'half'),
  'float64': ('float64', 'f64', 'fp64', 'double'),
}
_KNOWN = {word: name for name, words in _SPELLINGS.items() for word in words}
_WHY = {
  'float16': ' float16 reaches 65,504: the mask of attention and the states of'
  ' a T5 are beyond, and all becomes no number. bfloat16 is as small and has'
  ' the range of float32.',
  'float64': ' Parameters are float32, and JAX computes no float64 here.',
}


def name_of(given: Spelling, what: str = 'A dtype') -> str:
  """The name of a dtype, one of `NAMES`, however it is spelt.

  Args:
    given: 'bf16', 'torch.bfloat16', jnp.bfloat16, np.dtype('float32'), float.
    what: it is, for the message.

  Raises:
    InputError: it is another dtype, float16 for one, or none.
  """
  name = _KNOWN.get(_word(given))
  if name in NAMES:
    return str(name)
  raise InputError(
    f'{what} is float32 or bfloat16, got {given!r}.{_WHY.get(str(name), "")}'
    " Bind 'bfloat16' or 'float32'."
  )


def _word(given: Spelling) -> str:
  if isinstance(given, str):
    word = given.strip().lower().rpartition('.')[2]
    return word.lstrip('<=')
  if given is float:
    return 'float'
  try:
    return np.dtype(given).name
  except TypeError:
    return ''
