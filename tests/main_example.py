"""Two commands and what gin can bind of them, for main_test.py."""

import dataclasses
from collections.abc import Callable
from typing import Any

CALLS: list[tuple[str, dict[str, Any]]] = []


def double(x: float, *, scale: float) -> float:
  return 2 * x * scale


def plain(x: float) -> float:
  return x


@dataclasses.dataclass(frozen=True)
class Algorithm:
  loss: Callable[..., Any]
  beta: float = 1.0
  name: str | None = None

  def __post_init__(self):
    if not self.beta > 0:
      raise ValueError(f'IPO needs beta > 0, got {self.beta}.')


@dataclasses.dataclass(frozen=True)
class Embedded:
  seed: int = 0


@dataclasses.dataclass(frozen=True)
class Jsonl:
  path: str


def train(
  *,
  algorithm: Any,
  model_dir: str,
  steps: int = 3,
  source: Any = None,
  fail: Callable[[], Any] = lambda: None,
) -> None:
  fail()
  CALLS.append(
    (
      'train',
      {
        'algorithm': algorithm,
        'model_dir': model_dir,
        'steps': steps,
        'source': source,
      },
    )
  )


def study(*, algorithms: dict[str, Algorithm]) -> None:
  CALLS.append(('study', {'algorithms': algorithms}))


def dry_run(**arguments: Any) -> None:
  CALLS.append(('dry_run', arguments))


def interrupt():
  raise KeyboardInterrupt


def fill_disk():
  raise OSError(28, 'No space left on device', 'out/ipo/metrics.jsonl')


def blunder():
  raise RuntimeError('our own mistake')


NOT_CALLABLE = 3
