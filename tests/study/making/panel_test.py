"""Scouts, the panel that labels their pairs, and the golden model's trial."""

import json

import numpy as np
import pytest
import tiny_study

from dap import errors, main
from dap.data import pairs
from dap.study.making import asking
from dap.study.reading import runs


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
  """The gap with scouts and the judge on trial, one setting."""
  folder = tmp_path_factory.mktemp('panel')
  words = tiny_study.argv(
    folder,
    without=('design.Study.panel', 'judge/experiments.Experiment.measures'),
    SETTINGS=((1e-2, 0.1),),
    DEFAULT_SETTING=(1e-2, 0.1),
    **{
      'corpus.EmbeddedCorpus.raters': 5,
      'proxy/scout_judge/train.Run.num_steps': 4,
      'scout/train.Run.num_steps': 4,
      'scout/train.Run.save_steps': (2,),
      'scout/train.Run.learning_rate': 1e-2,
      'PANEL_PAIRS': 60,
      'agreement.Agreement.num_pairs': 20,
    },
  )
  main.main(words)
  return folder


def only(whole, name):
  (found,) = (whole / 'stages').glob(f'{name}-*')
  return found


def test_every_checkpoint_of_a_scout_writes(whole):
  summary = json.loads((only(whole, 'panel') / 'summary.json').read_text())
  writers = {f'scout_{i}_{step}' for i in range(3) for step in (2, 4)}
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


def test_the_golden_model_alone_reads_them(whole):
  readers = [
    stage['stage']
    for path in (whole / 'stages').glob('*/stage.json')
    if 'panel' in (stage := json.loads(path.read_text()))['inputs']
  ]
  assert readers == ['golden']


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


def test_scouts_that_write_alike_are_refused():
  tokens = np.ones((4, 3), np.int32)
  asked = asking.points.Questions(
    np.arange(4), np.zeros(4, np.int32), np.ones((4, 5), np.int32)
  )
  with pytest.raises(errors.InputError, match='differ; the scouts wrote equal'):
    asking._in_order(asked, (tokens, tokens), np.full(4, 0.6))


def test_a_vote_for_the_second_puts_it_first():
  first = np.array([[1, 2], [1, 2], [3, 1]])
  second = np.array([[2, 1], [2, 1], [3, 1]])
  asked = asking.points.Questions(
    np.arange(3), np.zeros(3, np.int32), np.ones((3, 5), np.int32)
  )
  made, equal = asking._in_order(
    asked, (first, second), np.array([0.2, 0.8, 0.6])
  )
  np.testing.assert_array_equal(made.chosen, [second[0], first[1]])
  np.testing.assert_allclose(made.shares, [0.8, 0.8])
  assert equal == 1
