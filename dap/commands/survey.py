"""Layer 8. The survey's table of properties, beside what the slots say.

O is yes, X no, △ partly. The table is the opinion of the survey of direct
alignment from preferences that the project began from, and stands as printed
there: it is data, and nothing of it is corrected.
"""

from typing import NamedTuple

from dap.commands.traits import NONE, Traits

COLUMNS = (
  'NOT require human preference tagging',
  'Unbiased data distribution (training data from training policy)',
  'Online feedback (Iterative improvement)',
  'NOT require external API cost',
  '# of model for training',
)


class Row(NamedTuple):
  """An algorithm of the survey.

  Attributes:
    group: of algorithms.
    name: as printed.
    cells: under `COLUMNS`, as printed.
    experiment: of configs/embedded; '' where the project has none.
  """

  group: str
  name: str
  cells: tuple[str, str, str, str, str]
  experiment: str


def _row(group: str, name: str, cells: str, experiment: str = '') -> Row:
  tags, own, online, free, models = cells.split('|')
  return Row(group, name, (tags, own, online, free, models), experiment)


ROWS = (
  _row('RL', 'RLHF', 'X|O|O|O|4', 'ppo'),
  _row('RL', 'RLAIF', 'O|O|O|X|4'),
  _row('RL', 'ReST', 'X|O|O|O|4', 'rest'),
  _row('Offline DAP', 'SLiC-HF', 'X|X|X|O|2 (1)', 'slic'),
  _row('Offline DAP', 'DPO', 'X|X|X|O|2 (1)', 'dpo'),
  _row('Offline DAP', 'IPO', 'X|X|X|O|2 (1)', 'offline_ipo'),
  _row('Offline DAP', 'RRHF', 'X|△|X|O|1 (2)', 'rrhf'),
  _row('Offline DAP', 'CLICK', 'X|△|X|O|1 (2)', 'click'),
  _row('Offline DAP', 'SPIN', 'O|△|O|O|2 (1)', 'spin'),
  _row('Online DAP', 'Rejection-sampling FT', 'X|O|O|O|2', 'best_of_four'),
  _row('Online DAP', 'RSO', 'X|O|X|O|3', 'rso'),
  _row('Online DAP', 'Iterative DPO', 'X|O|O|O|3 (2)', 'iterative_dpo'),
  _row('Online DAP', 'self-rewarding', '△ (works even without it)|O|O|O|2 (1)'),
  _row('Online DAP', 'OAIF (online DPO)', 'O|O|O|X|2 (1)'),
)
ABSENT = 'not here, they need a language model as a judge'


def of_experiment(name: str) -> Row | None:
  """The survey's row that an experiment is; None where it has none."""
  return next((row for row in ROWS if row.experiment == name), None)


def derived(traits: Traits) -> tuple[str, str, str, str, str]:
  """The cells that the slots give."""
  return (
    _sign(not traits.human_labels),
    traits.own,
    _sign(traits.online),
    _sign(not traits.external),
    str(len(traits.models)),
  )


def _sign(holds: bool) -> str:
  return 'O' if holds else 'X'


def differs(row: Row, traits: Traits) -> dict[int, str]:
  """Where the survey says something else, by column: a sentence each.

  A count in brackets is the survey's other reading, so it agrees with both.
  """
  reasons = (
    _of_labels(traits),
    _of_samples(traits),
    f'the policy that samples is {traits.behaviour}',
    'who is asked, is asked here',
    f'{", ".join(traits.models)}',
  )
  told: dict[int, str] = {}
  for column, (theirs, ours) in enumerate(zip(row.cells, derived(traits))):
    said = theirs.replace('(', '').replace(')', '').split()
    if ours not in said:
      told[column] = (
        f'{row.name}, ({column + 1}): {theirs} in the survey, {ours} by the'
        f' slots of {row.experiment}: {reasons[column]}.'
      )
  return told


def _of_labels(traits: Traits) -> str:
  if not traits.human_labels:
    return 'no label of people decides'
  asked = traits.annotator
  return (
    'the pairs have labels of people'
    if asked == NONE
    else f'the {asked} is fitted to labels of people'
  )


def _of_samples(traits: Traits) -> str:
  if traits.own == 'X':
    return "the responses are the data's"
  if traits.own == 'O':
    return 'every response is a sample of the policy, of now or lately'
  return (
    'samples stand beside responses of the data'
    if 'given' in traits.responses
    else 'every sample is of the policy at the start'
  )
