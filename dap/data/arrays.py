"""Layer 3. Texts as arrays: tokenised once, mapped from disk, cut in batches.

`prepare` writes a split as memory-mapped int32 arrays into a folder named by
what went into them, so that the same data is tokenised once. Batches are
global, and a pure function of (seed, step): a restart repeats them.
"""

import shutil
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Protocol, runtime_checkable

import jax
import numpy as np
from jaxtyping import Float, Int, PyTree, Shaped

from dap import disks, files
from dap.data import checks, prepared, sources
from dap.data.array_writer import (
  Encoded,
  LongResponses,
  encode,
  qualified_name,
  write_rows,
)
from dap.data.facts import Report, cut_report, given_report
from dap.data.prepared import Prepared
from dap.data.sources import Source
from dap.data.vocabulary import Vocabulary
from dap.errors import InputError
from dap.records import END
from dap.stages import modules, values


@runtime_checkable
class EncodedSource(Source, Protocol):
  """A source with token ids of its own, which are kept as they are."""

  def encoded(
    self, split: str, vocabulary: Vocabulary, lengths: tuple[int, int]
  ) -> Iterator[Encoded]:
    """The rows with their ids, cut to `lengths` of prompts and of responses."""
    ...


# Takes the ids of a prompt as its source gives them, gives those to train on.
PromptForm = Callable[[list[int]], list[int]]


def as_given(ids: list[int]) -> list[int]:
  """Prompts as their source has them: texts have no end."""
  return ids


def with_end(ids: list[int]) -> list[int]:
  """Prompts that end with the end id, as T5's pretraining has its inputs."""
  return ids if ids[-1:] == [END] else [*ids, END]


def without_end(ids: list[int]) -> list[int]:
  """Prompts without an end id, also where their source puts one."""
  return ids[:-1] if ids[-1:] == [END] else ids


def trim(ids: list[int], limit: int) -> list[int] | None:
  """Cuts what is over the limit: a cut response has no end."""
  return ids[:limit]


def drop(ids: list[int], limit: int) -> list[int] | None:
  """Leaves the whole example out."""
  del ids, limit
  return None


def refuse(ids: list[int], limit: int) -> list[int] | None:
  """Stops at the first response over the limit."""
  raise InputError(
    f'No response may be longer than {limit} tokens, its end included; one has'
    f' {len(ids)}. Raise the response length, or choose the rule trim or drop.'
  )


def prepare(
  source: Source,
  split: str,
  vocabulary: Vocabulary,
  *,
  prompt_length: int,
  response_length: int,
  cache_dir: str,
  long_responses: LongResponses = trim,
  prompt_form: PromptForm = as_given,
  train: Callable[[], Prepared] | None = None,
  repeats: checks.Repeats = checks.keep_repeated,
) -> Prepared:
  """Tokenise a split, or find it tokenised already.

  A response is its ids and the end, 1; one over the limit is for
  `long_responses` to treat. A prompt over the limit loses its beginning. An
  `EncodedSource` brings its ids and has cut them, so that its rule is `trim`
  and what was cut is not counted. What is wrong with ids is for the source's
  `mistakes` to treat (`dap/data/checks.py`), `refuse` where it has none.
  Several processes may prepare the same split at once.

  Args:
    source: rows of pairs or of targets; a split may be empty.
    split: 'train', 'test' or 'stress'.
    vocabulary: text to ids, without end.
    prompt_length: most tokens of a prompt.
    response_length: most tokens of a response, its end included.
    cache_dir: folder for the arrays of all splits; made when missing.
    long_responses: `trim`, `drop`, `refuse`, or another such function.
    prompt_form: `as_given`, `with_end`, `without_end`, or another such
      function; an end counts in `prompt_length`.
    train: gives `train` at the same lengths, whose prompts are looked for among
      these; None where they are not.
    repeats: what becomes of the rows whose prompt stands there.

  Raises:
    InputError: the data has a mistake, a response is refused, no example is
      left, the rule is not for such a source, or the folder cannot be written;
      nothing half-written stays.
  """
  lengths = prompt_length, response_length
  _check(lengths, source, long_responses)
  forms = long_responses, prompt_form
  choices = _mistakes(source), train and repeats
  digest = _digest(source, split, vocabulary, lengths, forms, choices)
  folder = Path(cache_dir, f'{split}-{digest}')
  if folder.parent.is_dir():
    files.sweep(folder.parent, f'.{split}-')
  if folder.exists():
    return prepared.opened(folder)
  before: Counter[str] = Counter()
  given, report = _examples(source, split, vocabulary, lengths, before)
  examples = (each._replace(prompt=prompt_form(each.prompt)) for each in given)
  rules = checks.Rules(
    _mistakes(source),
    getattr(source, 'keeps_same', checks.no_pair),
    vocabulary.size,
    response_length,
    repeats,
    _prompt_keys(train),
    before,
  )

  def write(place: Path) -> None:
    write_rows(place, examples, lengths, long_responses, report, rules)

  return _written(folder, f'.{split}-', write)


def _digest(
  source: Source,
  split: str,
  vocabulary: Vocabulary,
  lengths: tuple[int, int],
  forms: tuple[LongResponses, PromptForm],
  choices: tuple[object, ...],
) -> str:
  """Names all that the arrays of a split are made of, code too."""
  content = [source.fingerprint(), vocabulary.fingerprint()]
  content += [form for form in forms if form is not as_given]
  read = modules.reached(
    ['dap.data.array_writer', *modules.of_values(source, vocabulary, *choices)]
  )
  return values.digest((read, split, lengths, tuple(content), choices))


def _written(
  folder: Path, prefix: str, write: Callable[[Path], None]
) -> Prepared:
  """What `write` leaves in a folder that appears whole.

  It is made beside it under a name with `prefix`. What this process wrote and
  sealed it does not hash again.
  """
  aside = folder.with_name(f'{prefix}{files.writer()}-{uuid.uuid4().hex}')
  try:
    with disks.explained(folder):
      aside.mkdir(parents=True)
      write(aside)
      prepared.seal(aside)
    try:
      files.publish_folder(aside, folder)
    except (OSError, InputError):
      if not folder.exists():
        raise
      return prepared.opened(folder)  # another process was first
  finally:
    shutil.rmtree(aside, ignore_errors=True)
  return prepared.read(folder)


def _mistakes(source: Source) -> sources.Mistakes:
  """What treats ids that are wrong."""
  return getattr(source, 'mistakes', sources.refuse)


def _check(
  lengths: tuple[int, int], source: Source, rule: LongResponses
) -> None:
  if min(lengths) < 1:
    prompt_length, response_length = lengths
    raise InputError(
      'Prompts and responses need room for at least one token; got'
      f' prompt_length {prompt_length}, response_length {response_length}.'
    )
  if isinstance(source, EncodedSource) and rule is not trim:
    raise InputError(
      'Responses with ids of their own are cut before they are read, so that'
      f' their rule is trim; got {qualified_name(rule)}. Choose trim, or read'
      ' the texts by another route, such as gin/data/readers/jsonl.gin.'
    )


def _examples(
  source: Source,
  split: str,
  vocabulary: Vocabulary,
  lengths: tuple[int, int],
  counts: Counter[str],
) -> tuple[Iterator[Encoded], Report]:
  """The rows with their ids, and how to report of what was cut."""
  if isinstance(source, EncodedSource):
    return source.encoded(split, vocabulary, lengths), given_report
  return encode(sources.placed(source, split, counts), vocabulary), cut_report


def _prompt_keys(train: Callable[[], Prepared] | None) -> frozenset[bytes]:
  """What names each prompt of `train`."""
  if train is None:
    return frozenset()
  return frozenset(map(checks.prompt_key, train().prompts))


def in_order(
  num_examples: int, batch_size: int, seed: int, step: int
) -> Int[np.ndarray, ' batch']:
  """Rows of a batch as they lie, epoch after epoch; `seed` is not used."""
  del seed
  rows = np.arange(step * batch_size, (step + 1) * batch_size, dtype=np.int64)
  return rows % num_examples


def batch_indices(
  num_examples: int, batch_size: int, seed: int, step: int
) -> Int[np.ndarray, ' batch']:
  """Rows of a batch: each epoch is a permutation of its own.

  Epochs follow each other without a gap, so every batch is full and one may
  hold rows of two epochs.
  """
  rows = in_order(num_examples, batch_size, seed, step)
  epochs = np.arange(step * batch_size, (step + 1) * batch_size) // num_examples
  for epoch in np.unique(epochs):
    here = epochs == epoch
    rows[here] = _permutation(num_examples, seed, int(epoch))[rows[here]]
  return rows


@lru_cache(4)
def _permutation(num_examples: int, seed: int, epoch: int) -> np.ndarray:
  bits = np.random.Philox(np.random.SeedSequence([seed, epoch]))
  permutation = np.random.Generator(bits).permutation(num_examples)
  permutation.flags.writeable = False
  return permutation


def epoch_batches(
  num_examples: int, batch_size: int
) -> Iterator[tuple[Int[np.ndarray, ' batch'], Float[np.ndarray, ' batch']]]:
  """All rows once, in order: (rows, weight), every batch of the same size.

  The last is filled up with row 0 at weight 0.
  """
  for start in range(0, num_examples, batch_size):
    rows = np.arange(start, start + batch_size, dtype=np.int64)
    inside = rows < num_examples
    yield np.where(inside, rows, 0), inside.astype(np.float32)


def global_batch(
  batch: PyTree[Shaped[np.ndarray, 'batch ...']],
  sharding: jax.sharding.Sharding,
) -> PyTree[Shaped[jax.Array, 'batch ...']]:
  """Places a batch on the devices of a mesh.

  Every process has the whole batch, as rows of a batch depend on seed and step
  alone, and hands over what its own devices hold.
  """
  return jax.tree.map(
    lambda array: jax.make_array_from_process_local_data(
      sharding, np.asarray(array), np.shape(array)
    ),
    batch,
  )
