"""Layer 7. All that a report is made of, before anything is said of it."""

from collections.abc import Sequence
from types import MappingProxyType
from typing import NamedTuple

from dap.study.reading.evidence import (
  REFUSED,
  Evidence,
  Figure,
  Predicate,
  Table,
)
from dap.study.report import fitness
from dap.study.report.pages.blocks import Json


class Answer(NamedTuple):
  """What one analysis says.

  Attributes:
    name: of the question.
    arms: that were run for it.
    measures: that were made for it.
    predicates: in its order.
    figures: in its order.
    cautions: sentences for whoever reads the others.
    tables: beside its figures.
  """

  name: str
  arms: Sequence[str]
  measures: Sequence[str]
  predicates: Sequence[Predicate]
  figures: Sequence[Figure]
  cautions: Sequence[str] = ()
  tables: Sequence[Table] = ()


class Results(NamedTuple):
  """All that a report is made of; what a study lacks is empty.

  Attributes:
    evidence: points and measures.
    study: study.json.
    samples: samples.json.
    costs: lines of costs.jsonl.
    answers: of the analyses, in the order of the study.
    made: by what and when, see `provenance.of_process`.
  """

  evidence: Evidence
  study: Json
  samples: Json
  costs: Sequence[Json]
  answers: Sequence[Answer]
  made: Json = MappingProxyType({})  # type: ignore[assignment]

  @property
  def arms(self) -> list[str]:
    """Of the analyses, in their order."""
    return list(
      dict.fromkeys(arm for each in self.answers for arm in each.arms)
    )

  @property
  def arm_of(self) -> dict[str, str]:
    """Arms by the names of their runs."""
    return {point.run: point.algorithm for point in self.evidence.points}

  @property
  def predicates(self) -> list[Predicate]:
    """Of all analyses; those that rest on an unfit judge say so."""
    return [each for answer in self.told for each in answer.predicates]

  @property
  def told(self) -> list[Answer]:
    """The answers, with what makes a verdict doubtful beside it."""
    if not fitness.of_judge(self.study):
      return list(self.answers)
    refused = bool(fitness.refusals(self.study))
    return [
      answer._replace(
        predicates=[_doubted(each, refused) for each in answer.predicates]
      )
      for answer in self.answers
    ]


def _doubted(predicate: Predicate, refused: bool) -> Predicate:
  if predicate.estimate is None or predicate.of_truth:  # nothing to doubt
    return predicate
  detail = f'{fitness.UNFIT} {predicate.detail}'.rstrip()
  verdict = REFUSED if refused else predicate.verdict
  return predicate._replace(detail=detail, verdict=verdict)
