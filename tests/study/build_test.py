import dataclasses

import pytest
import tiny

from dap import errors
from dap.algorithms import algorithm, objectives, samplers
from dap.annotators import models
from dap.data import corpus, datasets
from dap.evaluation.points import Evaluation
from dap.models import heads
from dap.study import build, grid

DATA = datasets.PairData(
  corpus.EmbeddedCorpus(), datasets.embedded_vocabulary(), 10, tiny.LENGTH
)
JUDGED = tiny.run(
  algorithm.Algorithm(objectives.preference_model()), tiny.JUDGE
)
ARMS = {
  'online': grid.Arm(tiny.run(tiny.ONLINE), ((1e-3, 0.1),)),
  'offline': grid.Arm(tiny.run(), ((1e-3, 0.1), (1e-3, 0.2))),
}
OTHER_JUDGE = heads.PointwisePreferenceModel(tiny.CONFIG)
ELSEWHERE = dataclasses.replace(
  tiny.ONLINE, annotator=models.PreferenceAnnotator(OTHER_JUDGE)
)
WIDER = dataclasses.replace(
  tiny.POLICY, config=dataclasses.replace(tiny.CONFIG, vocab_size=25)
)


def study(**changes):
  parts = {
    'data': DATA,
    'golden': JUDGED,
    'sft': tiny.run(algorithm.Algorithm(objectives.supervised())),
    'proxy': JUDGED,
    'golden_policy': tiny.run(tiny.ONLINE),
    'arms': ARMS,
    'num_golden_pairs': 10,
    'evaluation': Evaluation(),
  }
  return build.make(**{**parts, **changes})


def test_every_run_has_its_evaluation():
  tree = build.build(study(), seed=5)
  runs = {name for name in tree if name.startswith('run/')}
  assert runs == {'run/online_0', 'run/offline_0', 'run/offline_1'}
  for name in runs:
    assert name.replace('run/', 'evaluate/') in tree
  assert tree['run/online_0'].config.run.seed == 5
  assert tree['data'].config.data.source.seed == 5


def test_only_runs_that_sample_wait_for_the_proxy():
  tree = build.build(study(), seed=0)
  assert 'annotator' in tree['run/online_0'].inputs
  assert 'annotator' not in tree['run/offline_0'].inputs


def test_the_golden_model_alone_sees_stress_pairs():
  tree = build.build(study(), seed=0)
  golden = tree['relabel'].inputs['golden']
  assert golden.config.splits == ('train', 'stress')
  assert tree['sft'].config.splits == ('train',)


@pytest.mark.parametrize(
  ('changes', 'words'),
  [
    ({'arms': {}}, 'at least one arm'),
    ({'arms': {'ipo': ARMS['online']}}, 'begins with "online" or "offline"'),
    ({'sft': tiny.run(model=WIDER)}, r'one vocab_size, got \[24, 25\]'),
    (
      {'arms': {'online': grid.Arm(tiny.run(ELSEWHERE), ((1e-3, 0.1),))}},
      'online is labelled by the proxy preference model',
    ),
    ({'golden_policy': tiny.run(ELSEWHERE)}, 'by the golden preference model'),
    (
      {
        'golden_policy': tiny.run(
          tiny.ONLINE, tiny.POLICY.__class__(tiny.CONFIG)
        )
      },
      'golden_policy starts from the SFT policy',
    ),
  ],
)
def test_parts_that_do_not_fit_are_refused_before_any_work(changes, words):
  with pytest.raises(errors.InputError, match=words):
    study(**changes)


def test_seeds_are_a_tuple_of_different_numbers():
  assert build.check_seeds([1, 2]) == (1, 2)
  assert build.check_seeds(3) == (3,)
  for wrong in ((), (1, 1)):
    with pytest.raises(errors.InputError, match='seeds that differ'):
      build.check_seeds(wrong)


def test_a_sampler_of_another_length_is_still_a_study():
  longer = dataclasses.replace(
    tiny.ONLINE, sampler=samplers.FromPolicy(tiny.LENGTH + 1)
  )
  study(arms={'online': grid.Arm(tiny.run(longer), ((1e-3, 0.1),))})
