"""Layer 7. The limit of a study: who judges it, and how far it is known."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dap import estimators
from dap.errors import InputError
from dap.estimators import limits
from dap.study.reading import frontiers
from dap.study.reading import runs as points_lib
from dap.study.reading.evidence import Evidence

MOST_ERROR = 0.05  # of a win rate: beyond it a limit is not known
# Of tilts by scores in units of their standard deviation.
_STRENGTHS = (0.0, *np.geomspace(0.1, 30.0, 40).tolist())

Arrays = Mapping[str, np.ndarray]


class Judge(NamedTuple):
  """Who says which samples win, and what it says of checkpoints.

  Attributes:
    name: of its array.
    words: what it is called.
    read: its wins of a checkpoint's responses, by prompt.
    samples: arrays of the measure, see `making.limit.Limit`, by seed.
  """

  name: str
  words: str
  read: frontiers.Read
  samples: Mapping[int, Arrays]

  def tilted(self, by: str = '') -> dict[int, 'Known']:
    """The limit by this judge or, `by` another one, what that wins here."""
    return {
      seed: _known(arrays, by or self.name, self.name)
      for seed, arrays in self.samples.items()
    }


class Known(NamedTuple):
  """The part of a limit whose win rates are known, and why it ends there."""

  limit: limits.Limit
  why: str

  @property
  def end(self) -> float:
    """Largest KL, nats."""
    return float(self.limit.kl[-1])


def judges(evidence: Evidence, measure: str) -> list[Judge]:
  """The golden model and, where the data have one, the hidden utility.

  Empty for a study without the measure, such as one of an older version.
  """
  samples = evidence.measures.get(measure) or {}
  if not samples:
    return []
  found = [Judge('golden', 'the golden model', frontiers.wins, samples)]
  if all('truth' in arrays for arrays in samples.values()):
    read = _by_utility(evidence, samples)
    found.append(Judge('truth', 'hidden utility', read, samples))
  return found


def _known(arrays: Arrays, by: str, judged: str) -> Known:
  """A judge's own limit is of its wins, which is what a win rate counts.

  Another's is of its log-odds, which tell samples apart where all of them win.
  """
  won = wins(arrays[judged])
  scores = won if by == judged else arrays[by].astype(np.float64)
  spread = float(np.std(scores)) or 1.0
  whole = limits.tilted(scores / spread, won, _STRENGTHS)
  part = limits.known(whole, MOST_ERROR)
  count = len(part.kl)
  if count == len(whole.kl):
    why = 'where the best samples of each prompt have all the weight'
  elif whole.kl[count] > whole.end:
    why = f'beyond which {won.shape[1]} samples tell nothing'
  else:
    why = f'beyond which its error passes {MOST_ERROR:g}'
  return Known(part, why)


def wins(margins: np.ndarray) -> np.ndarray:
  """1 where a sample is better than the opponent's, 1/2 where as good."""
  return estimators.margin_wins(margins.astype(np.float64))


def _by_utility(
  evidence: Evidence, samples: Mapping[int, Arrays]
) -> Callable[[Path], tuple[np.ndarray, np.ndarray]]:
  """Wins over the golden policy's stored responses by hidden utility."""
  seeds = {
    evidence.folder / str(point.per_prompt): point.seed
    for point in evidence.points
  }

  def read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    own = points_lib.read_arrays(path, ('prompt_ids', 'hidden_utility'))
    opponent = samples[seeds[path]]
    if not np.array_equal(own['prompt_ids'], opponent['opponent_ids']):
      raise InputError(
        f'{path} is about other prompts than the samples of its seed. Start the'
        ' study again: it evaluates all runs with one configuration.'
      )
    margins = own['hidden_utility'] - opponent['opponent_utility']
    return frontiers.by_prompt(own['prompt_ids'], wins(margins))

  return read
