"""Layer 7. Whether a study's judge and data can carry its verdicts."""

from collections.abc import Callable, Iterable, Iterator, Mapping

from dap import estimators
from dap.study.report import care
from dap.study.report.pages.blocks import Json

ENOUGH_PROMPTS = 64  # of a judge: a win rate is then known to 0.06 at best
_FAR = 0.1  # by which agreement on train may exceed that on held-out pairs
_MOST_CUT = 0.1  # of the texts of a split
_RULES = {
  'choose_longer': 'choosing the longer response',
  'bag_of_bigrams': 'a bag of bigrams',
}
UNFIT = 'It rests on an unfit judge, see the warnings.'


def of_judge(study: Json) -> list[str]:
  """Why the golden model's word is no measure; empty where it may be one.

  Args:
    study: study.json; what an older one lacks is passed over.
  """
  return [*refusals(study), *_by_seed(study, _judge)]


def refusals(study: Json) -> list[str]:
  """The simple rules that the golden models do not surely beat, all seeds seen.

  What wins by such a judge is what it takes for better, and nobody knows what
  that is: a study gives its numbers and no verdicts. Seeds of one data set have
  the same test pairs, which count once.
  """
  found = []
  for name, words in _RULES.items():
    own = [
      (each['golden'], each['baselines'][name])
      for each in (study.get('by_seed') or {}).values()
      if _value(each.get('golden')) is not None
      and 'count' in each['golden']
      and _value((each.get('baselines') or {}).get(name)) is not None
    ]
    if not own:
      continue
    golden, rules = zip(*((_value(a), _value(b)) for a, b in own))
    counts = [each['count'] for each, _ in own]
    count = sum(counts) if len(set(rules)) > 1 else counts[0]
    held_out, rule = sum(golden) / len(own), sum(rules) / len(own)
    low, high = estimators.wilson_interval(held_out * count, count)
    if rule >= low:
      found.append(
        f'No verdicts: the golden model is not surely better than {words}. It'
        f' agrees with {held_out:.3f} [{low:.3f}, {high:.3f}] of the held-out'
        f' labels, and that with {rule:.3f}.'
      )
  return found


def of_data(study: Json) -> list[str]:
  """What makes numbers of these data another thing than they seem.

  Spoilt pairs may be of any length: policies neither learn them nor are judged
  by them.
  """
  return _by_seed(study, _data)


def _judge(own: Json) -> Iterator[str]:
  golden = own.get('golden') or {}
  held_out = _value(golden)
  for name, words in _RULES.items():
    rule = _value((own.get('baselines') or {}).get(name))
    if held_out is not None and rule is not None and held_out <= rule:
      yield (
        f'The golden model is no better than {words}: it agrees with'
        f' {held_out:.3f} of the held-out labels, and that with {rule:.3f}.'
      )
  seen = _value(golden.get('train_agreement'))
  if held_out is not None and seen is not None and seen - held_out > _FAR:
    yield (
      'The golden model knows its training pairs by heart: it agrees with'
      f' {seen:.3f} of their labels, and with {held_out:.3f} of those held out.'
    )
  asked = own.get('judging_prompts')
  if asked is not None and asked < ENOUGH_PROMPTS:
    yield (
      f'Win rates are of {asked} prompts, fewer than {ENOUGH_PROMPTS}: their'
      ' intervals are wide, and a bootstrap of so few is too narrow.'
    )


def _data(own: Json) -> Iterator[str]:
  for split, counts in (own.get('data_counts') or {}).items():
    if split == 'stress':
      continue
    for part, whole, texts in (
      ('cut_responses', 'responses', 'responses'),
      ('cut_prompts', 'examples', 'prompts'),
    ):
      share = counts.get(part, 0) / max(counts.get(whole, 0), 1)
      if share > _MOST_CUT:
        yield (
          f'{share:.0%} of the {texts} of the split {split} were cut at their'
          ' limit: what is learnt and judged are beginnings and ends.'
        )


def _by_seed(
  study: Json, of_seed: Callable[[Json], Iterable[str]]
) -> list[str]:
  return [
    f'Seed {", ".join(seeds)}: {note}' if seeds else note
    for note, seeds in care.by_seed(study, of_seed).items()
  ]


def _value(part: object) -> float | None:
  """The middle of {value, low, high}."""
  if not isinstance(part, Mapping):
    return None
  value = part.get('value', part.get('accuracy'))
  return float(value) if isinstance(value, int | float) else None
