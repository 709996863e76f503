"""Layer 3. A prepared split: its arrays and texts, as they lie in a folder."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from dap import files, seals
from dap.data.facts import Lengths
from dap.data.pairs import Pairs
from dap.data.schema import Row
from dap.errors import InputError
from dap.stages import values

_FACTS = 'facts.json'
_CURE = 'Delete that folder; it is then made again.'


@dataclass(frozen=True, eq=False)
class Prepared:
  """A split as arrays, right-padded with 0, and its texts.

  Attributes:
    folder: where all of it is kept.
    prompt_ids: [n] from 0; rows with the same prompt have the same.
    prompts: [n, prompt_length] ids; the ends of prompts that were too long.
    responses: [n, response_length] ids by key of the rows: chosen and
      rejected, or response.
    shares: [n] `chosen_share` of the rows, where they have one.
    counts: rows and responses read, long_responses, cut_responses; rows
      left_out, and for which other reasons (mistakes, by kind; same_cut;
      repeats_left_out); examples left; cut_prompts, tokens, unknown and
      doubtful_scores of these; responses with no_end though they are not cut;
      prompts that differ, and how many stand in `train` (prompts_in_train) or
      are another text with the same ids (merged_prompts). Of an
      `EncodedSource` nothing is known to be long or cut, only what fills its
      limit: full_responses, full_prompts.
    report: the counts and the rule in a few sentences, for people.
    lengths: of prompts and responses before they are cut, responses with their
      end: which length so many percent do not exceed.
    content: a hash of all arrays and texts.
  """

  folder: str
  prompt_ids: Int[np.ndarray, ' n']
  prompts: Int[np.ndarray, 'n prompt_length']
  responses: dict[str, Int[np.ndarray, 'n response_length']]
  counts: dict[str, int]
  report: str
  lengths: Lengths = field(default_factory=dict)
  content: str = ''
  shares: Float[np.ndarray, ' n'] | None = None

  def __len__(self) -> int:
    return len(self.prompts)

  def row(self, index: int) -> Row:
    """The row as the source gave it, texts and other keys; read when asked."""
    starts = np.load(Path(self.folder, 'row_starts.npy'), mmap_mode='r')
    with open(Path(self.folder, 'rows.jsonl'), 'rb') as file:
      file.seek(int(starts[index]))
      return json.loads(file.readline())

  def rows(self) -> Iterator[Row]:
    """All rows in order, read as they are asked for."""
    with open(Path(self.folder, 'rows.jsonl'), 'rb') as file:
      yield from map(json.loads, file)

  def pairs(self, first_prompt_id: int = 0) -> Pairs:
    """The columns as pairs; prompts are numbered from `first_prompt_id`."""
    return Pairs(
      self.prompt_ids + first_prompt_id,
      self.prompts,
      self.responses['chosen'],
      self.responses['rejected'],
      shares=self.shares,
    )


def seal(folder: Path) -> None:
  """Seals all that `array_writer.write_rows` left in a folder."""
  facts = files.read_json(folder / _FACTS)
  sealed = seals.of_folder(folder, skip=[_FACTS])
  seals.write_json(folder / _FACTS, {**facts, 'files': sealed})


def opened(folder: Path) -> Prepared:
  """A split that `arrays.prepare` wrote, held against its seals.

  Raises:
    InputError: a file of it is missing or damaged.
  """
  facts = seals.read_json(folder / _FACTS, _CURE)
  seals.check_all(folder, facts['files'], _CURE)
  return read(folder)


def read(folder: Path) -> Prepared:
  """A split whose files are known to be whole: they are not hashed.

  Raises:
    InputError: a file of it is missing or damaged.
  """
  facts = seals.read_json(folder / _FACTS, _CURE)
  try:
    columns = {
      name: np.load(folder / f'{name}.npy', mmap_mode='r')
      for name in ('prompt_ids', 'prompts', *facts['responses'])
    }
    shares = None
    if facts.get('shares'):
      shares = np.load(folder / 'shares.npy', mmap_mode='r')
  except (OSError, ValueError, KeyError) as error:
    raise InputError(
      f'The prepared data in {folder} is damaged ({error}). {_CURE}'
    ) from error
  return Prepared(
    str(folder),
    columns.pop('prompt_ids'),
    columns.pop('prompts'),
    columns,
    facts['counts'],
    facts['report'],
    facts['lengths'],
    values.digest(facts['files']),
    shares,
  )
