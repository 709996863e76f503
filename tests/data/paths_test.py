import builtins
import functools
import gzip
import hashlib
import pathlib
import sys

import pytest

from dap.data import formats, paths
from dap.data.readers import JsonlFiles
from dap.data.sources import Formatted
from dap.data.vocabulary import SentencePiece
from dap.errors import InputError

FIXTURES = pathlib.Path(__file__).parents[1] / 'fixtures' / 'data'
PAIRS = str(FIXTURES / 'pairs.jsonl')


def in_memory(name, content):
  fsspec = pytest.importorskip('fsspec', reason='a filesystem of fsspec')
  path = f'memory://dap/{name}'
  with fsspec.open(path, 'wb') as file:
    file.write(content)
  return path


@pytest.mark.parametrize(
  'pack', [bytes, functools.partial(gzip.compress, mtime=0)]
)
def test_a_file_of_any_protocol_is_the_same_data(pack):
  content = pathlib.Path(PAIRS).read_bytes()
  path = in_memory('pairs.jsonl', pack(content))
  local = Formatted(JsonlFiles(PAIRS), formats.pairs)
  remote = Formatted(JsonlFiles(path), formats.pairs)
  assert remote.load('train') == local.load('train')
  packed = hashlib.sha256(pack(content)).hexdigest()
  assert paths.content_hash(path) == packed
  if pack is bytes:
    assert remote.fingerprint() == local.fingerprint()


def test_a_file_that_is_absent_in_a_protocol_is_named():
  in_memory('there', b'')
  absent = 'memory://dap/absent.jsonl'
  assert paths.exists('memory://dap/there') and not paths.exists(absent)
  with pytest.raises(InputError, match=f'{absent}: no such file'):
    Formatted(JsonlFiles(absent), formats.pairs).load('train')
  with pytest.raises(InputError, match=f'model {absent}'):
    SentencePiece(absent).fingerprint()


def test_an_unknown_protocol_is_refused_with_what_to_do():
  with pytest.raises(InputError, match='tea://a/b cannot be opened.*copy the'):
    paths.read('tea://a/b')


def test_a_bucket_without_its_library_says_what_to_install(monkeypatch):
  imported = builtins.__import__

  def without(name, *args, **kwargs):
    if name.partition('.')[0] in ('gcsfs', 's3fs'):
      raise ImportError(f'No module named {name!r}')
    return imported(name, *args, **kwargs)

  monkeypatch.setattr(builtins, '__import__', without)
  monkeypatch.delitem(sys.modules, 's3fs', raising=False)
  with pytest.raises(InputError, match='s3:// needs s3fs'):
    paths.read('s3://no-such-bucket/file')
