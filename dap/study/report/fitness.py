"""Layer 7. Whether a study's judge and data can carry its verdicts."""

from collections.abc import Callable, Iterable, Iterator, Mapping

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
  return _by_seed(study, _judge)


def refuses(study: Json) -> bool:
  """Whether some seed's golden model is not surely better than simple rules.

  What wins by such a judge is what it takes for better, and nobody knows what
  that is: a study gives its numbers and no verdicts.
  """
  return any(_equalled(own) for own in (study.get('by_seed') or {}).values())


def of_data(study: Json) -> list[str]:
  """What makes numbers of these data another thing than they seem.

  Spoilt pairs may be of any length: policies neither learn them nor are judged
  by them.
  """
  return _by_seed(study, _data)


def _judge(own: Json) -> Iterator[str]:
  yield from _equalled(own)
  golden = own.get('golden') or {}
  held_out = _value(golden)
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


def _equalled(own: Json) -> list[str]:
  """What is said of the rules that a seed's golden model does not beat."""
  golden, found = own.get('golden') or {}, []
  held_out = _value(golden)
  for name, words in _RULES.items():
    rule = _value((own.get('baselines') or {}).get(name))
    if held_out is None or rule is None or rule < golden.get('low', held_out):
      continue
    how = 'no better' if held_out <= rule else 'not surely better'
    ends = ''
    if 'low' in golden:
      ends = f' (95 %: {golden["low"]:.3f} to {golden["high"]:.3f})'
    found.append(
      f'The golden model is {how} than {words}: it agrees with'
      f' {held_out:.3f}{ends} of the held-out labels, and that with {rule:.3f}.'
      ' What rests on its word has no verdict.'
    )
  return found


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
