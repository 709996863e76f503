"""Layer 8. `dap convert`: a checkpoint of one layout as one of another."""

import math

from dap import disks
from dap.checkpoints import convert as conversion
from dap.checkpoints import layouts
from dap.checkpoints.layouts import Contents
from dap.models import dtypes


def convert(
  *,
  source: str,
  destination: str,
  to: str,
  dtype: str = 'float32',
  vocabulary: str = '',
  dry_run: bool = False,
) -> None:
  """Reads `source`, whatever its layout, and writes `destination`.

  Args:
    source: a checkpoint, the folder of a run, or `hf://OWNER/NAME[@REVISION]`.
    destination: a folder that does not exist.
    to: dap, t5x, t5x_orbax or hf.
    dtype: in which parameters are stored, float32 or bfloat16.
    vocabulary: SentencePiece model to put beside them, for hf.
    dry_run: print what is there and what would be written; write nothing.
  """
  dtype = dtypes.name_of(dtype, '--dtype')
  target = conversion.Target(dtype, vocabulary)
  if dry_run:
    contents = layouts.open_checkpoint(source)
    conversion.check(contents, destination, to, target)
    print(_described(contents))
    print(_tree(contents))
    print(f'would write {to} to {destination}:')
    for name in conversion.layout_of(contents, to, target):
      print(f'  {name}')
    return
  contents = conversion.convert(source, destination, to, target)
  print(_described(contents))
  print(f'wrote {to}, {dtype}: {destination}')
  for note in conversion.notes(contents, to, target):
    print(note)


def _described(contents: Contents) -> str:
  numbers = sum(math.prod(part.shape) for part in contents.parts.values())
  size = sum(part.num_bytes for part in contents.parts.values())
  return (
    f'{contents.path}: {contents.layout}, step {contents.step},'
    f' {len(contents.parts)} arrays, {numbers:,} parameters,'
    f' {disks.readable_size(size)}'
  )


def _tree(contents: Contents) -> str:
  width = max(len(name) for name in contents.parts)
  return '\n'.join(
    f'  {name:{width}}  {part.stored.dtype}  {part.shape}'
    for name, part in contents.parts.items()
  )
