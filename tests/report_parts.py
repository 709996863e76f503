"""A small study for the tests of reports: points, figures, claims, samples."""

from pathlib import Path

from dap.study.reading.evidence import (
  CONTRADICTED,
  NOT_REACHED,
  REPRODUCED,
  UNDECIDED,
  Axis,
  Evidence,
  Figure,
  Predicate,
  Series,
)
from dap.study.reading.runs import Point
from dap.study.report.results import Answer, Results

HOSTILE = '</script><script>document.title = "taken"</script><!-- & <b>'
KL = Axis('KL(policy ‖ SFT), nats per response', log=True)
WINS = Axis('win rate')
STUDY = {
  'title': 'Online against offline',
  'data_set': 'EmbeddedCorpus',
  'caveats': ['Tuned on seed 0.'],
  'golden': {'value': 0.88, 'low': 0.86, 'high': 0.9, 'count': 1000},
  'sft': {'loss': 1.25},
  'runs': {'sft': {'steps': 600}, 'online_a': {'beta': 0.1}},
  'config': {'data': 'EmbeddedCorpus'},
}


def points(seeds=(0, 1), numbers=(0.1, 0.03), steps=(10, 20, 40)):
  """The SFT policy, the golden policy, and two arms of one run for a number."""
  found = [Point('sft', 'sft', seed, 0, win_rate=0.08) for seed in seeds]
  found += [
    Point('golden_policy', 'golden_policy', seed, 9, kl_nats=3.0, win_rate=0.5)
    for seed in seeds
  ]
  for arm, rate in (('online', 0.012), ('offline', 0.008)):
    for letter, number in zip('abcdefgh', numbers):
      found += [
        Point(
          f'{arm}_{letter}',
          arm,
          seed,
          step,
          lr=1e-3,
          scalars={'beta': number},
          kl_nats=step * (0.1 + 0.01 * seed) / (number * 10) ** 0.5,
          win_rate=rate * step,
          win_rate_low=rate * step - 0.02,
          win_rate_high=rate * step + 0.02,
          proxy_win_rate=0.6,
          hidden_utility=1.5,
          response_length=14.0,
        )
        for seed in seeds
        for step in steps
      ]
  return found


def dots(of_arm, arm):
  """The checkpoints of an arm as a series."""
  own = [point for point in of_arm if point.algorithm == arm]
  kl = [point.kl_nats for point in own]
  return Series(arm, arm, kl, [p.win_rate for p in own], points=own)


def figure(of_points, name='fig1'):
  """One series of each kind; the band has a hole at its second mark."""
  nan = float('nan')
  return Figure(
    name,
    'Online against offline',
    'What a dot is.',
    KL,
    WINS,
    [
      Series('SFT policy', 'sft', [], [0.08], kind='level'),
      dots(of_points, 'online'),
      dots(of_points, 'offline'),
      Series(
        'online, best',
        'online',
        [1.0, 1.5, 2.0, 4.0],
        [0.1, nan, 0.2, 0.3],
        [0.05, nan, 0.15, 0.25],
        [0.15, nan, 0.25, 0.35],
        kind='band',
      ),
      Series('a fit', 'fit', [1.0, 2.0, 4.0], [0.2, 0.3, 0.4], kind='line'),
    ],
  )


def predicates():
  """One of each verdict."""
  by_seed = {0: 0.07, 1: 0.1}
  return [
    Predicate(
      'P1d',
      'Online is ahead at equal KL.',
      'Fig. 1',
      REPRODUCED,
      0.085,
      0.05,
      0.112,
      by_seed=by_seed,
      conditional=True,
      primary=True,
      detail='In 10 windows.',
    ),
    Predicate(
      'P2a', 'Coverage | does not', 'Fig. 4', CONTRADICTED, -0.03, -0.05, -0.01
    ),
    Predicate(
      'P4c', '<i>No</i> relation', 'Fig. 7', UNDECIDED, 0.2, -0.2, 0.5, 'rank'
    ),
    Predicate(
      'P6a', 'Larger is better', 'Fig. 10', NOT_REACHED, detail='None.'
    ),
  ]


def samples(of_points, seeds=(0, 1)):
  """Two prompts a seed; the first answer of the SFT policy is hostile."""
  found = {
    'seeds': {
      str(seed): {
        'prompts': [f'prompt {seed}-0', f'prompt {seed}-1'],
        'golden': [f'golden {seed}-0', f'golden {seed}-1'],
      }
      for seed in seeds
    },
    'points': {
      f'{p.run}/{p.seed}/{p.step}': {
        'texts': [f'{p.run} {p.seed} {p.step} says {i}' for i in range(2)],
        'prefers': [0.25, 0.75],
      }
      for p in of_points
    },
  }
  found['points']['sft/0/0']['texts'][0] = HOSTILE
  return found


def results(folder=Path(), study=STUDY, **changes):
  """All of it, as `report.write` takes it."""
  own = points()
  costs = [
    {'stage': 'golden', 'seconds': 61.0, 'cpu_seconds': 60.0},
    {'stage': 'online_a', 'seconds': 10.0, 'process_peak_mib': 700},
    {'stage': 'evaluate_online_a', 'seconds': 2.0, 'process_peak_mib': 300},
    {'stage': 'measure_replay', 'seconds': 5.0},
  ]
  answers = [
    Answer('Gap', ['online', 'offline'], [], predicates(), [figure(own)]),
    Answer('Coverage', ['online'], ['replay'], [], [figure(own, 'fig4')]),
  ]
  whole = Results(
    Evidence(own, folder, {}), study, samples(own), costs, answers
  )
  return whole._replace(**changes)
