"""Layer 3. Pairs as arrays: what every way of training reads its rows from."""

import dataclasses
import pathlib

import numpy as np

from dap import errors, files
from dap.records import PADDING, Batch, Pair, Prompts, Responses


@dataclasses.dataclass(frozen=True, eq=False)
class Pairs:
  """Tokenised pairs, host arrays (possibly memory-mapped), right-padded.

  Attributes:
    prompt_ids: [n] numbers that name a prompt across data sets of a study.
    prompts: [n, prompt_length] token ids.
    chosen: [n, length] token ids.
    rejected: [n, length]; all padding where there is none.
    weight: [n] 0 for rows that must not count; None for ones.
    reference_chosen: [n, length] nats under the reference, None until known.
    reference_rejected: likewise.
    shares: [n] share of the votes for the chosen response; None where the
      labels are one voter's.
  """

  prompt_ids: np.ndarray
  prompts: np.ndarray
  chosen: np.ndarray
  rejected: np.ndarray
  weight: np.ndarray | None = None
  reference_chosen: np.ndarray | None = None
  reference_rejected: np.ndarray | None = None
  shares: np.ndarray | None = None

  def __len__(self) -> int:
    return len(self.prompts)

  @property
  def known(self) -> tuple[str, ...]:
    """Columns that a batch has already."""
    given = {'reference': self.reference_chosen, 'shares': self.shares}
    return tuple(name for name, each in given.items() if each is not None)

  @property
  def scored(self) -> bool:
    """Pairs are in order, and have no scores."""
    return False

  @property
  def prompt_length(self) -> int:
    """Tokens of a prompt, padding included."""
    return self.prompts.shape[1]

  def batch(self, rows: np.ndarray) -> Batch:
    """The batch of these rows: groups of two, chosen first."""
    tokens = np.stack([self.chosen[rows], self.rejected[rows]], axis=1)
    mask = (tokens > PADDING).astype(np.float32)
    weight = np.ones(len(rows), np.float32)
    if self.weight is not None:
      weight = self.weight[rows].astype(np.float32)
    columns = {}
    if self.reference_chosen is not None:
      both = [side[rows] for side in self.reference]
      columns['reference'] = np.stack(both, axis=1)
    if self.shares is not None:
      share = self.shares[rows].astype(np.float32)
      columns['shares'] = np.stack([share, 1 - share], axis=1)
    zeros = np.zeros(mask.shape, np.float32)
    return Batch(
      Prompts(self.prompt_ids[rows].astype(np.int32), self.prompts[rows]),
      Responses(tokens, mask, zeros),
      zeros[:, :, 0],
      weight,
      columns,
    )

  def take(self, rows: np.ndarray | slice) -> 'Pairs':
    """A data set of these rows."""
    columns = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
    taken = {name: c[rows] for name, c in columns.items() if c is not None}
    return dataclasses.replace(self, **taken)

  @property
  def reference(self) -> Pair[np.ndarray]:
    """The reference's log-probs.

    Raises:
      ValueError: they are not known yet.
    """
    if self.reference_chosen is None or self.reference_rejected is None:
      raise ValueError(
        'These pairs need reference log-probs, they have none. Call'
        ' collectors.with_reference first.'
      )
    return Pair(self.reference_chosen, self.reference_rejected)

  def with_reference(self, reference: Pair[np.ndarray]) -> 'Pairs':
    """The same pairs with the reference's log-probs."""
    return dataclasses.replace(
      self,
      reference_chosen=reference.chosen,
      reference_rejected=reference.rejected,
    )

  def relabelled(
    self, chosen_stays: np.ndarray, keep: np.ndarray | None = None
  ) -> 'Pairs':
    """The same responses under other labels, one voter's; `keep` drops ties."""
    stays = np.asarray(chosen_stays, bool)[:, None]
    swapped = dataclasses.replace(
      self,
      chosen=np.where(stays, self.chosen, self.rejected),
      rejected=np.where(stays, self.rejected, self.chosen),
      reference_chosen=None,
      reference_rejected=None,
      shares=None,
    )
    return swapped if keep is None else swapped.take(np.flatnonzero(keep))

  def save(self, path: pathlib.Path) -> None:
    """Writes one .npz, atomically."""
    columns = {
      field.name: getattr(self, field.name)
      for field in dataclasses.fields(self)
      if getattr(self, field.name) is not None
    }
    files.write_arrays(path, columns)


def concatenate(*parts: Pairs) -> Pairs:
  """All rows of the parts, in order; references are dropped.

  Where one part has shares of votes, labels of the others are whole votes.
  """
  names = ('prompt_ids', 'prompts', 'chosen', 'rejected')
  shares = None
  if any(part.shares is not None for part in parts):
    shares = np.concatenate(
      [np.ones(len(p)) if p.shares is None else p.shares for p in parts]
    )
  return Pairs(
    *(
      np.concatenate([getattr(part, name) for part in parts]) for name in names
    ),
    shares=shares,
  )


def load(path: pathlib.Path) -> Pairs:
  """What `Pairs.save` wrote.

  Raises:
    errors.InputError: there is no such file, or it is not one of ours.
  """
  try:
    return Pairs(**files.read_arrays(path))
  except (ValueError, TypeError) as error:
    raise errors.InputError(
      f'Pairs are an .npz that a study wrote; {path} cannot be read ({error}).'
    ) from error
