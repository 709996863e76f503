"""Layer 5. Responses of a checkpoint as text that a person can read."""

import textwrap
from pathlib import Path
from typing import Any, NamedTuple

from dap.data.datasets import PairData
from dap.evaluation import points


class Shown(NamedTuple):
  """Whose prompts are answered: `count` of a data set's held-out prompts."""

  data: PairData
  vocabulary: Any
  cache_dir: Path
  count: int
  seed: int = 0


def text(
  policy: Any,
  params: Any,
  shown: Shown,
  mesh: Any,
  settings: points.Evaluation | None = None,
) -> str:
  """Prompts with one sampled response each, under headings.

  Training prompts stand in where a data set has no held-out ones.
  """
  settings = settings or points.Evaluation(seed=shown.seed)
  data, vocabulary = shown.data, shown.vocabulary
  held_out = data.prepare('test', vocabulary, shown.cache_dir)
  if not len(held_out):
    held_out = data.prepare('train', vocabulary, shown.cache_dir)
  asked = points.questions(held_out.pairs(), shown.count, settings.seed)
  tokens = points.answers(
    policy, params, asked, data.response_length, settings, mesh
  )
  return '\n'.join(
    _entry(number, vocabulary, *row)
    for number, row in enumerate(zip(asked.prompts, tokens), start=1)
  )


def _entry(number: int, vocabulary: Any, prompt: Any, response: Any) -> str:
  ended = '' if 1 in response else '  [cut at the limit]'
  parts = (
    ('prompt', vocabulary.decode(prompt)),
    ('response', vocabulary.decode(response) + ended),
  )
  lines = [f'--- {number} ---']
  for name, content in parts:
    body = textwrap.fill(content, 76) or '(empty)'
    lines += [f'{name}:', textwrap.indent(body, '  ')]
  return '\n'.join(lines) + '\n'
