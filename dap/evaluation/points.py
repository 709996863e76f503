"""Layer 6. One checkpoint to one point of the study, with its arrays.

Prompts, the golden policy's stored responses, the judge and the random keys
are the same for every checkpoint: keys fold (evaluation seed, prompt, sample),
so two checkpoints differ on the same prompts by their parameters alone.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import PyTree

from dap import errors, estimators, partitioning
from dap.data.pairs import Pairs
from dap.evaluation import programs
from dap.losses import ranges
from dap.losses.ranges import Seed
from dap.models.protocols import Comparer, Scorer
from dap.models.trained import Policy
from dap.records import PADDING, ended
from dap.sampling.choose import InverseCdf
from dap.training import steps


@dataclasses.dataclass(frozen=True)
class Evaluation:
  """How checkpoints are evaluated; equal for all of a study.

  Attributes:
    num_prompts: held-out prompts of the win rate; fewer prompts than that are
      answered several times each, and intervals go by prompt.
    num_kl_prompts: training prompts of the KL, one sample each.
    num_pairs: pairs of D_golden, and held-out ones, of the policy as a
      classifier.
    batch_size: rows of one program call.
    seed: of the prompts' choice and of the samples.
    choose: how a token is drawn. The KL is exact for temperature 1 alone.
  """

  num_prompts: int = 512
  num_kl_prompts: int = 256
  num_pairs: int = 256
  batch_size: int = 128
  seed: Seed = 0
  choose: Callable = InverseCdf()

  def __post_init__(self):
    ranges.check(self)
    for name in ('num_prompts', 'num_kl_prompts', 'num_pairs', 'batch_size'):
      if getattr(self, name) < 1:
        raise errors.InputError(
          f'An evaluation needs {name} >= 1, got {getattr(self, name)}.'
        )


DEFAULT = Evaluation()


class Questions(NamedTuple):
  """Rows to answer: a prompt may stand in several, told apart by `sample`."""

  prompt_ids: np.ndarray
  samples: np.ndarray
  prompts: np.ndarray


class Judge(NamedTuple):
  """A preference model with its parameters."""

  model: Comparer
  params: PyTree


class Fixed(NamedTuple):
  """What all checkpoints of a study are evaluated against.

  `opponent` are the golden policy's stored responses to `win_questions`;
  `golden_pairs` are pairs that runs train on and `held_out` such that none
  does, both under golden labels and with reference log-probs.
  """

  win_questions: Questions
  kl_questions: Questions
  opponent: np.ndarray
  golden_pairs: Pairs
  held_out: Pairs
  golden: Judge
  proxy: Judge
  reference: PyTree


def questions(pairs: Pairs, count: int, seed: int) -> Questions:
  """A fixed choice of `count` rows over the distinct prompts of `pairs`.

  Prompts are drawn by a seeded permutation; with too few of them, all are
  asked again as a second, third, ... sample.
  """
  _, first = np.unique(pairs.prompts, axis=0, return_index=True)
  first = np.sort(first)
  order = np.random.default_rng([seed, 17]).permutation(len(first))
  rows = first[order]
  index = np.arange(count)
  taken = rows[index % len(rows)]
  return Questions(
    np.asarray(pairs.prompt_ids)[taken].astype(np.int32),
    (index // len(rows)).astype(np.int32),
    np.asarray(pairs.prompts)[taken],
  )


def answers(
  policy: Policy,
  params: PyTree,
  asked: Questions,
  length: int,
  settings: Evaluation,
  mesh: Mesh,
  slot: int = 0,
) -> np.ndarray:
  """One sampled response to each row; `slot` gives independent samples."""
  program = programs.answer_program(policy, length, settings.choose, mesh)
  root = jax.random.fold_in(jax.random.key(settings.seed), slot)

  def call(prompts, ids, samples):
    return program(params, prompts, ids, samples, root)

  rows = (asked.prompts, asked.prompt_ids, asked.samples)
  return programs.in_batches(call, (), rows, settings.batch_size)


def preferences(
  judge: Judge,
  prompts: np.ndarray,
  ours: np.ndarray,
  theirs: np.ndarray,
  batch_size: int,
  mesh: Mesh,
) -> tuple[np.ndarray, np.ndarray]:
  """(p_ab, p_ba) of our response against theirs, by row."""
  program = programs.judge_program(judge.model, mesh)
  return programs.in_batches(
    program, (judge.params,), (prompts, ours, theirs), batch_size
  )


def golden_pairs(
  pairs: Pairs, preferences: tuple[np.ndarray, np.ndarray], what: str
) -> Pairs:
  """The pairs under the golden model's labels, without those it calls equal.

  Args:
    pairs: as they were shown, the first response as the chosen one.
    preferences: of them, see `preferences`.
    what: the pairs are, for the message.

  Raises:
    errors.InputError: it prefers neither response of any pair.
  """
  wins = estimators.sign_rule_wins(*preferences)
  if not np.any(wins != 0.5):
    raise errors.InputError(
      f'{what.capitalize()} need golden labels; of {len(pairs)} the golden'
      ' model prefers neither response of any, and none is left. Look at them'
      ' with `dap data`: are the two responses alike to its vocabulary? Or'
      ' give another golden model.'
    )
  return pairs.relabelled(wins > 0.5, wins != 0.5)


def log_ratios(
  policy: Policy, params: PyTree, pairs: Pairs, batch_size: int, mesh: Mesh
) -> tuple[np.ndarray, np.ndarray]:
  """Log-ratios (chosen, rejected) of pairs that carry reference log-probs."""
  program = steps.log_probs_program(policy, mesh)
  both = np.stack([pairs.chosen, pairs.rejected], axis=1)
  log_probs = programs.in_batches(
    program, (params,), (pairs.prompts, both), batch_size
  )
  chosen = np.sum(log_probs[:, 0] - pairs.reference.chosen, axis=1)
  rejected = np.sum(log_probs[:, 1] - pairs.reference.rejected, axis=1)
  return chosen, rejected


def by_prompt(prompt_ids: np.ndarray, values: np.ndarray) -> np.ndarray:
  """Means of `values` over the rows of each prompt, prompts ascending."""
  _, group = np.unique(prompt_ids, return_inverse=True)
  return np.bincount(group, values) / np.bincount(group)


def evaluate(
  policy: Policy,
  params: PyTree,
  fixed: Fixed,
  settings: Evaluation,
  mesh: Mesh | None = None,
) -> tuple[dict[str, float | None], dict[str, np.ndarray]]:
  """The numbers of one checkpoint and the arrays they are means of.

  Returns:
    The fields of a line of runs.jsonl that depend on the checkpoint alone, and
    per-prompt arrays under the names that statistics read.
  """
  mesh = partitioning.mesh((1, 1)) if mesh is None else mesh
  answered = answer(policy, params, fixed, settings, mesh)
  return judge([answered], fixed, settings, mesh)[0]


class Answered(NamedTuple):
  """What a checkpoint answered and scored, before anyone judges: arrays by row.

  Attributes:
    tokens: responses to the win rate's questions.
    kl_tokens: to the KL's questions.
    kl: nats of each of those.
    log_ratios: of D_golden's pairs, chosen and rejected.
    held_out_margin: log-ratio of the chosen less that of the rejected.
  """

  tokens: np.ndarray
  kl_tokens: np.ndarray
  kl: np.ndarray
  log_ratios: tuple[np.ndarray, np.ndarray]
  held_out_margin: np.ndarray


class _Judged(NamedTuple):
  """(p_ab, p_ba) of each answer by both judges."""

  golden: tuple[np.ndarray, np.ndarray]
  proxy: tuple[np.ndarray, np.ndarray]


def answer(
  policy: Policy,
  params: PyTree,
  fixed: Fixed,
  settings: Evaluation,
  mesh: Mesh,
) -> Answered:
  """What needs the checkpoint; the rest of its evaluation is `judge`."""
  size, length = settings.batch_size, fixed.opponent.shape[1]
  questions, kl_questions = fixed.win_questions, fixed.kl_questions
  tokens = answers(policy, params, questions, length, settings, mesh)
  sampled = answers(
    policy, params, kl_questions, length, settings, mesh, slot=1
  )
  kl = programs.in_batches(
    programs.kl_program(policy, mesh),
    (params, fixed.reference),
    (kl_questions.prompts, sampled),
    size,
  )
  golden_pairs = log_ratios(policy, params, fixed.golden_pairs, size, mesh)
  chosen, rejected = log_ratios(policy, params, fixed.held_out, size, mesh)
  return Answered(tokens, sampled, kl, golden_pairs, chosen - rejected)


def judge(
  several: Sequence[Answered], fixed: Fixed, settings: Evaluation, mesh: Mesh
) -> list[tuple[dict[str, float | None], dict[str, np.ndarray]]]:
  """What `evaluate` gives of each checkpoint.

  A judge that scores one response reads a prompt and the opponent's response
  once for all of them.
  """
  tokens = np.stack([each.tokens for each in several], axis=1)
  golden, proxy = (
    _preferences_of_all(judge, fixed, tokens, settings.batch_size, mesh)
    for judge in (fixed.golden, fixed.proxy)
  )
  found = []
  for each, of_golden, of_proxy in zip(several, golden, proxy):
    judged = _Judged(of_golden, of_proxy)
    point = _point(each, judged, fixed, settings.seed)
    found.append((point, _arrays(each, judged, fixed)))
  return found


def _preferences_of_all(
  judge: Judge, fixed: Fixed, tokens: np.ndarray, size: int, mesh: Mesh
) -> list[tuple[np.ndarray, np.ndarray]]:
  """`preferences` for each of several responses [rows, count, length]."""
  prompts, count = fixed.win_questions.prompts, tokens.shape[1]
  if count == 1 or not isinstance(judge.model, Scorer):
    return [
      preferences(judge, prompts, own, fixed.opponent, size, mesh)
      for own in tokens.swapaxes(0, 1)
    ]
  devices = mesh.shape['data']
  rows = devices * max(1, size // (count * devices))
  p_ab, p_ba = programs.in_batches(
    programs.judge_all_program(judge.model, mesh),
    (judge.params,),
    (prompts, tokens, fixed.opponent),
    rows,
  )
  return list(zip(p_ab.T, p_ba.T))


def _point(
  asked: Answered, judged: _Judged, fixed: Fixed, seed: int
) -> dict[str, float | None]:
  ids = fixed.win_questions.prompt_ids
  wins = by_prompt(ids, estimators.sign_rule_wins(*judged.golden))
  proxy_wins = by_prompt(ids, estimators.sign_rule_wins(*judged.proxy))
  low, high = _interval(wins, len(asked.tokens), seed)
  nats = by_prompt(fixed.kl_questions.prompt_ids, asked.kl)
  chosen, rejected = asked.log_ratios
  accuracy = estimators.classification_accuracy
  lengths = np.sum(asked.tokens > PADDING, axis=1)
  return {
    'kl_nats': float(np.mean(nats)),
    'kl_sem': _standard_error(nats),
    'win_rate': float(np.mean(wins)),
    'win_rate_low': low,
    'win_rate_high': high,
    'proxy_win_rate': float(np.mean(proxy_wins)),
    'classification_accuracy': accuracy(chosen - rejected),
    'held_out_accuracy': accuracy(asked.held_out_margin),
    'chosen_log_ratio': estimators.relative_log_prob(chosen),
    'rejected_log_ratio': estimators.relative_log_prob(rejected),
    'response_length': float(np.mean(lengths)),
    'truncated_fraction': float(np.mean(~ended(asked.tokens))),
  }


def _arrays(
  asked: Answered, judged: _Judged, fixed: Fixed
) -> dict[str, np.ndarray]:
  golden_ab, golden_ba = judged.golden
  proxy_ab, proxy_ba = judged.proxy
  chosen, rejected = asked.log_ratios
  return {
    'prompt_ids': fixed.win_questions.prompt_ids,
    'samples': fixed.win_questions.samples,
    'golden_p_ab': golden_ab,
    'golden_p_ba': golden_ba,
    'proxy_p_ab': proxy_ab,
    'proxy_p_ba': proxy_ba,
    'tokens': asked.tokens,
    'kl_prompt_ids': fixed.kl_questions.prompt_ids,
    'kl': asked.kl,
    'kl_tokens': asked.kl_tokens,
    'chosen_log_ratio': chosen,
    'rejected_log_ratio': rejected,
    'held_out_margin': asked.held_out_margin,
  }


def _standard_error(values: np.ndarray) -> float | None:
  """Of the mean over prompts; None where one prompt tells nothing of it."""
  if len(values) < 2:
    return None
  return float(np.std(values, ddof=1) / np.sqrt(len(values)))


def _interval(
  wins: np.ndarray, num_rows: int, seed: int
) -> tuple[float | None, float | None]:
  """Wilson's for one sample a prompt, else the bootstrap over prompts.

  Nothing where the prompts are too few, or all alike, to tell one.
  """
  rng = np.random.default_rng([seed, 3])
  of = estimators.interval_over_prompts
  if num_rows == len(wins):
    of = estimators.win_rate_interval
  return of(wins, rng) or (None, None)
