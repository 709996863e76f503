"""A tiny study of experiments and of rounds, from data to report."""

import json

import numpy as np
import pytest
import tiny_study

from dap import main
from dap.data import pairs as pairs_lib
from dap.study.reading import runs

MODEL = {
  name: tiny_study.SIZES[name]
  for name in (
    'RESPONSE_LENGTH', 'BATCH_SIZE', 'VOCABULARY_SIZE', 't5.T5Config.emb_dim',
    't5.T5Config.num_heads', 't5.T5Config.head_dim', 't5.T5Config.mlp_dim',
  )
}  # fmt: skip
OFFLINE = {**MODEL, 'OFFLINE_STEPS': 4, 'OFFLINE_SAVE_STEPS': ()}
PPO = {'ppo/train.Run.num_steps': 2, 'ppo/train.Run.save_steps': ()}
SHOWN = (
  ('offline_ipo', 'offline IPO', 'Pairs'),
  ('rejection_round_2', 'rejection sampling', 'Rounds'),
  ('rejection_ppo', 'rejection sampling, then PPO', 'Rounds'),
)


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
  folder = tmp_path_factory.mktemp('rounds')
  words = tiny_study.argv(
    folder,
    '--gin.algorithms/recipes.together.parts='
    '(@arms.arms(), %REJECTION_ROUNDS)',
    '--gin.EXPERIMENTS=(%ALGORITHMS,)',
    config='algorithms',
    without=(
      'SETTINGS', 'OTHER_SETTINGS', 'ONLINE_STEPS', 'ONLINE_SAVE_STEPS',
      'OFFLINE_STEPS', 'OFFLINE_SAVE_STEPS',
    ),
    ALGORITHM_SETTINGS={'nothing': ((1e-2, {}),), 'offline_ipo': ((1e-2, {}),)},
    NUM_ROUNDS=2,
    ROUND_SAMPLES=3,
    ROUND_PROMPTS=20,
    **{
      'arms.arms.changes': MODEL,
      'rejection/arms.run_of.changes': OFFLINE,
      'after/arms.run_of.changes': {**MODEL, **PPO},
      'algorithms.Algorithms.shown': SHOWN,
      'algorithms.Algorithms.beside': 'offline_ipo',
      'algorithms.Algorithms.controls': ('nothing',),
      'algorithms.Algorithms.rewarded': (),
    },
  )  # fmt: skip
  main.main(words)
  return folder


def stage(whole, name):
  (found,) = (whole / 'stages').glob(f'{name}-*')
  return found


def test_no_training_is_the_sft_policy(whole):
  points = {(p.run, p.seed): p for p in runs.read(whole / 'runs.jsonl')}
  nothing = points['nothing_lr0.01', 3]
  (sft,) = (p for p in points.values() if p.algorithm == 'sft')
  assert nothing.kl_nats == 0
  assert nothing.win_rate == sft.win_rate


def test_pairs_of_a_round_are_the_best_and_the_worst(whole):
  found = pairs_lib.load(stage(whole, 'ranked_rejection_round_2') / 'train.npz')
  stored = [
    np.load(stage(whole, name) / 'samples.npz')
    for name in (
      'samples_sft_last_20x3_proxy',
      'samples_rejection_round_1_lr0.0002_last_20x3_proxy',
    )
  ]
  tokens = np.concatenate([each['tokens'] for each in stored], axis=1)
  scores = np.concatenate([each['scores'] for each in stored], axis=1)
  assert scores.shape == (20, 6)
  apart = np.flatnonzero(scores.max(1) > scores.min(1))
  assert len(found) == len(apart)
  for row, prompt in enumerate(apart):
    best, worst = scores[prompt].argmax(), scores[prompt].argmin()
    np.testing.assert_array_equal(found.chosen[row], tokens[prompt, best])
    np.testing.assert_array_equal(found.rejected[row], tokens[prompt, worst])


def test_rounds_leave_the_sft_policy_further_behind(whole):
  points = {p.algorithm: p for p in runs.read(whole / 'runs.jsonl')}
  first, second = (points[f'rejection_round_{i}'].kl_nats for i in (1, 2))
  assert 0 < first != second


def test_the_report_has_the_tables(whole):
  text = (whole / 'report.md').read_text()
  assert '## All algorithms at their best' in text
  assert '| rejection sampling, then PPO |' in text
  verdicts = json.loads((whole / 'verdicts.json').read_text())
  names = {each['name'] for each in verdicts}
  assert names == {
    'A-offline_ipo', 'A-rejection_round_2', 'A-rejection_ppo', 'C-nothing',
  }  # fmt: skip
