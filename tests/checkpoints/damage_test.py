"""Whatever happens to its files, a checkpoint is read or refused in words."""

import pathlib
import random
import shutil

import numpy as np
import pytest
import t5x_parity as parity

from dap.checkpoints import convert, layouts
from dap.errors import InputError

CASES = 25
HF = pathlib.Path(__file__).parents[1] / 'fixtures' / 'hf'


def damaged(content, draw):
  """The bytes after one of the accidents that bytes have."""
  place = draw.randrange(min(len(content), 4000) or 1)
  pieces = {
    'bit': bytes([content[place] ^ (1 << draw.randrange(8))]),
    'number': draw.choice([b'9999999999', b'-1', b'null', b'[]', b'1e3']),
    'lost': b'',
  }
  accident = draw.choice([*pieces, 'truncated'])
  if accident == 'truncated':
    return content[:place]
  if accident == 'number':
    digits = [i for i in range(len(content)) if 48 <= content[i] < 58]
    place = draw.choice(digits or [place])
  return content[:place] + pieces[accident] + content[place + 1 :]


@pytest.fixture(
  scope='module', params=['t5x', 't5x_orbax', 'dap', 'hf', 'hf 2']
)
def checkpoint(request, tmp_path_factory):
  folder = tmp_path_factory.mktemp('checkpoint') / 'whole'
  if request.param == 'hf 2':
    return shutil.copytree(HF / 't5_1_1', folder)
  convert.convert(str(parity.NATIVE), str(folder), request.param)
  return folder


def test_damage_is_refused_or_only_changes_numbers(checkpoint):
  whole = layouts.read_params(checkpoint)
  files = sorted(
    path
    for path in checkpoint.rglob('*')
    if path.is_file() and path.stat().st_size
  )
  draw = random.Random(0)
  refused = 0
  for _ in range(CASES):
    path = draw.choice(files)
    content = path.read_bytes()
    path.write_bytes(damaged(content, draw))
    try:
      contents = layouts.open_checkpoint(checkpoint)
      contents.t5_config()
      found = layouts.read_params(checkpoint)
      assert found.keys() == whole.keys()
      embedding = found['token_embedder']['embedding']
      assert embedding.dtype == np.float32
    except InputError:
      refused += 1
    finally:
      path.write_bytes(content)
  assert refused


def test_what_is_cut_short_is_refused(checkpoint):
  files = [path for path in checkpoint.rglob('*') if path.is_file()]
  largest = max(files, key=lambda path: path.stat().st_size)
  content = largest.read_bytes()
  largest.write_bytes(content[: len(content) // 2])
  try:
    with pytest.raises(InputError):
      layouts.read_params(checkpoint)
  finally:
    largest.write_bytes(content)
