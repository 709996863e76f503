"""Layer 8. An algorithm as `dap algorithms` tells it, in words and as JSON."""

import pathlib
import re
from typing import Any, NamedTuple

from dap.algorithms import objectives
from dap.commands import equations, experiments, places, survey, traits
from dap.commands.equations import Equation
from dap.commands.experiments import Default, Experiment
from dap.commands.traits import Traits


class Description(NamedTuple):
  """All there is to say of an algorithm.

  Attributes:
    name: of its experiment.
    summary: a clause.
    config: its experiment's file.
    parts: gin files that it is made of.
    loss: name of its function.
    equation: of its loss.
    sources: by place, where it is from: papers, code, what is ours.
    slots: of its `Algorithm`.
    traits: what follows from these.
    calls: responses that the annotator scores in a step.
    batch: prompts, or pairs, of a step.
    defaults: its numbers.
    command: that trains it.
    tests: files that test it; empty where the repository is not there.
  """

  name: str
  summary: str
  config: str
  parts: tuple[str, ...]
  loss: str
  equation: Equation
  sources: dict[str, str]
  slots: dict[str, str]
  traits: Traits
  calls: int
  batch: int
  defaults: tuple[Default, ...]
  command: str
  tests: tuple[str, ...]


def of(experiment: Experiment) -> Description:
  """The description of an experiment."""
  run = experiment.run
  parts = experiments.parts(experiment)
  function = run.algorithm.loss.function
  equation = equations.of(function, run.algorithm.signals)
  derived = traits.of(run)
  heads = {places.shorten(p): experiments.head(p)[0] for p in parts}
  own, command = experiments.head(experiment.path)
  config = places.shorten(experiment.path)
  cited = {equation.name: equation.source} if equation.source else {}
  stems = [experiment.name, *(part.stem for part in reversed(parts))]
  return Description(
    name=experiment.name,
    summary=experiments.summary(experiment),
    config=config,
    parts=tuple(heads),
    loss=objectives.name_of(function),
    equation=equation,
    sources={**cited, **heads, config: own},
    slots=traits.slots(run.algorithm),
    traits=derived,
    calls=derived.asked * run.batch_size,
    batch=run.batch_size,
    defaults=tuple(experiments.defaults(experiment)),
    command=command,
    tests=_tests(stems, objectives.name_of(function)),
  )


def as_json(description: Description) -> dict[str, Any]:
  """What json.dumps takes, with the survey's cells beside the derived."""
  row = survey.of_experiment(description.name)
  told = survey.differs(row, description.traits) if row else {}
  return {
    **description._asdict(),
    'equation': description.equation._asdict(),
    'traits': description.traits._asdict(),
    'defaults': [each._asdict() for each in description.defaults],
    'properties': dict(
      zip(survey.COLUMNS, survey.derived(description.traits), strict=True)
    ),
    'survey': row.name if row else None,
    'differs': list(told.values()),
  }


def _tests(stems: list[str], loss: str) -> tuple[str, ...]:
  """Its own test, and those of its loss, as places below the repository."""
  root = places.root() / 'tests'
  own = [root / 'algorithms' / f'{stem}_test.py' for stem in stems]
  found = [path for path in own if path.is_file()][:1]
  found += [
    path for path in sorted(root.glob('losses/*_test.py')) if _names(path, loss)
  ]
  return tuple(places.shorten(path) for path in found)


def _names(path: pathlib.Path, word: str) -> bool:
  return bool(re.search(rf'\b{word}\b', path.read_text(encoding='utf-8')))
