"""Layer 6. Responses of a checkpoint as text that a person can read."""

import textwrap
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jax.sharding import Mesh
from jaxtyping import PyTree

from dap.data.datasets import PairData
from dap.data.vocabulary import Vocabulary
from dap.evaluation import points
from dap.models.trained import Trained, policy_of
from dap.records import ended


class Shown(NamedTuple):
  """Prompts to answer, and what turns ids into text."""

  asked: points.Questions
  vocabulary: Vocabulary
  length: int
  settings: points.Evaluation


def shown(
  data: PairData,
  vocabulary: Vocabulary,
  cache_dir: Path,
  count: int,
  seed: int = 0,
) -> Shown:
  """`count` held-out prompts of a data set.

  Training prompts stand in where a data set has no held-out ones.

  Raises:
    errors.InputError: the data has a mistake.
  """
  held_out = data.prepare('test', vocabulary, cache_dir)
  if not len(held_out):
    held_out = data.prepare('train', vocabulary, cache_dir)
  asked = points.questions(held_out.pairs(), count, seed)
  settings = points.Evaluation(seed=seed, batch_size=min(count, 128))
  return Shown(asked, vocabulary, data.response_length, settings)


def text(model: Trained, params: PyTree, shown: Shown, mesh: Mesh) -> str:
  """The prompts with one sampled response each, under headings."""
  tokens = points.answers(
    policy_of(model), params, shown.asked, shown.length, shown.settings, mesh
  )
  return '\n'.join(
    _entry(number, shown.vocabulary, *row)
    for number, row in enumerate(zip(shown.asked.prompts, tokens), start=1)
  )


def _entry(
  number: int, vocabulary: Vocabulary, prompt: np.ndarray, response: np.ndarray
) -> str:
  cut = '' if ended(response) else '  [cut at the limit]'
  parts = (
    ('prompt', vocabulary.decode(prompt)),
    ('response', vocabulary.decode(response) + cut),
  )
  lines = [f'--- {number} ---']
  for name, content in parts:
    body = textwrap.fill(content, 76) or '(empty)'
    lines += [f'{name}:', textwrap.indent(body, '  ')]
  return '\n'.join(lines) + '\n'
