"""Studies with known answers: arms that win as often as a test says."""

import dataclasses
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from dap.study.reading.evidence import Evidence
from dap.study.reading.runs import Point

SETTING = (1e-3, 0.1)
KLS = tuple(float(kl) for kl in np.geomspace(0.5, 16.0, 9))


@dataclasses.dataclass
class Synthetic:
  """Points and arrays of a made-up study.

  A response wins a prompt where the policy's rate is above a number of the
  prompt, so that two policies differ by their rates alone. What is then all
  alike has no interval: with `noise` of 1 prompts, pairs and KLs scatter.
  """

  folder: Path
  seeds: tuple[int, ...] = (0, 1)
  num_prompts: int = 400
  noise: float = 0.0
  points: list[Point] = dataclasses.field(default_factory=list)
  measures: dict = dataclasses.field(default_factory=dict)

  def arm(
    self,
    name: str,
    rate: Callable[[float], float],
    kls=KLS,
    setting=SETTING,
    **more: Callable[[float], object],
  ) -> 'Synthetic':
    """Adds a run with each seed; `rate` and `more` are functions of the KL.

    `more` are fields of points; `correct`, `chosen` and `utility` make arrays:
    the accuracy on pairs, their log-ratios and the hidden utility by prompt.
    """
    for seed in self.seeds:
      for place, kl in enumerate(kls):
        self._point(name, seed, place, kl, rate, setting, dict(more))
    return self

  def _point(self, name, seed, place, kl, rate, setting, more):
    rng = np.random.default_rng([seed, 11])
    own = np.random.default_rng(
      [seed, place, zlib.crc32(f'{name} {setting}'.encode())]
    )
    noise = lambda scale, n: self.noise * scale * own.normal(size=n)
    hard = rng.permutation(self.num_prompts) / self.num_prompts
    wins = hard + noise(0.005, self.num_prompts) < rate(kl)
    arrays = {
      'prompt_ids': np.arange(self.num_prompts),
      'golden_p_ab': wins * 1.0,
      'golden_p_ba': 1.0 - wins,
    }
    if 'utility' in more:
      value = more.pop('utility')(kl)
      moved = hard + noise(0.1, self.num_prompts)
      arrays['hidden_utility'] = value + moved - np.mean(moved)
      more['hidden_utility'] = lambda kl: value
    arrays |= self._pairs(more, kl, noise)
    file = f'{name}-{setting[0]:g}-{seed}-{place}.npz'
    np.savez(self.folder / file, **arrays)
    fields = {key: value(kl) for key, value in more.items()}
    self.points.append(
      Point(
        f'{name}_{setting[0]:g}_{setting[1]}',
        name,
        seed,
        100 * (place + 1),
        setting[0],
        {} if setting[1] is None else {'beta': setting[1]},
        kl_nats=kl * (1 + float(noise(0.005, 1)[0])),
        win_rate=float(np.mean(wins)),
        per_prompt=file,
        **fields,
      )
    )

  def _pairs(self, more, kl, noise):
    if 'correct' not in more:
      return {}
    accuracy, chosen = more.pop('correct')(kl), more.pop('chosen')(kl)
    margin = np.where(np.arange(200) < 200 * accuracy, 1.0, -1.0)
    chosen = chosen + np.linspace(-1, 1, 200) + noise(0.1, 200)
    more['classification_accuracy'] = lambda kl: accuracy
    return {'chosen_log_ratio': chosen, 'rejected_log_ratio': chosen - margin}

  def sft(self, rate: float = 0.1) -> 'Synthetic':
    """Adds the SFT policy, at a KL of 0."""
    return self.arm('sft', lambda kl: rate, (0.0,), (3e-3, None))

  def measure(self, name: str, of_seed: Callable[[int], dict]) -> 'Synthetic':
    """Adds a measure of each seed."""
    self.measures[name] = {seed: of_seed(seed) for seed in self.seeds}
    return self

  @property
  def evidence(self) -> Evidence:
    """What analyses read."""
    return Evidence(self.points, self.folder, self.measures)


def hill(top: float, at: float = 4.0, fall: float = 0.1) -> Callable:
  """A rate that is `top` at a KL and falls to both sides of it, in ln KL."""
  return lambda kl: top - fall * abs(np.log(kl / at))


def by_name(predicates) -> dict:
  """Predicates by their names."""
  return {predicate.name: predicate for predicate in predicates}
