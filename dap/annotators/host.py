"""Layer 3. Annotators that are asked on the host, between two programs.

They read texts: an LLM judge behind a network, unit tests, a rule. What they
said is kept by content, so that a restart never asks twice.
"""

import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from dap import errors, files


@runtime_checkable
class HostAnnotator(Protocol):
  """A frozen value."""

  def ask(self, prompts: list[str], responses: list[list[str]]) -> np.ndarray:
    """The score of each response, `[prompts, n]`."""
    ...


@dataclasses.dataclass(frozen=True)
class Rule:
  """Scores texts by a function of (prompt, response).

  Attributes:
    score: a number for one response; higher is better.
  """

  score: Callable[[str, str], float]

  def ask(self, prompts: list[str], responses: list[list[str]]) -> np.ndarray:
    """See `HostAnnotator`."""
    return np.array(
      [
        [self.score(prompt, each) for each in group]
        for prompt, group in zip(prompts, responses, strict=True)
      ],
      np.float32,
    )


def shorter(prompt: str, response: str) -> float:
  """A rule: the fewer words the better."""
  del prompt
  return -float(len(response.split()))


class Answers:
  """What a host annotator said, in `answers.jsonl`, by a hash of the texts.

  A line that was cut off by a kill is dropped and asked again.
  """

  def __init__(self, annotator: HostAnnotator, path: pathlib.Path, name: str):
    """Reads what stands there.

    Args:
      annotator: that is asked about what is not there.
      path: of the file.
      name: a hash of the annotator, so that another one's answers are not
        taken for its own.
    """
    self._annotator, self._path, self._name = annotator, path, name
    files.truncate_json_lines(path, lambda line: True)
    lines = files.read_json_lines(path) if path.exists() else []
    self._known = {line['key']: line['scores'] for line in lines}

  def ask(
    self, prompts: Sequence[str], responses: Sequence[Sequence[str]]
  ) -> np.ndarray:
    """The scores, of which only those unknown are asked for.

    Raises:
      errors.InputError: the answers have another shape than the questions.
    """
    keys = [
      self._key(prompt, group)
      for prompt, group in zip(prompts, responses, strict=True)
    ]
    new = {key: row for row, key in enumerate(keys) if key not in self._known}
    if new:
      asked = [prompts[row] for row in new.values()]
      groups = [list(responses[row]) for row in new.values()]
      said = np.asarray(self._annotator.ask(asked, groups), np.float32)
      if said.shape != (len(asked), len(groups[0])):
        raise errors.InputError(
          f'{type(self._annotator).__name__}.ask must give a score for each'
          f' response, {(len(asked), len(groups[0]))}, got {said.shape}.'
        )
      lines = [
        {'key': key, 'scores': scores.tolist()}
        for key, scores in zip(new, said, strict=True)
      ]
      files.append_json_lines(self._path, lines)
      self._known |= {line['key']: line['scores'] for line in lines}
    return np.array([self._known[key] for key in keys], np.float32)

  def _key(self, prompt: str, group: Sequence[str]) -> str:
    content = json.dumps([self._name, prompt, list(group)])
    return hashlib.sha256(content.encode()).hexdigest()[:32]
