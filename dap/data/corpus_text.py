"""Layer 3. The words and sentences of the embedded corpus: posts and TL;DRs.

A post tells six facts, one word each; a summary tells some of them again. Both
are put together from the templates below, so that facts can be read back out
of any post (`parse_facts`) and so that the pairs of neighbouring words that a
careful writer can produce are known (`licensed_bigrams`).

Whoever writes is handed `draw`, which returns the next of a stream of numbers
uniform in [0, 1).
"""

import re
from collections.abc import Callable, Iterator, Sequence
from functools import cache, lru_cache
from itertools import pairwise

from dap.errors import InputError

Draw = Callable[[], float]

FACTS: dict[str, tuple[str, ...]] = {
  kind: tuple(words.split())
  for kind, words in {
    'relation': 'sister brother mother father cousin friend boss neighbor'
    ' roommate coworker partner teacher',
    'topic': 'money rent noise chores dinner music politics parking'
    ' homework travel laundry pets',
    'place': 'gym office beach park cafe station library mall',
    'day': 'monday tuesday wednesday thursday friday saturday sunday',
    'feeling': 'angry sad tired worried guilty lonely confused scared',
    'act': 'leave apologize wait move talk quit refuse complain',
  }.items()
}
POLITE = ('please', 'thanks', 'cheers')
RUDE = ('stupid', 'dumb', 'pathetic', 'idiotic')
FILLERS = ('um', 'well', 'basically', 'honestly', 'literally')

# Sentences of a post. The first three kinds carry the facts, in words that no
# distractor shares; `parse_facts` looks for them.
EVENTS = (
  'my {relation} and i argued about {topic} at the {place} on {day} .',
  'on {day} my {relation} and i fought over {topic} at the {place} .',
  'i had a fight with my {relation} about {topic} at the {place} on {day} .',
  'on {day} at the {place} my {relation} yelled at me about {topic} .',
  'at the {place} on {day} i fought with my {relation} over {topic} .',
)
FEELINGS = (
  'now i feel {feeling} .',
  'i am still {feeling} .',
  'it makes me feel {feeling} .',
)
ACTS = ('i want to {act} .', 'i plan to {act} soon .', 'i will {act} now .')
DISTRACTORS = (
  'my {relation} says i should {act} .',
  'my {relation} was {feeling} too .',
  'last {day} it was about {topic} .',
  'i missed the {place} that {day} .',
  'nobody else knows about it .',
  'it was raining all day .',
  'the bus was late again .',
  'i slept badly .',
  'we met years ago .',
  'this is not new .',
)
OPENERS = ('hello all .', 'long story .', 'first post here .')
CLOSERS = ('what should i do ?', 'am i wrong ?', 'any advice ?')

# Parts of a summary, by the facts that a part tells.
EVENT_PARTS: dict[tuple[bool, bool], tuple[str, ...]] = {
  (True, True): (
    'my {relation} and i argued about {topic}',
    'fought with my {relation} over {topic}',
    'argued with {relation} about {topic}',
    '{relation} yelled at me about {topic}',
    'had a fight with {relation} over {topic}',
  ),
  (True, False): (
    'my {relation} and i argued',
    'fought with my {relation}',
    '{relation} yelled at me',
  ),
  (False, True): ('argued about {topic}', 'had a fight over {topic}'),
  (False, False): ('had a fight', 'argued'),
}
PLACE_PARTS = ('at the {place}', 'at {place}')
DAY_PARTS = ('on {day}', 'last {day}')
FEELING_PARTS = ('i feel {feeling}', 'feel {feeling}', 'now {feeling}')
ACT_PARTS = ('i want to {act}', 'want to {act}', 'plan to {act}')
JOINTS = (',', 'and', '.', 'so')
CLOSING_PARTS = ('. thanks', '. cheers', '. please help', '. please advise')
OPENING_PARTS = ('please help ,', 'hello all ,')
MAX_PROMPT_WORDS = 40
START, END = '<start>', '<end>'  # the edges of a response, as neighbours


def _words_of(*templates: Sequence[str]) -> Iterator[str]:
  for group in templates:
    for template in group:
      yield from (w for w in template.split() if not w.startswith('{'))


_GLUE = dict.fromkeys(
  _words_of(
    EVENTS,
    FEELINGS,
    ACTS,
    DISTRACTORS,
    OPENERS,
    CLOSERS,
    *EVENT_PARTS.values(),
    PLACE_PARTS,
    DAY_PARTS,
    FEELING_PARTS,
    ACT_PARTS,
    JOINTS,
    OPENING_PARTS,
    CLOSING_PARTS,
  )
)
_FACT_WORDS = tuple(word for words in FACTS.values() for word in words)
WORDS = tuple(dict.fromkeys((*_FACT_WORDS, *POLITE, *RUDE, *FILLERS, *_GLUE)))

# Which kind of part may stand next to which in a summary.
_FOLLOWERS = {
  'start': ('opening', 'filler', 'event'),
  'opening': ('filler', 'event'),
  'filler': ('event', 'feeling', 'act'),
  'event': ('place', 'day', 'joint', 'closing', 'end'),
  'place': ('day', 'joint', 'closing', 'end'),
  'day': ('place', 'joint', 'closing', 'end'),
  'joint': ('filler', 'feeling', 'act'),
  'feeling': ('joint', 'closing', 'end'),
  'act': ('joint', 'closing', 'end'),
  'closing': ('end',),
}
PARTS: dict[str, tuple[str, ...]] = {
  'start': (START,),
  'opening': OPENING_PARTS,
  'filler': FILLERS,
  'event': tuple(part for group in EVENT_PARTS.values() for part in group),
  'place': PLACE_PARTS,
  'day': DAY_PARTS,
  'joint': JOINTS,
  'feeling': FEELING_PARTS,
  'act': ACT_PARTS,
  'closing': CLOSING_PARTS,
  'end': (END,),
}
INSULTED = ('relation', 'topic')  # what a rude word may stand before


def pick(options: Sequence[str], draw: Draw) -> str:
  """One of the options, all equally likely."""
  return options[int(draw() * len(options))]


def draw_facts(draw: Draw) -> dict[str, str]:
  """One word of each kind."""
  return {kind: pick(words, draw) for kind, words in FACTS.items()}


def draw_other_facts(facts: dict[str, str], draw: Draw) -> dict[str, str]:
  """Facts that differ from the given ones in every kind."""
  other = {}
  for kind, words in FACTS.items():
    step = 1 + int(draw() * (len(words) - 1))
    other[kind] = words[(words.index(facts[kind]) + step) % len(words)]
  return other


def write_post(
  facts: dict[str, str], others: dict[str, str], draw: Draw
) -> str:
  """A post of at most 40 words that tells `facts` among distractors.

  Distractors about other people and days say `others`, in sentences that are
  not those of the facts.
  """
  feeling, act = pick(FEELINGS, draw), pick(ACTS, draw)
  ordered = (feeling, act) if draw() < 0.7 else (act, feeling)
  body = [line.format(**facts) for line in (pick(EVENTS, draw), *ordered)]
  opening = [pick(OPENERS, draw)] if draw() < 0.25 else []
  closing = [pick(CLOSERS, draw)]
  room = MAX_PROMPT_WORDS - int(draw() * 5)
  room -= sum(len(line.split()) for line in (*opening, *body, *closing))
  unused = list(DISTRACTORS)
  while unused and room >= 4:
    line = unused.pop(int(draw() * len(unused)))
    length = len(line.split())
    if length <= room:
      place = int(draw() * (len(body) + 1))
      body.insert(place, line.format(**others))
      room -= length
  return ' '.join((*opening, *body, *closing))


def _fact_pattern(template: str) -> re.Pattern[str]:
  pattern = re.escape(template)
  for kind, words in FACTS.items():
    slot = re.escape('{' + kind + '}')
    pattern = pattern.replace(slot, f'(?P<{kind}>{"|".join(words)})')
  return re.compile(rf'(?:^|(?<=\s)){pattern}')


_FACT_PATTERNS = tuple(
  tuple(map(_fact_pattern, group)) for group in (EVENTS, FEELINGS, ACTS)
)


@lru_cache(1 << 16)
def parse_facts(post: str) -> tuple[str, ...]:
  """The six facts of a post, in the order of `FACTS`.

  Raises:
    InputError: the text does not tell all six; it is no post of this corpus.
  """
  found: dict[str, str] = {}
  for group in _FACT_PATTERNS:
    for pattern in group:
      if match := pattern.search(post):
        found |= match.groupdict()
        break
  missing = [kind for kind in FACTS if kind not in found]
  if missing:
    raise InputError(
      'The hidden utility needs a whole post of the embedded corpus; this one'
      f' tells no {", no ".join(missing)}: {post!r}. Score the prompt as the'
      ' corpus wrote it, not as a shorter prompt length cut it.'
    )
  return tuple(found[kind] for kind in FACTS)


@cache
def licensed_bigrams() -> frozenset[tuple[str, str]]:
  """Neighbouring words that a careful writer may produce, edges included.

  Not the content but the wording counts: a slot stands for all its words. A
  word may also follow itself (a stutter), which costs as a repeat instead.
  """
  licensed = {(word, word) for word in WORDS}
  for kind, followers in _FOLLOWERS.items():
    for part in PARTS[kind]:
      for first, second in pairwise(part.split()):
        licensed |= _expand(first, second)
      for follower in followers:
        for next_part in PARTS[follower]:
          licensed |= _expand(part.split()[-1], next_part.split()[0])
  return frozenset(licensed)


def _expand(first: str, second: str) -> set[tuple[str, str]]:
  before, after = _slot_words(first), _slot_words(second)
  bigrams = {(a, b) for a in before for b in after}
  if second.strip('{}') in INSULTED:
    bigrams |= {(a, rude) for a in before for rude in RUDE}
    bigrams |= {(rude, b) for rude in RUDE for b in after}
  return bigrams


def _slot_words(token: str) -> tuple[str, ...]:
  return FACTS[token[1:-1]] if token.startswith('{') else (token,)
