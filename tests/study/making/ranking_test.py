"""The stage that makes a round's pairs of what was written."""

import dataclasses
import json

import numpy as np
import tiny

from dap.data import pairs as pairs_lib
from dap.study.design import choices
from dap.study.making import ranking


def made(folder, choice, tokens, scores):
  """Pairs and summary of 8 prompts of D_golden and two writers."""
  golden = dataclasses.replace(
    tiny.pairs(8), prompt_ids=np.arange(8, dtype=np.int32)
  )
  inputs = {name: folder / name for name in ('pairs', 'samples_0', 'samples_1')}
  for path in (*inputs.values(), folder / 'work'):
    path.mkdir()
  golden.save(inputs['pairs'] / 'train.npz')
  for i in (0, 1):
    own = slice(2 * i, 2 * i + 2)
    np.savez(
      inputs[f'samples_{i}'] / 'samples.npz',
      tokens=tokens[:, own],
      scores=scores[:, own],
    )
  config = ranking.Ranking(choice)
  ranking.ranked_pairs(config, inputs, folder / 'work')
  summary = json.loads((folder / 'work/summary.json').read_text())
  return golden, pairs_lib.load(folder / 'work/train.npz'), summary


def written(golden):
  rng = np.random.default_rng(3)
  tokens = rng.integers(2, 20, (8, 4, golden.chosen.shape[1]))
  return tokens.astype(golden.chosen.dtype), rng.normal(size=(8, 4))


def test_the_data_s_response_is_chosen_and_equal_samples_are_counted(tmp_path):
  tokens, scores = written(tiny.pairs(8))
  tokens[5] = tiny.pairs(8).chosen[5]  # all four wrote what the data have
  tokens[6, 1] = tiny.pairs(8).chosen[6]
  golden, found, summary = made(
    tmp_path, choices.DataOverSamples(), tokens, scores
  )
  assert len(found) == summary['pairs'] == 8 * 4 - 5
  assert summary['prompts'] == 7 and summary['prompts_without_a_pair'] == 1
  rows = np.searchsorted(golden.prompt_ids, found.prompt_ids)
  np.testing.assert_array_equal(found.chosen, golden.chosen[rows])
  np.testing.assert_array_equal(found.rejected[:4], tokens[0])
  np.testing.assert_array_equal(found.prompts, golden.prompts[rows])


def test_what_is_kept_is_above_the_share_of_all_writers_range(tmp_path):
  tokens, scores = written(tiny.pairs(8))
  scores[2] = scores.min()  # nothing of this prompt is kept
  _, found, summary = made(tmp_path, choices.Above(0.5), tokens, scores)
  half = (scores.min() + scores.max()) / 2
  np.testing.assert_array_equal(found.chosen, tokens[scores > half])
  assert 2 not in found.prompt_ids
  assert summary['prompts_without_a_pair'] >= 1
  assert sum(summary['best_by_writer']) == 1
