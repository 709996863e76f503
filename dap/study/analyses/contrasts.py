"""Layer 7. Claims of the literature that one arm is better than another."""

import dataclasses
from typing import NamedTuple

from dap import errors
from dap.study.analyses import algorithm_tables, claims, comparisons, drawings
from dap.study.analyses import names as names_lib
from dap.study.analyses.claims import Claim
from dap.study.analyses.drawings import Drawn
from dap.study.reading.evidence import Evidence, Figure, Predicate, Table


class Contrast(NamedTuple):
  """A claim: the best checkpoint of `first` wins more often than `second`'s.

  Attributes:
    name: of the predicate.
    sentence: that it is.
    place: where it is claimed.
    first: arm.
    second: arm.
    third: arm, or none; with one the claim is that `first` leads `second` by
      more than `third` leads `fourth`.
    fourth: arm.
  """

  name: str
  sentence: str
  place: str
  first: str
  second: str
  third: str = ''
  fourth: str = ''

  @property
  def sides(self) -> tuple[str, ...]:
    """All arms that it is about."""
    return tuple(filter(None, self[3:]))


@dataclasses.dataclass(frozen=True)
class Contrasts:
  """Pairs of arms, and a figure of all.

  Attributes:
    title: of the question.
    name: of its figure's files.
    drawn: (arm, label) of each arm.
    claims: (name, sentence, place, better arm, worse arm) of each, and two
      arms more where the better one's lead is to exceed theirs; an SFT policy,
      `sft` or `sft_<size>`, need not be drawn.
  """

  title: str
  name: str
  drawn: tuple[tuple[str, str], ...]
  claims: tuple[tuple[str, ...], ...]

  def __post_init__(self):
    drawn = tuple((arm, label) for arm, label in self.drawn)
    object.__setattr__(self, 'drawn', drawn)
    object.__setattr__(self, 'claims', self._claims)
    names_lib.check(self, self.arms)
    for each in self._claims:
      for arm in each.sides:
        if arm not in self.arms and not arm.startswith(drawings.SFT):
          raise errors.InputError(
            f'The claim {each.name} is about {arm}, and {self.title} draws'
            f' {", ".join(self.arms)}. Add it to drawn.'
          )

  @property
  def arms(self) -> tuple[str, ...]:
    """All that are drawn."""
    return tuple(arm for arm, _ in self.drawn)

  @property
  def _claims(self) -> tuple[Contrast, ...]:
    return tuple(Contrast(*each) for each in self.claims)

  def predicates(self, evidence: Evidence) -> list[Predicate]:
    """One for each claim."""
    return [
      claims.judge(
        Claim(each.name, each.sentence, each.place),
        lambda each=each: comparisons.peak_is_higher(evidence, *each.sides),
      )
      for each in self._claims
    ]

  def figures(self, evidence: Evidence) -> list[Figure]:
    """All arms over KL."""
    figure = drawings.frontier(
      evidence,
      [Drawn(arm, arm, label) for arm, label in self.drawn],
      name=self.name,
      title=self.title,
    )
    return drawings.with_marks([figure])

  def tables(self, evidence: Evidence) -> list[Table]:
    """What each reaches, and by how much KL."""
    found = algorithm_tables.tables(evidence, self.drawn)
    return [
      each._replace(
        title=f'{self.title}: {each.title[0].lower()}{each.title[1:]}'
      )
      for each in found
    ]
