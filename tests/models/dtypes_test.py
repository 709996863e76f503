import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import refusals
import tiny
import tiny_commands

from dap import errors
from dap.models import dtypes, t5

FLOAT32 = ['float32', 'f32', 'FP32', 'float', ' single', jnp.float32, float]
BFLOAT16 = ['bfloat16', 'bf16', 'BF16', 'torch.bfloat16', jnp.bfloat16]
NONE = ['float16', 'half', 'fp16', 'jnp.float16', np.float16, jnp.float16]
NONE += [np.dtype('<f2'), 'float64', float.__name__ + '8', 'int8', '', None, 32]


def test_all_spellings_of_a_dtype_are_one_name():
  for word in [
    *FLOAT32,
    np.dtype('float32'),
    np.float32(1).dtype,
    'np.float32',
  ]:
    assert dtypes.name_of(word) == 'float32', word
  for word in [*BFLOAT16, jnp.dtype('bfloat16')]:
    assert dtypes.name_of(word) == 'bfloat16', word


@pytest.mark.parametrize('word', NONE, ids=str)
def test_other_dtypes_are_refused_with_bfloat16_named(word):
  with pytest.raises(
    errors.InputError, match="float32 or bfloat16.*'bfloat16'"
  ):
    dataclasses.replace(tiny.CONFIG, dtype=word)


def test_a_model_is_the_same_however_its_dtype_is_spelt():
  one, other = (
    dataclasses.replace(tiny.CONFIG, dtype=x) for x in ('bf16', jnp.bfloat16)
  )
  assert one == other and hash(one) == hash(other)
  shape = jax.eval_shape(t5.T5(one).init, jax.random.key(0))
  assert {leaf.dtype for leaf in jax.tree.leaves(shape)} == {jnp.dtype('f4')}


def test_float16_lies_outside_what_a_mask_needs():
  assert jnp.finfo('float16').min > -1e10 > jnp.finfo('bfloat16').min


@pytest.mark.parametrize('command', ['train', 'sample', 'evaluate'])
def test_every_command_refuses_float16_when_it_reads(command, tmp_path, capsys):
  paths = ('REFERENCE', 'OPPONENT', 'GOLDEN', 'PROXY')
  more = [f'--gin.{p}_CHECKPOINT_PATH="x"' for p in paths]
  more = ['--gin_file=gin/commands/evaluate.gin', *more]
  words = tiny_commands.argv(
    command,
    'sft',
    tmp_path / 'out',
    *(more if command == 'evaluate' else []),
    **{'t5.T5Config.dtype': 'half'},
  )
  said = refusals.refused(capsys, words)
  assert 'float16 reaches 65,504' in said and "'bfloat16'" in said
  assert not (tmp_path / 'out').exists()


def test_convert_refuses_float16_too(tmp_path, capsys):
  words = ['convert', 'absent', str(tmp_path / 'out'), '--to=hf']
  said = refusals.refused(capsys, [*words, '--dtype=fp16'])
  assert '--dtype is float32 or bfloat16' in said and 'bfloat16 is as' in said
