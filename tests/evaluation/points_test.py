import dataclasses
import functools

import jax
import numpy as np
import pytest
import tiny

from dap import errors, estimators, partitioning
from dap.evaluation import points
from dap.training import collectors

ONE_DEVICE = partitioning.mesh((1, 1))
REFERENCE = tiny.POLICY.init(jax.random.key(1))
TRAINED = tiny.POLICY.init(jax.random.key(4))
GOLDEN = points.Judge(tiny.JUDGE, tiny.JUDGE.init(jax.random.key(2)))
PROXY = points.Judge(tiny.JUDGE, tiny.JUDGE.init(jax.random.key(3)))
SETTINGS = points.Evaluation(
  num_prompts=24, num_kl_prompts=24, num_pairs=24, batch_size=8
)
PAIRS = tiny.pairs(24)


def answers(params, asked, settings=SETTINGS, mesh=ONE_DEVICE, slot=0):
  return points.answers(
    tiny.POLICY, params, asked, tiny.LENGTH, settings, mesh, slot
  )


@functools.cache
def fixed_for(settings, pairs_of=24):
  held_out = tiny.pairs(pairs_of, seed=1)
  asked = points.questions(held_out, settings.num_prompts, settings.seed)
  golden_pairs, held_out_pairs = (
    collectors.with_reference(
      tiny.POLICY, pairs, REFERENCE, ONE_DEVICE, SETTINGS.batch_size
    )
    for pairs in (PAIRS, held_out)
  )
  return points.Fixed(
    asked,
    points.questions(PAIRS, settings.num_kl_prompts, settings.seed),
    answers(REFERENCE, asked, slot=2),
    golden_pairs,
    held_out_pairs,
    GOLDEN,
    PROXY,
    REFERENCE,
  )


def evaluate(params, fixed=None, settings=SETTINGS, mesh=ONE_DEVICE):
  fixed = fixed_for(settings) if fixed is None else fixed
  return points.evaluate(tiny.POLICY, params, fixed, settings, mesh)


# Fixed points


def test_the_reference_has_a_kl_of_0_and_classifies_by_coin():
  point, _ = evaluate(REFERENCE)
  assert point['kl_nats'] == point['kl_sem'] == 0
  assert point['classification_accuracy'] == point['held_out_accuracy'] == 0.5
  assert point['chosen_log_ratio'] == point['rejected_log_ratio'] == 0


def test_another_policy_has_a_kl_above_0():
  point, arrays = evaluate(TRAINED)
  assert point['kl_nats'] > 0.01 and point['kl_sem'] > 0
  assert np.all(arrays['kl'] >= 0)
  assert point['chosen_log_ratio'] != 0
  assert 0 <= point['win_rate_low'] <= point['win_rate'] <= 1
  assert 1 <= point['response_length'] <= tiny.LENGTH


def test_a_policy_against_its_own_responses_wins_exactly_half():
  fixed = fixed_for(SETTINGS)
  own = fixed._replace(opponent=answers(TRAINED, fixed.win_questions))
  point, arrays = evaluate(TRAINED, own)
  np.testing.assert_array_equal(arrays['tokens'], own.opponent)
  assert point['win_rate'] == point['proxy_win_rate'] == 0.5
  assert point['win_rate_low'] is point['win_rate_high'] is None  # all tie


def test_swapping_the_roles_gives_the_complement():
  fixed = fixed_for(SETTINGS)
  ours = answers(TRAINED, fixed.win_questions)
  shown = (fixed.win_questions.prompts, ours, fixed.opponent)
  back = (shown[0], shown[2], shown[1])
  one, other = (
    estimators.win_rate(*points.preferences(GOLDEN, *rows, 8, ONE_DEVICE))
    for rows in (shown, back)
  )
  assert one + other == pytest.approx(1)
  assert evaluate(TRAINED)[0]['win_rate'] == pytest.approx(one)


def test_the_numbers_are_means_of_the_arrays_beside_them():
  point, arrays = evaluate(TRAINED)
  wins = estimators.sign_rule_wins(arrays['golden_p_ab'], arrays['golden_p_ba'])
  assert point['win_rate'] == pytest.approx(np.mean(wins))
  assert point['kl_nats'] == pytest.approx(np.mean(arrays['kl']), rel=1e-6)
  margin = arrays['chosen_log_ratio'] - arrays['rejected_log_ratio']
  right = np.mean(margin > 0)
  assert point['classification_accuracy'] == pytest.approx(right)
  right = np.mean(arrays['held_out_margin'] > 0)
  assert point['held_out_accuracy'] == pytest.approx(right)
  ends = np.any(arrays['tokens'] == 1, axis=1)
  assert point['truncated_fraction'] == pytest.approx(np.mean(~ends))


# What nothing depends on


@pytest.mark.parametrize('batch_size', [5, 24, 64])
def test_answers_do_not_depend_on_the_batch_size(batch_size):
  settings = dataclasses.replace(SETTINGS, batch_size=batch_size)
  asked = fixed_for(SETTINGS).win_questions
  np.testing.assert_array_equal(
    answers(TRAINED, asked, settings), answers(TRAINED, asked)
  )


@pytest.mark.parametrize('shape', [(4, 1), (2, 2)])
def test_answers_do_not_depend_on_the_mesh(shape):
  asked = fixed_for(SETTINGS).win_questions
  np.testing.assert_array_equal(
    answers(TRAINED, asked, mesh=partitioning.mesh(shape)),
    answers(TRAINED, asked),
  )


def test_a_point_depends_on_the_mesh_by_rounding_alone():
  one, _ = evaluate(TRAINED)
  many, _ = evaluate(TRAINED, mesh=partitioning.mesh((2, 1)))
  assert many == pytest.approx(one, abs=1e-5)


def test_an_answer_does_not_depend_on_what_else_is_asked():
  asked = fixed_for(SETTINGS).win_questions
  few = points.Questions(*(column[3:7] for column in asked))
  np.testing.assert_array_equal(
    answers(TRAINED, few), answers(TRAINED, asked)[3:7]
  )


def test_all_checkpoints_have_the_same_keys():
  """Equal parameters give equal answers; other slots and seeds do not."""
  asked = fixed_for(SETTINGS).win_questions
  first = answers(TRAINED, asked)
  copied = jax.tree.map(lambda leaf: leaf.copy(), TRAINED)
  np.testing.assert_array_equal(answers(copied, asked), first)
  assert np.any(answers(TRAINED, asked, slot=1) != first)
  other_seed = dataclasses.replace(SETTINGS, seed=1)
  assert np.any(answers(TRAINED, asked, other_seed) != first)


# Prompts


def test_questions_are_distinct_prompts_in_an_order_of_the_seed():
  asked = points.questions(PAIRS, 10, seed=0)
  assert len(set(asked.prompt_ids)) == 10
  np.testing.assert_array_equal(asked.samples, 0)
  np.testing.assert_array_equal(asked.prompts, PAIRS.prompts[asked.prompt_ids])
  more = points.questions(PAIRS, 20, seed=0)
  np.testing.assert_array_equal(more.prompt_ids[:10], asked.prompt_ids)
  other = points.questions(PAIRS, 10, seed=1)
  assert np.any(other.prompt_ids != asked.prompt_ids)


def test_a_prompt_of_several_pairs_is_asked_once():
  twice = PAIRS.take(np.repeat(np.arange(24), 2))
  asked = points.questions(twice, 24, seed=0)
  assert len(np.unique(asked.prompts, axis=0)) == 24


def test_too_few_prompts_are_asked_several_times():
  asked = points.questions(tiny.pairs(10), 24, seed=0)
  np.testing.assert_array_equal(asked.samples, np.arange(24) // 10)
  np.testing.assert_array_equal(asked.prompt_ids[:10], asked.prompt_ids[10:20])
  tokens = answers(TRAINED, asked)
  assert np.any(tokens[:10] != tokens[10:20])  # samples of their own


def test_intervals_of_repeated_prompts_go_by_prompt():
  few = points.questions(tiny.pairs(22, seed=1), 44, seed=0)
  fixed = fixed_for(SETTINGS)
  opponent = answers(REFERENCE, few, slot=2)
  fixed = fixed._replace(win_questions=few, opponent=opponent, kl_questions=few)
  point, arrays = evaluate(TRAINED, fixed)
  wins = estimators.sign_rule_wins(arrays['golden_p_ab'], arrays['golden_p_ba'])
  means = points.by_prompt(arrays['prompt_ids'], wins)
  assert len(means) == 22
  interval = estimators.bootstrap_interval(
    means, np.random.default_rng([SETTINGS.seed, 3])
  )
  assert (point['win_rate_low'], point['win_rate_high']) == interval
  nats = points.by_prompt(arrays['kl_prompt_ids'], arrays['kl'])
  expected = np.std(nats, ddof=1) / np.sqrt(22)
  assert point['kl_sem'] == pytest.approx(expected)


@pytest.mark.parametrize('count', [1, 2, 19])
def test_a_few_prompts_have_a_win_rate_without_an_interval(count):
  few = points.questions(tiny.pairs(count, seed=1), 24, seed=0)
  fixed = fixed_for(SETTINGS)._replace(
    win_questions=few, opponent=answers(REFERENCE, few, slot=2)
  )
  point, _ = evaluate(TRAINED, fixed)
  assert 0 <= point['win_rate'] <= 1
  assert point['win_rate_low'] is point['win_rate_high'] is None


def test_pairs_that_the_golden_model_calls_equal_are_no_pairs():
  pairs = tiny.pairs(4)
  likes = np.array([0.9, 0.4, 0.5, 0.2]), np.array([0.1, 0.4, 0.5, 0.8])
  kept = points.golden_pairs(pairs, likes, 'held-out pairs')
  np.testing.assert_array_equal(kept.prompt_ids, [0, 3])
  np.testing.assert_array_equal(kept.chosen[0], pairs.chosen[0])
  np.testing.assert_array_equal(kept.chosen[1], pairs.rejected[3])
  ties = likes[1], likes[1]  # it likes the first place alone
  with pytest.raises(errors.InputError, match='Held-out pairs .*of 4 .*none'):
    points.golden_pairs(pairs, ties, 'held-out pairs')


def test_one_prompt_has_a_kl_without_a_standard_error():
  fixed = fixed_for(SETTINGS)
  one = points.Questions(*(column[:1] for column in fixed.kl_questions))
  point, _ = evaluate(TRAINED, fixed._replace(kl_questions=one))
  assert point['kl_sem'] is None and point['kl_nats'] > 0


def test_means_by_prompt_are_in_the_order_of_the_prompts():
  ids = np.array([7, 3, 7, 3, 5])
  values = np.array([1.0, 0.0, 0.0, 1.0, 1.0])
  np.testing.assert_array_equal(points.by_prompt(ids, values), [0.5, 1, 0.5])


@pytest.mark.parametrize(
  'name', ['num_prompts', 'num_kl_prompts', 'num_pairs', 'batch_size']
)
def test_an_evaluation_of_nothing_is_refused(name):
  with pytest.raises(errors.InputError, match=f'{name} >= 1, got 0'):
    dataclasses.replace(SETTINGS, **{name: 0})
