"""The cost of a checkpoint is that of all rounds before it, each once."""

import json

import numpy as np
import pytest
import tiny
from study.making import build_test

from dap import costs
from dap.study.design import grid, recipes
from dap.study.making import spent

SETTING = (1e-3, 0.1)
SAMPLES = 'samples_{}_last_4x2_judge_reward'
JUDGE = grid.Judge('reward', build_test.JUDGED)
STEPS = 6


@pytest.fixture
def spending(tmp_path):
  """Two rounds of which the second ranks what the SFT policy wrote, too."""
  rounds = recipes.ranked(
    'round', tiny.run(num_steps=STEPS), SETTING, 2, 2, 4, recipes.all_so_far,
    JUDGE,
  )  # fmt: skip
  sampling = grid.Arm(
    'sampling', tiny.run(tiny.ONLINE, num_steps=STEPS), (SETTING,)
  )
  study = build_test.study(*rounds, sampling)
  places = {}

  def leave(name, file, text):
    places[name] = tmp_path / name.replace('/', '_')
    places[name].mkdir()
    (places[name] / file).write_text(text)

  for arm, flops in ((rounds[0], 100.0), (rounds[1], 1000.0)):
    (each,) = arm.runs(0)
    entry = {'step': STEPS, 'train_flops': flops, 'sampled_tokens': 0}
    leave(f'evaluate/{each.name}', 'points.json', json.dumps([entry]))
  (each,) = sampling.runs(0)
  lines = [
    {'step': step, 'response_length': length}
    for step, length in ((2, 3.0), (4, 5.0), (6, 100.0))
  ]
  leave(
    f'run/{each.name}',
    'metrics.jsonl',
    '\n'.join(map(json.dumps, lines)) + '\n',
  )
  for writer, length in (('sft', 3), ('round_1_lr0.001_beta0.1', 2)):
    name = SAMPLES.format(writer)
    places[name] = tmp_path / name
    places[name].mkdir()
    tokens = np.zeros((4, 2, tiny.LENGTH), np.int32)
    tokens[:, :, :length] = 5
    np.savez(places[name] / 'samples.npz', tokens=tokens)
  return study, spent.Spending(study, places)


def of(spending, name, **entry):
  study, found = spending
  arm = study.arms[name]
  each, *_ = arm.runs(0)
  return found.of(arm, each, entry)


def test_a_round_has_what_came_before_it_and_nothing_twice(spending):
  study, _ = spending
  lengths = study.data.prompt_length, study.data.response_length
  asked = sum(
    4 * costs.group_operations(model, *lengths, 2)
    for model in (study.sft.model, JUDGE.run.model)
  )
  first = of(spending, 'round_1', step=STEPS, train_flops=100.0)
  assert first['train_flops'] == pytest.approx(100 + asked)
  assert first['sampled_tokens'] == 4 * 2 * 3
  assert first['annotator_calls'] == 4 * 2
  # The SFT policy's samples, which both read, count once.
  second = of(spending, 'round_2', step=STEPS, train_flops=1000.0)
  assert second['train_flops'] == pytest.approx(1100 + 2 * asked)
  assert second['sampled_tokens'] == 4 * 2 * (3 + 2)
  assert second['annotator_calls'] == 2 * 4 * 2
  assert second['parameter_sets'] == 2  # the policy and its reference


def test_without_a_stream_tokens_are_told_by_logged_lengths(spending):
  run = spending[0].arms['sampling'].run
  rows = 4 * run.batch_size
  found = of(spending, 'sampling', step=4, train_flops=7.0, sampled_tokens=None)
  assert found['train_flops'] == 7.0
  assert found['sampled_tokens'] == rows * 2 * 4  # of 3 and 5 tokens
  assert found['annotator_calls'] == rows * 2
  assert found['parameter_sets'] == 3
  told = of(spending, 'sampling', step=4, train_flops=7.0, sampled_tokens=9)
  assert told['sampled_tokens'] == 9


def test_an_arm_of_pairs_has_drawn_and_asked_nothing(spending):
  found = of(spending, 'offline', step=4, train_flops=7.0)
  assert found['sampled_tokens'] == found['annotator_calls'] == 0
