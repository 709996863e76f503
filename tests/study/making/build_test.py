import dataclasses

import pytest
import tiny

from dap import errors, losses
from dap.algorithms import algorithm, samplers, views
from dap.algorithms.objectives import Loss
from dap.annotators import models
from dap.data import corpus, datasets
from dap.models import heads, t5
from dap.study import design
from dap.study.analyses.gap import Gap
from dap.study.design import grid, recipes
from dap.study.design.experiments import Experiment
from dap.study.design.grid import RunOf
from dap.study.making import build, measures

DATA = datasets.PairData(
  corpus.EmbeddedCorpus(), datasets.embedded_vocabulary(), 10, tiny.LENGTH
)
JUDGED = tiny.run(
  algorithm.Algorithm(
    Loss(losses.pairwise_preference_loss, view=views.comparisons)
  ),
  tiny.JUDGE,
)
SFT = tiny.run(
  algorithm.Algorithm(Loss(losses.supervised_loss, view=views.Tokens()))
)
ONLINE = grid.Arm(
  'online', tiny.run(tiny.ONLINE), ((1e-3, 0.1),), record_stream=True
)
OFFLINE = grid.Arm('offline', tiny.run(), ((1e-3, 0.1), (1e-3, 0.2)))
ONE = RunOf('online', (1e-3, 0.1))
STREAMED = grid.Arm(
  'streamed', tiny.run(), ((1e-3, 0.1),), pairs=grid.StreamOf(ONE)
)
OTHER_JUDGE = heads.PointwisePreferenceModel(tiny.T5)
COMPARES = grid.Judge(
  'joint',
  dataclasses.replace(
    JUDGED, model=heads.JointPreferenceModel(tiny.T5, 32, (2,), (3,), 4, 5)
  ),
)
ELSEWHERE = dataclasses.replace(
  tiny.ONLINE, annotator=models.PreferenceAnnotator(OTHER_JUDGE)
)


def policy(**changes):
  """A policy of another configuration."""
  config = dataclasses.replace(tiny.CONFIG, **changes)
  return dataclasses.replace(tiny.POLICY, language_model=t5.T5(config))


def experiment(*more, measured=(), online=ONLINE):
  analysis = Gap(online='online', offline='offline')
  return Experiment(analysis, (online, OFFLINE, *more), measured)


def study(*more, measured=(), online=ONLINE, **changes):
  parts = {
    'data': DATA,
    'golden': JUDGED,
    'sft': SFT,
    'proxy': JUDGED,
    'golden_policy': tiny.run(tiny.ONLINE),
    'experiments': (experiment(*more, measured=measured, online=online),),
    'num_golden_pairs': 10,
  }
  return design.Study(**{**parts, **changes})


def test_every_run_has_its_evaluation():
  tree = build.build(study(), seed=5)
  runs = {name for name in tree if name.startswith('run/')}
  assert runs == {
    'run/online_lr0.001_beta0.1',
    'run/offline_lr0.001_beta0.1',
    'run/offline_lr0.001_beta0.2',
  }
  for name in runs:
    assert name.replace('run/', 'evaluate/') in tree
  assert tree['run/online_lr0.001_beta0.1'].config.run.seed == 5
  assert tree['data'].config.data.source.seed == 5


def test_only_runs_that_sample_wait_for_the_proxy():
  tree = build.build(study(STREAMED), seed=0)
  assert 'annotator' in tree['run/online_lr0.001_beta0.1'].inputs
  assert 'annotator' not in tree['run/offline_lr0.001_beta0.1'].inputs
  streamed = tree['run/streamed_lr0.001_beta0.1'].inputs
  assert streamed.keys() == {'sft', 'stream'}
  assert streamed['stream'] is tree['run/online_lr0.001_beta0.1']


def test_the_golden_model_alone_sees_stress_pairs():
  tree = build.build(study(), seed=0)
  golden = tree['relabel'].inputs['golden']
  assert golden.config.splits == ('train', 'stress')
  assert tree['sft'].config.splits == ('train',)


def test_experiments_share_arms_and_refuse_others_of_the_same_name():
  one = build.build(study(), seed=0)
  both = study(experiments=(experiment(), experiment(STREAMED)))
  assert build.build(both, seed=0).keys() > one.keys()
  other = dataclasses.replace(ONLINE, settings=((1e-3, 0.3),))
  with pytest.raises(errors.InputError, match='different arms .* online'):
    study(experiments=(experiment(), experiment(online=other)))


def test_pairs_of_two_checkpoints_are_sampled_once():
  sampled = grid.SampledPairs(RunOf('sft'), dataclasses.replace(ONE, step=4))
  arms = [
    grid.Arm(name, tiny.run(), ((1e-3, 0.1),), pairs=sampled)
    for name in ('first', 'second')
  ]
  online = dataclasses.replace(
    ONLINE, run=dataclasses.replace(ONLINE.run, save_steps=(4,))
  )
  tree = build.build(study(*arms, online=online), seed=0)
  first, second = (
    tree[f'run/{arm.name}_lr0.001_beta0.1'].inputs['pairs'] for arm in arms
  )
  assert first is second
  assert first.inputs['first'] is tree['sft']
  assert first.config.sides == (('first', None), ('second', 4))


def test_another_size_has_an_sft_policy_and_a_reference_of_its_own():
  wider = policy(mlp_dim=2 * tiny.CONFIG.mlp_dim)
  size = grid.PolicySize('wide', dataclasses.replace(SFT, model=wider))
  arm = grid.Arm('wide', tiny.run(model=wider), ((1e-3, 0.1),), size=size)
  tree = build.build(study(arm), seed=0)
  name = 'wide_lr0.001_beta0.1'
  assert tree[f'run/{name}'].inputs['sft'] is tree['sft_wide']
  assert tree[f'evaluate/{name}'].inputs['sft'] is tree['sft_wide']
  assert tree[f'evaluate/{name}'].config.judging.policy == wider
  # The opponent and the judges are those of all sizes.
  for shared in ('opponent', 'golden', 'proxy'):
    base = tree['evaluate/offline_lr0.001_beta0.1'].inputs[shared]
    assert tree[f'evaluate/{name}'].inputs[shared] is base


def test_an_arm_may_ask_a_judge_of_its_own():
  run = dataclasses.replace(JUDGED, model=OTHER_JUDGE)
  judge = grid.Judge('large', run)
  arm = grid.Arm('asks', tiny.run(ELSEWHERE), ((1e-3, 0.1),), judge=judge)
  made = build.build(study(arm), 0)
  asks = next(made[name] for name in made if name.startswith('run/asks'))
  online = next(made[name] for name in made if name.startswith('run/online'))
  assert asks.inputs['annotator'] is made['judge_large']
  assert online.inputs['annotator'] is made['proxy']
  assert made['judge_large'].inputs['data'] is made['relabel']
  assert made['judge_large_accuracy'].inputs['model'] is made['judge_large']
  # All are evaluated by the same two models.
  evaluated = made[f'evaluate/{asks.name}'].inputs
  assert evaluated['proxy'] is made['proxy']


SCORER = dataclasses.replace(JUDGED, model=OTHER_JUDGE)
LARGE = grid.Judge('large', SCORER)


def rounds(writers=recipes.newest, **more):
  return recipes.ranked(
    'round', tiny.run(), (1e-3, 0.1), 3, writers=writers, judge=LARGE, **more
  )


def test_a_round_starts_where_the_one_before_it_ended():
  made = build.build(study(*rounds()), 0)
  first, second, third = (
    made[name] for name in made if name.startswith('run/round')
  )
  assert first.inputs['sft'] is made['sft']
  assert second.inputs['sft'] is first and third.inputs['sft'] is second
  ranked = second.inputs['pairs']
  assert ranked.inputs['samples_0'].inputs['run'] is first
  assert ranked.inputs['samples_0'].inputs['judge'] is made['judge_large']
  assert 'samples_1' not in ranked.inputs


def test_earlier_rounds_write_once_for_all_later_ones():
  made = build.build(study(*rounds(recipes.all_so_far)), 0)
  runs = [made[name] for name in made if name.startswith('run/round')]
  ranked = [run.inputs['pairs'].inputs for run in runs]
  assert [len(each) - 1 for each in ranked] == [1, 2, 3]
  assert ranked[2]['samples_0'] is ranked[0]['samples_0']
  assert ranked[2]['samples_1'] is ranked[1]['samples_1']
  writers = [ranked[2][f'samples_{i}'].inputs['run'] for i in range(3)]
  assert writers == [made['sft'], *runs[:2]]


def test_a_recipe_may_go_on_with_another_algorithm():
  run = tiny.run(ELSEWHERE)
  arms = recipes.after('online_end', rounds(), run, (1e-3, 0.1), LARGE)
  made = build.build(study(*arms), 0)
  end = next(made[name] for name in made if name.startswith('run/online_end'))
  assert (
    end.inputs['sft']
    is list(made[name] for name in made if name.startswith('run/round_3'))[0]
  )


def test_measures_are_stages_of_the_study():
  by_name = RunOf('online', (1e-3, {'beta': 0.1}))
  replay = measures.Replay(by_name, RunOf('streamed', (1e-3, 0.1)))
  tree = build.build(study(STREAMED, measured=(replay,)), seed=0)
  inputs = tree['measure/replay'].inputs
  assert inputs['run'] is tree['run/online_lr0.001_beta0.1']
  assert inputs['replay'] is tree['run/streamed_lr0.001_beta0.1']


LATE = dataclasses.replace(ONE, step=77)


@pytest.mark.parametrize(
  ('make', 'words'),
  [
    (lambda: study(experiments=()), 'at least one experiment'),
    (
      lambda: study(sft=tiny.run(model=policy(vocab_size=25))),
      "one vocab_size, got .*'sft': 25",
    ),
    (
      lambda: study(
        online=dataclasses.replace(ONLINE, run=tiny.run(ELSEWHERE))
      ),
      'online is labelled by the proxy preference model',
    ),
    (
      lambda: study(golden_policy=tiny.run(ELSEWHERE)),
      'by the golden preference model',
    ),
    (
      lambda: study(
        golden_policy=tiny.run(tiny.ONLINE, tiny.POLICY.__class__(tiny.T5))
      ),
      'golden_policy starts from the SFT policy',
    ),
    (
      lambda: study(
        dataclasses.replace(
          STREAMED, pairs=grid.StreamOf(RunOf('online', (1e-3, 0.4)))
        )
      ),
      r'streamed reads the run of online .* \(0.001, 0.4\); that arm is with',
    ),
    (
      lambda: study(
        dataclasses.replace(STREAMED, pairs=grid.SampledPairs(LATE, LATE))
      ),
      'reads step 77 of online, which keeps the checkpoints',
    ),
    (
      lambda: recipes.ranked('r', tiny.run(), (1e-3, 0.1), 0),
      'one round, got 0',
    ),
    (
      lambda: study(
        dataclasses.replace(
          STREAMED, pairs=grid.RankedPairs((RunOf('sft'),)), judge=COMPARES
        )
      ),
      'must score each by itself; a JointPreferenceModel compares two',
    ),
    (lambda: grid.RankedPairs((RunOf('sft'),), 1), 'needs 2 responses to a'),
    (
      lambda: build.build(
        study(measured=(measures.Replay(ONE, RunOf('no', (1e-3, 0.1))),)), 0
      ),
      'measure replay reads the run of no .* not in the study',
    ),
    (
      lambda: Experiment(Gap(online='online', offline='other'), (ONLINE,)),
      'Gap needs the arm other, the experiment has online',
    ),
  ],
)
def test_parts_that_do_not_fit_are_refused_before_any_work(make, words):
  with pytest.raises(errors.InputError, match=words):
    make()


def test_seeds_are_a_tuple_of_different_numbers():
  assert design.check_seeds([1, 2]) == (1, 2)
  assert design.check_seeds(3) == (3,)
  for wrong in ((), (1, 1)):
    with pytest.raises(errors.InputError, match='seeds that differ'):
      design.check_seeds(wrong)


def test_a_sampler_of_another_length_is_still_a_study():
  longer = dataclasses.replace(
    tiny.ONLINE, sampler=samplers.FromPolicy(tiny.LENGTH + 1)
  )
  study(online=dataclasses.replace(ONLINE, run=tiny.run(longer)))
