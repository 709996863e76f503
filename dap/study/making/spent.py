"""Layer 7. What a checkpoint cost, the rounds before it included."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dap import costs, files
from dap.records import PADDING
from dap.study.design import Study, grid
from dap.study.design.grid import Arm, GridRun, RunOf


class Spent(NamedTuple):
  """Of a training, or of a stage that samples for one.

  Attributes:
    train_flops: matmul operations.
    sampled_tokens: None where nothing tells of them.
    annotator_calls: responses that the annotator scored.
  """

  train_flops: float
  sampled_tokens: int | None
  annotator_calls: int


class Spending:
  """What the runs of one seed cost, read from its finished stages.

  What another arm wrote counts where it is a round of the same recipe: where an
  arm starts from it, or ranks its samples. Stages that several rounds read
  count once.
  """

  def __init__(self, study: Study, places: Mapping[str, Path]):
    self.study, self.places = study, places

  def of(self, arm: Arm, each: GridRun, entry: Mapping) -> dict[str, object]:
    """Fields of a point, of its line in points.json."""
    parts = [self._own(each, entry), *self._before(arm).values()]
    flops, tokens, calls = zip(*parts)
    known = [each for each in tokens if each is not None]
    return {
      'train_flops': float(sum(flops)),
      'sampled_tokens': sum(known) if len(known) == len(tokens) else None,
      'annotator_calls': sum(calls),
      'parameter_sets': len(costs.parameter_sets(each.run)),
    }

  def _own(self, each: GridRun, entry: Mapping) -> Spent:
    run, step = each.run, int(entry['step'])
    sampler = run.algorithm.sampler
    if sampler is None:
      return Spent(entry['train_flops'], 0, 0)
    rows = step * run.batch_size
    tokens = entry['sampled_tokens']
    if tokens is None:  # the run recorded no stream
      drawn = rows * (sampler.num_samples - sampler.num_data)
      tokens = _estimated(self.places[f'run/{each.name}'], step, drawn)
    asked = run.algorithm.annotator or run.algorithm.host_annotator
    calls = rows * sampler.num_samples if asked else 0
    return Spent(entry['train_flops'], tokens, calls)

  def _before(self, arm: Arm) -> dict[str, Spent]:
    """By name, so that what two rounds read is there once."""
    found: dict[str, Spent] = {}
    if arm.start:
      found |= self._run(arm.start)
    if isinstance(arm.pairs, grid.RankedPairs):
      for writer in arm.pairs.writers:
        name = self.study.samples_name(arm, arm.pairs, writer)
        found[name] = self._samples(arm, self.places[name])
        found |= self._run(writer)
    return found

  def _run(self, read: RunOf) -> dict[str, Spent]:
    """A run up to the checkpoint that is read, and all before it."""
    if read.setting is None:
      return {}  # the SFT policy is given to all
    arm, name = self.study.arms[read.arm], self.study.run_name(read)
    each = next(own for own in arm.runs(0) if own.name == name)
    step = read.step or each.run.num_steps
    entries = files.read_json(self.places[f'evaluate/{name}'] / 'points.json')
    (entry,) = (own for own in entries if own['step'] == step)
    return {**self._before(arm), name: self._own(each, entry)}

  def _samples(self, arm: Arm, place: Path) -> Spent:
    """Of responses to D_golden's prompts, each scored by the arm's judge."""
    tokens = files.read_arrays(place / 'samples.npz', ('tokens',))['tokens']
    prompts, count, _ = tokens.shape
    lengths = self.study.data.prompt_length, self.study.data.response_length
    models = (self.study.sft.model, self.study.asked(arm)[1].model)
    operations = sum(
      costs.group_operations(model, *lengths, count) for model in models
    )
    return Spent(
      prompts * operations, int(np.sum(tokens != PADDING)), prompts * count
    )


def _estimated(folder: Path, step: int, drawn: int) -> int | None:
  """Responses drawn times the mean length that was logged up to a step."""
  lengths = [
    row['response_length']
    for row in files.read_json_lines(folder / 'metrics.jsonl')
    if row['step'] <= step and 'response_length' in row
  ]
  return round(drawn * float(np.mean(lengths))) if lengths else None
