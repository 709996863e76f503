"""Layer 5. The rows of a recorded stream: one for each example of a step.

They have all that a `Batch` holds, the columns of the loss too, and how it came
about, in fields of fixed size.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

from dap import errors
from dap.data import arrays
from dap.data.pairs import Pairs
from dap.records import PADDING, Batch, Collected, Prompts, Responses

_COLUMN = 'columns/'  # before the name of a column
_ALIASES = {  # parts of pairs by their sides, views of the same bytes
  'responses': ('chosen', 'rejected'),
  'columns/reference': ('reference_chosen', 'reference_rejected'),
}


def rows_of(collected: Collected, seed: int) -> np.ndarray:
  """A row for each example of a step, from arrays on the host."""
  batch, drawn = collected.batch, collected.drawn
  assert drawn is not None, 'only what was drawn is recorded'
  count = len(batch.weight)
  columns = {
    'step': np.full(count, collected.step, np.int32),
    'row': np.arange(count, dtype=np.int32),
    'policy_step': np.full(count, collected.policy_step, np.int32),
    'seed': np.full(count, seed, np.int64),
    'prompt_id': batch.prompts.ids,
    'prompt': batch.prompts.tokens,
    'responses': batch.responses.tokens,
    'mask': batch.responses.mask,
    'log_probs': batch.responses.log_probs,
    'scores': batch.scores,
    'weight': batch.weight,
    'candidates': drawn.candidates,
    'sampled_tokens': drawn.num_tokens,
    **{
      f'{_COLUMN}{name}': batch.columns[name] for name in sorted(batch.columns)
    },
  }
  given = {name: np.asarray(column) for name, column in columns.items()}
  dtype = np.dtype(
    [
      (name, array.dtype.newbyteorder('<'), array.shape[1:])
      for name, array in given.items()
    ]
  )
  rows = np.zeros(count, dtype)
  for name, array in given.items():
    rows[name] = array
  return rows


@dataclasses.dataclass(frozen=True, eq=False)
class Recorded:
  """A stream as rows to train on, in order of training; see `Examples`."""

  rows: np.ndarray

  def __len__(self) -> int:
    return len(self.rows)

  @property
  def known(self) -> tuple[str, ...]:
    """All columns that were recorded."""
    names = self.rows.dtype.names or ()
    return tuple(n[len(_COLUMN) :] for n in names if n.startswith(_COLUMN))

  @property
  def scored(self) -> bool:
    """What annotators said was recorded."""
    return True

  @property
  def prompt_length(self) -> int:
    """Tokens of a prompt, padding included."""
    return self.rows['prompt'].shape[1]

  @property
  def examples_of_step(self) -> int:
    """How many examples the first step had: several of a prompt, it may be."""
    return int(np.sum(self.rows['step'] == self.rows['step'][:1]))

  def batch(self, rows: np.ndarray) -> Batch:
    """These rows, as the run that recorded them had them."""
    taken = self.rows[rows]
    column = lambda name: np.ascontiguousarray(taken[name])
    return Batch(
      Prompts(column('prompt_id'), column('prompt')),
      Responses(column('responses'), column('mask'), column('log_probs')),
      column('scores'),
      column('weight'),
      {name: column(f'{_COLUMN}{name}') for name in self.known},
    )

  def pairs(self) -> Pairs:
    """The stream as pairs.

    Raises:
      errors.InputError: its groups are no pairs.
    """
    rows = self.rows
    if rows['responses'].shape[1] != 2:
      raise errors.InputError(
        'Pairs are groups of two responses; this stream has groups of'
        f' {rows["responses"].shape[1]}.'
      )
    known = 'reference' in self.known
    return Pairs(
      prompt_ids=rows['prompt_id'],
      prompts=rows['prompt'],
      chosen=rows['chosen'],
      rejected=rows['rejected'],
      weight=rows['weight'],
      reference_chosen=rows['reference_chosen'] if known else None,
      reference_rejected=rows['reference_rejected'] if known else None,
    )


def no_repetition(
  order: Callable[..., np.ndarray], batch_size: int, examples: object
) -> str:
  """Why training on a stream in its own order repeats no run, '' if it may."""
  if not isinstance(examples, Recorded) or order is not arrays.in_order:
    return ''
  count = examples.examples_of_step
  if count == batch_size:
    return ''
  return (
    f'a step of the stream has {count} examples, and one of this run'
    f' {batch_size}: it does not repeat the run that wrote the stream. Bind'
    f' BATCH_SIZE = {count} for that.'
  )


def with_sides(rows: np.ndarray) -> np.ndarray:
  """The rows of pairs with names for their sides: views of the same bytes."""
  dtype = rows.dtype
  assert dtype.names is not None and dtype.fields is not None
  fields = {name: kind[:2] for name, kind in dtype.fields.items()}
  for whole, sides in _ALIASES.items():
    kind = fields.get(whole)
    if kind is None or kind[0].shape[0] != 2:
      continue
    side = np.dtype((kind[0].base, kind[0].shape[1:]))
    for number, name in enumerate(sides):
      fields[name] = (side, kind[1] + number * side.itemsize)
  return rows.view(
    np.dtype(
      {
        'names': list(fields),
        'formats': [kind for kind, _ in fields.values()],
        'offsets': [offset for _, offset in fields.values()],
        'itemsize': dtype.itemsize,
      }
    )
  )


def of_version_1(rows: np.ndarray) -> np.ndarray:
  """Rows of version 0.3 under today's names.

  Its `policy_step` was the step itself, whatever the refresh.
  """
  tokens = np.stack([rows['chosen'], rows['rejected']], axis=1)
  reference = [rows[f'reference_{side}'] for side in ('chosen', 'rejected')]
  first = rows['first_is_chosen'] > 0
  scores = np.stack([rows['p_ab'], rows['p_ba']], axis=1)
  order = np.where(first[:, None], [[0, 1]], [[1, 0]]).astype(np.int32)
  mask = (tokens > PADDING).astype(np.float32)
  columns = {
    **{n: rows[n] for n in ('step', 'row', 'policy_step', 'seed')},
    **{n: rows[n] for n in ('prompt_id', 'prompt')},
    'responses': tokens,
    'mask': mask,
    'log_probs': np.full(tokens.shape, np.nan, np.float32),
    'scores': np.take_along_axis(scores, order, axis=1),
    'weight': rows['weight'],
    'candidates': order,
    'sampled_tokens': np.sum(mask, axis=(1, 2)).astype(np.int32),
    f'{_COLUMN}reference': np.stack(reference, axis=1),
  }
  dtype = [(n, c.dtype, c.shape[1:]) for n, c in columns.items()]
  found = np.zeros(len(rows), dtype)
  for name, column in columns.items():
    found[name] = column
  return found
