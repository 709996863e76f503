"""The measures, the scouts, and the default study that has them all."""

import json

import numpy as np
import pytest
import tiny_study

from dap import main
from dap.data import pairs
from dap.errors import InputError
from dap.study.making import limit, measures
from dap.study.reading import runs

SETTING = 'lr0.01_beta0.1'


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
  """The default study with one setting: five arms, and the limit."""
  folder = tmp_path_factory.mktemp('default')
  words = tiny_study.argv(
    folder,
    config='default',
    without=('design.Study.panel',),
    SETTINGS=((1e-2, 0.1),),
    DEFAULT_SETTING=(1e-2, 0.1),
    **{
      'corpus.EmbeddedCorpus.raters': 5,
      'proxy/scout_judge/train.Run.num_steps': 4,
      'scout/train.Run.num_steps': 4,
      'scout/train.Run.save_steps': (2,),
      'scout/train.Run.learning_rate': 1e-2,
      'PANEL_PAIRS': 60,
      'PANEL_GOLDEN_PAIRS': 8,
      'measures.StreamAccuracy.num_windows': 3,
      'measures.StreamAccuracy.num_pairs': 8,
      'measures.OwnPairs.num_pairs': 16,
    },
  )
  main.main(words)
  return folder


def arrays(whole, name):
  with np.load(whole / 'measures' / name / '3.npz') as stored:
    return dict(stored)


def test_the_stream_in_its_own_order_is_the_online_run(whole):
  """P2c: all parameters have the same bits, and so has all they answer."""
  replay = arrays(whole, 'replay')
  np.testing.assert_array_equal(replay['checkpoint'], [3, 6])
  assert np.all(replay['equal_params'])
  np.testing.assert_array_equal(replay['loss_run'], replay['loss_replay'])
  found = {(p.run, p.step): p for p in runs.read(whole / 'runs.jsonl')}
  for step in (3, 6):
    online, again = (
      found[f'{arm}_{SETTING}', step]
      for arm in ('online_ipo', 'unshuffled_ipo')
    )
    for name in ('kl_nats', 'win_rate', 'classification_accuracy'):
      assert getattr(online, name) == getattr(again, name)


def test_a_shuffled_stream_is_another_run(whole):
  found = {(p.run, p.step): p for p in runs.read(whole / 'runs.jsonl')}
  online = found[f'online_ipo_{SETTING}', 6]
  for arm in ('window_4_ipo', 'shuffled_ipo'):
    assert found[f'{arm}_{SETTING}', 6].kl_nats != online.kl_nats


def test_classifiers_of_the_stream_are_asked_along_it(whole):
  found = arrays(whole, 'stream_accuracy')
  np.testing.assert_allclose(found['step'], [5 / 6, 15 / 6, 25 / 6])
  for name in ('proxy', 'online_ipo', 'offline_ipo'):
    correct = found[f'correct/{name}']
    assert correct.shape == found['counted'].shape == (3, 8)
    assert set(np.unique(correct)) <= {0.0, 0.5, 1.0}
  # Of golden and proxy, ties alone are half.
  assert np.all(found['correct/proxy'][~found['counted']] == 0.5)


def test_policies_are_asked_about_pairs_of_their_own(whole):
  found = arrays(whole, 'own_pairs')
  for arm, steps in (
    ('online_ipo', [3, 6]),
    ('shuffled_ipo', [3, 6]),
    ('offline_ipo', [2, 4, 6]),
  ):
    np.testing.assert_array_equal(found[f'step/{arm}'], steps)
    assert found[f'correct/{arm}'].shape == (len(steps), 16)
    assert found[f'counted/{arm}'].dtype == bool


def test_samples_of_the_limit_are_judged_against_the_stored_responses(whole):
  found = arrays(whole, 'limit')
  ids = found['prompt_ids']
  assert len(np.unique(ids)) == len(ids)
  for name in ('golden', 'proxy', 'truth'):
    assert found[name].shape == (len(ids), 16)
    assert found[name].dtype == np.float32
  points = {(p.run, p.step): p for p in runs.read(whole / 'runs.jsonl')}
  sft = points['sft', 0]
  own = runs.read_arrays(
    whole / sft.per_prompt, ('prompt_ids', 'hidden_utility')
  )
  np.testing.assert_array_equal(found['opponent_ids'], own['prompt_ids'])
  assert set(ids) == set(own['prompt_ids'])
  # Utilities of the SFT policy's samples are those of its one response to each
  # prompt, but for luck.
  place = [list(found['opponent_ids']).index(number) for number in ids]
  utility = found['truth'] + found['opponent_utility'][place][:, None]
  noise = np.std(own['hidden_utility']) / len(own['hidden_utility']) ** 0.5
  assert abs(np.mean(utility) - np.mean(own['hidden_utility'])) < 4 * noise


@pytest.mark.parametrize('number', [0, 7])
def test_a_limit_of_few_samples_is_refused(number):
  with pytest.raises(InputError, match='num_samples'):
    limit.Limit(num_samples=number)


def test_the_experiments_are_kept_for_the_report(whole):
  kept = json.loads((whole / 'study.json').read_text())
  assert len(kept['analyses']) == 4
  assert kept['arms']['Gap'] == ['online_ipo', 'offline_ipo']


def only(whole, name):
  (found,) = (whole / 'stages').glob(f'{name}-*')
  return found


def test_every_checkpoint_of_a_scout_writes(whole):
  summary = json.loads((only(whole, 'panel') / 'summary.json').read_text())
  writers = {f'scout_{i}_{step}' for i in range(2) for step in (2, 4)}
  assert summary['kl_nats'].keys() == {'sft_last', *writers}
  assert summary['kl_nats']['sft_last'] == 0
  assert summary['pairs'] + summary['equal_responses'] == 60


def test_the_chosen_response_has_most_of_the_votes(whole):
  """Shares are fifths of five raters', and follow the hidden utility."""
  made = pairs.load(only(whole, 'panel') / 'train.npz')
  assert made.shares is not None
  assert np.all(np.isin(np.round(made.shares * 5), [3, 4, 5]))
  assert np.any(made.chosen != made.rejected, axis=1).all()
  data = pairs.load(only(whole, 'data') / 'train.npz')
  assert set(made.prompt_ids) <= set(data.prompt_ids)


def test_the_golden_model_reads_them_and_who_labels(whole):
  readers = [
    stage['stage']
    for path in (whole / 'stages').glob('*/stage.json')
    if 'panel' in (stage := json.loads(path.read_text()))['inputs']
  ]
  assert sorted(readers) == ['golden', 'relabel']


def test_d_golden_has_a_few_of_them_in_no_order(whole):
  labelled = pairs.load(only(whole, 'relabel') / 'train.npz')
  data = pairs.load(only(whole, 'data') / 'train.npz')
  texts = {row.tobytes() for row in data.chosen}
  texts |= {row.tobytes() for row in data.rejected}
  scouts = [row.tobytes() not in texts for row in labelled.chosen]
  assert 0 < sum(scouts) <= 8
  assert not all(scouts[-sum(scouts) :])  # spread over the set


def test_the_judge_is_asked_about_every_checkpoint(whole):
  with np.load(whole / 'measures' / 'agreement' / '3.npz') as stored:
    found = dict(stored)
  points = runs.read(whole / 'runs.jsonl')
  for arm, count in (('online_ipo', 2), ('offline_ipo', 3)):
    kl = sorted(p.kl_nats for p in points if p.algorithm == arm)
    np.testing.assert_allclose(sorted(found[f'kl/{arm}']), kl, rtol=1e-6)
    for name in ('right', 'counted', 'true_wins', 'golden_wins'):
      assert found[f'{name}/{arm}'].shape == (count, 20)
  kept = json.loads((whole / 'study.json').read_text())
  assert 'Judge' in kept['arms']


def test_rows_near_a_step_are_those_of_the_nearest_batches():
  steps = np.repeat(np.arange(10), 4)
  np.testing.assert_array_equal(
    steps[measures._nearest(steps, 5.0, 12)], np.repeat([4, 5, 6], 4)
  )
  np.testing.assert_array_equal(
    steps[measures._nearest(steps, 0.0, 8)], np.repeat([0, 1], 4)
  )


def test_two_judges_agree_by_sign_and_ties_are_half():
  wins = np.array([1.0, 1.0, 0.0, 0.5, 1.0])
  golden = np.array([1.0, 0.0, 0.0, 1.0, 0.5])
  np.testing.assert_array_equal(
    measures.agreement(wins, golden), [1, 0, 1, 0.5, 0.5]
  )
