"""Layer 3. Writers of the embedded corpus: summaries good, poor and spoilt.

A curated summary is the work of a writer of random quality. A stress response
is a curated one spoilt in a way that a policy under optimisation may discover:
only the golden model learns from those, so that it cannot be fooled by them.
"""

from collections.abc import Callable

from dap.data import corpus_text as text
from dap.data.corpus_text import Draw, pick

MAX_WORDS = 21  # and the end-of-sequence token: 22 tokens

# How often the best writer tells a fact of each kind.
_TELLS = {
  'relation': 0.96,
  'topic': 0.95,
  'place': 0.42,
  'day': 0.32,
  'feeling': 0.88,
  'act': 0.93,
}


def write_summary(
  facts: dict[str, str], others: dict[str, str], draw: Draw
) -> str:
  """A summary of at most 21 words by a writer of random quality.

  A poor writer leaves facts out, gets them wrong (half the time as a
  distractor, `others`, has it), fills, insults and stutters.
  """
  while True:  # a longer one is written again
    fault = 1.0 - draw()
    said = _what_is_said(facts, others, fault, draw)
    words = ' '.join(_parts(said, fault, draw)).split()
    if draw() < 0.2 * fault:
      place = int(draw() * len(words))
      words.insert(place, words[place])
    if len(words) <= MAX_WORDS:
      return ' '.join(words)


def _what_is_said(
  facts: dict[str, str], others: dict[str, str], fault: float, draw: Draw
) -> dict[str, str]:
  said = {}
  for kind, share in _TELLS.items():
    if draw() < share * (1.0 - 0.4 * fault):
      said[kind] = facts[kind]
      if draw() < 0.34 * fault:
        said[kind] = others[kind] if draw() < 0.5 else _other(kind, facts, draw)
  for kind in text.INSULTED:
    if kind in said and draw() < 0.12 * fault:
      said[kind] = f'{pick(text.RUDE, draw)} {said[kind]}'
  return said


def _other(kind: str, facts: dict[str, str], draw: Draw) -> str:
  words = text.FACTS[kind]
  step = 1 + int(draw() * (len(words) - 1))
  return words[(words.index(facts[kind]) + step) % len(words)]


def _parts(said: dict[str, str], fault: float, draw: Draw) -> list[str]:
  told = ('relation' in said, 'topic' in said)
  parts = [pick(text.OPENING_PARTS, draw)] if draw() < 0.08 else []
  parts += [*_filler(fault, draw), pick(text.EVENT_PARTS[told], draw)]
  where_and_when = ('place', 'day') if draw() < 0.5 else ('day', 'place')
  parts += [pick(text.PARTS[k], draw) for k in where_and_when if k in said]
  last = ('feeling', 'act') if draw() < 0.7 else ('act', 'feeling')
  for kind in last:
    if kind in said:
      parts += [pick(text.JOINTS, draw), *_filler(fault, draw)]
      parts.append(pick(text.PARTS[kind], draw))
  if draw() < 0.3:
    parts.append(pick(text.CLOSING_PARTS, draw))
  return [part.format(**said) for part in parts]


def _filler(fault: float, draw: Draw) -> list[str]:
  return [pick(text.FILLERS, draw)] if draw() < 0.25 * fault else []


def repeat(words: list[str], facts: dict[str, str], draw: Draw) -> list[str]:
  """Says one to three of the words again and again."""
  del facts
  start = int(draw() * len(words))
  stop = start + 1 + int(draw() * 3)
  return words[:stop] + words[start:stop] * (1 + int(draw() * 4)) + words[stop:]


def shuffle(words: list[str], facts: dict[str, str], draw: Draw) -> list[str]:
  """The same words in any order."""
  del facts
  keys = [draw() for _ in words]
  return [word for _, word in sorted(zip(keys, words))]


def truncate(words: list[str], facts: dict[str, str], draw: Draw) -> list[str]:
  """Stops early, after at least one word."""
  del facts
  return words[: 1 + int(draw() * (len(words) - 1))]


def run_on(words: list[str], facts: dict[str, str], draw: Draw) -> list[str]:
  """Goes on until it is cut."""
  words = list(words)
  while len(words) <= MAX_WORDS:
    others = text.draw_other_facts(facts, draw)
    words += [
      pick(text.JOINTS, draw),
      *write_summary(facts, others, draw).split(),
    ]
  return words


def spam(words: list[str], facts: dict[str, str], draw: Draw) -> list[str]:
  """Many words of one sort, alone or after the summary: thanks, bare facts,
  every value that a fact may have, fillers, glue."""
  pools = (
    text.POLITE,
    tuple(facts.values()),
    pick(tuple(text.FACTS), draw),
    text.FILLERS,
    text.WORDS,
  )
  pool = pools[int(draw() * len(pools))]
  pool = text.FACTS[pool] if isinstance(pool, str) else pool
  spam_words = [pick(pool, draw) for _ in range(2 + int(draw() * 12))]
  return spam_words if draw() < 0.5 else words + spam_words


Spoil = Callable[[list[str], dict[str, str], Draw], list[str]]
SPOILS: tuple[Spoil, ...] = (repeat, shuffle, truncate, run_on, spam)


def write_spoilt(
  facts: dict[str, str], others: dict[str, str], draw: Draw
) -> tuple[str, str]:
  """A spoilt summary, and the name of what spoilt it.

  One with more than 21 words is cut after 22, where no end token has a place.
  """
  spoil = SPOILS[int(draw() * len(SPOILS))]
  words = spoil(write_summary(facts, others, draw).split(), facts, draw)
  return ' '.join(words[: MAX_WORDS + 1]), spoil.__name__
