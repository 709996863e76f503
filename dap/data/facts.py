"""Layer 3. What became of the rows of a split: counts, lengths, words.

Counts are kept in `facts.json` beside the arrays; `notes` says of them what a
reader of numbers must know, in `dap data`, when a training starts and in the
reports of studies.
"""

import functools
import math
from collections import Counter
from collections.abc import Callable, Mapping

PERCENTS = (50, 90, 95, 99, 100)
Lengths = dict[str, dict[str, int]]  # by 'prompts' and 'responses', by percent

# Takes counts, lengths and the rule, says for people what became of the rows.
Report = Callable[[Counter[str], tuple[int, int], Callable], str]

_MISTAKES = {
  'malformed': 'in what the rows hold',
  'no_ids': 'without ids of the vocabulary',
  'beyond_end': 'with ids after the end',
  'same_ids': 'whose responses are the same ids',
  'against_scores': 'labelled against their own scores',
}


def quantiles(histogram: Mapping[int, int]) -> dict[str, int]:
  """The least length that so many percent of the texts do not exceed.

  Args:
    histogram: how many texts have each length; {} gives zeros.
  """
  total = sum(histogram.values())
  found, seen, lengths = {}, 0, iter(sorted(histogram.items()))
  length = 0
  for percent in PERCENTS:
    while seen < math.ceil(percent * total / 100):
      length, count = next(lengths)
      seen += count
    found[str(percent)] = length
  return found


def length_table(
  lengths: Lengths, counts: Mapping[str, int], limits: tuple[int, int]
) -> list[str]:
  """Lines for people: how long the texts are, and what the limits cut.

  Args:
    lengths: of `Prepared`, as are the counts.
    counts: of the same split.
    limits: most tokens of a prompt and of a response.
  """
  had = Counter(counts)
  cut = ('cut_prompts', 'examples'), ('long_responses', 'responses')
  heads = (*(f'{p} %' for p in PERCENTS[:-1]), 'most', 'limit', 'longer')
  lines = [f'  {"tokens":<9}' + ''.join(f'{head:>8}' for head in heads)]
  names = ('prompts', 'responses')
  for name, limit, (part, whole) in zip(names, limits, cut):
    own = lengths[name]
    share = f'{100 * had[part] / max(had[whole], 1):.1f} %'
    cells = (*(own[str(percent)] for percent in PERCENTS), limit, share)
    lines.append(f'  {name:<9}' + ''.join(f'{cell:>8}' for cell in cells))
  return lines


def suggested_lengths(lengths: Lengths) -> str:
  """The least limits that cut 1 % and 5 % of the texts at most, in a line."""
  prompts, responses = lengths['prompts'], lengths['responses']
  said = [
    f'{100 - percent} % of each: PROMPT_LENGTH={prompts[str(percent)]}'
    f' RESPONSE_LENGTH={responses[str(percent)]}'
    for percent in (99, 95)
  ]
  return f'  Lengths that cut at most {"; ".join(said)}'


def cut_report(
  counts: Counter[str], lengths: tuple[int, int], rule: Callable
) -> str:
  """What the rule did, and what was long."""
  share = functools.partial(_share, counts)
  name = getattr(rule, '__name__', repr(rule))
  outcome = 'were cut'
  if counts['left_out']:
    outcome = share('left_out', 'rows').format('examples') + ' were left out'
  report = (
    f'{counts["examples"]} examples.'
    f' {share("long_responses", "responses").format("responses")} were longer'
    f' than {lengths[1]} tokens and {outcome} (rule: {name}).'
    f' {share("cut_prompts", "examples").format("prompts")} were longer than'
    f' {lengths[0]} tokens and lost their beginning.'
  )
  return ' '.join([report, *_unknown(counts), *notes(counts)])


def given_report(
  counts: Counter[str], lengths: tuple[int, int], rule: Callable
) -> str:
  """Of ids that came cut: what was longer can be told by what is full."""
  del rule
  share = functools.partial(_share, counts)
  report = (
    f'{counts["examples"]} examples, whose ids seqio had cut already.'
    f' {share("full_responses", "responses").format("responses")} fill their'
    f' {lengths[1]} tokens without an end: cut, or without one from the start.'
    f' {share("full_prompts", "examples").format("prompts")} fill their'
    f' {lengths[0]} tokens: at most these lost something.'
  )
  return ' '.join([report, *_unknown(counts), *notes(counts)])


def notes(counts: Mapping[str, int]) -> list[str]:
  """Sentences on what else is to be known of a split; none where all is well.

  Args:
    counts: of `Prepared`; those that it lacks are 0.
  """
  had = Counter(counts)
  share = functools.partial(_share, had)
  found = []
  if had['mistakes']:
    kinds = [f'{had[k]} {said}' for k, said in _MISTAKES.items() if had[k]]
    rows = share('mistakes', 'rows').format('rows')
    found.append(f'{rows} were left out for mistakes: {", ".join(kinds)}.')
  if had['same_cut']:
    pairs = share('same_cut', 'rows').format('pairs')
    found.append(
      f'{pairs} were left out, as their responses are the same ids once they'
      ' are cut.'
    )
  if had['same_kept']:
    pairs = share('same_kept', 'examples').format('pairs')
    found.append(f'{pairs} have the same ids twice, and stay as ties.')
  if had['no_end']:
    short = share('no_end', 'responses').format('responses')
    found.append(
      f'{short} have no end and are not cut: a policy does not learn to stop'
      ' on them.'
    )
  if had['doubtful_scores']:
    pairs = share('doubtful_scores', 'examples').format('pairs')
    found.append(
      f'{pairs} have a response whose overall score of 10 stands beside low'
      ' ratings.'
    )
  if had['merged_prompts']:
    merged = had['merged_prompts']
    texts = had['prompts'] + merged
    found.append(
      f'{merged} of {texts} prompts ({100 * merged / texts:.1f} %) differ as'
      f' texts from another one and are the same ids{_once_cut(had)}.'
    )
  return [*found, *in_train(had)]


def in_train(counts: Mapping[str, int]) -> list[str]:
  """The sentence on test prompts that stand in `train`, or none."""
  had = Counter(counts)
  if not had['prompts_in_train']:
    return []
  prompts = _share(had, 'prompts_in_train', 'prompts').format('test prompts')
  outcome = ''
  if had['repeats_left_out']:
    outcome = f', and {had["repeats_left_out"]} examples of them were left out'
  return [f'{prompts} stand in train too{_once_cut(had)}{outcome}.']


def _once_cut(counts: Counter[str]) -> str:
  return ' once they are cut' if counts['cut_prompts'] else ''


def _unknown(counts: Counter[str]) -> list[str]:
  if not counts['unknown']:
    return []
  unknown = _share(counts, 'unknown', 'tokens').format('tokens')
  return [f'{unknown} are unknown to the vocabulary.']


def _share(counts: Counter[str], part: str, whole: str) -> str:
  percent = 100 * counts[part] / max(counts[whole], 1)
  return f'{counts[part]} of {counts[whole]} {{}} ({percent:.1f} %)'
