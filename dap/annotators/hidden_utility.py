"""Layer 3. The embedded corpus's hidden utility as a preference model.

The truth as golden model: what `corpus_utility` says of texts, said of token
ids inside a compiled program. Which of two responses it prefers depends on no
parameter, so that no policy can fool it; the one parameter that it has, the
temperature of its Bradley-Terry labels, is fitted to the human ones.
"""

import dataclasses
import functools
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, PyTree

from dap.data import corpus_text as text
from dap.data import corpus_utility as truth
from dap.data.vocabulary import Words
from dap.models import heads
from dap.models.counts import PairReading
from dap.models.protocols import LanguageModel
from dap.records import END, PADDING

_NO_FACT = -1  # where a prompt tells no fact of a kind


class _Template(NamedTuple):
  """A sentence that tells facts, as token ids.

  Attributes:
    words: id at each place; -1 where a fact stands.
    slots: (place, kind of fact).
  """

  words: tuple[int, ...]
  slots: tuple[tuple[int, int], ...]


class _Tables(NamedTuple):
  """Of the corpus's vocabulary.

  Attributes:
    inner: id that the utility gives a token.
    kinds: kind of fact that a token is; -1 of others.
    groups: of templates; a post has a sentence of each.
  """

  inner: Int[np.ndarray, ' tokens']
  kinds: Int[np.ndarray, ' tokens']
  groups: tuple[tuple[_Template, ...], ...]


def utilities(
  prompts: Int[Array, 'batch prompt_length'],
  responses: Int[Array, 'batch n length'],
) -> Float[Array, 'batch n']:
  """`corpus_utility.utilities` of n responses to each post, of token ids.

  nan where a prompt does not tell all facts: it is no post of the corpus, or
  was cut. Token ids are those of `EmbeddedCorpus.vocabulary()`.
  """
  facts = _facts(prompts)
  start = jnp.full_like(responses[..., :1], truth.START)
  after_end = jnp.cumsum(responses == END, axis=-1) - (responses == END) > 0
  rows = jnp.asarray(_tables().inner)[responses]
  rows = jnp.where(after_end, truth.PAD, rows)
  rows = jnp.concatenate([start, rows], axis=-1)
  asked = jnp.broadcast_to(
    facts[:, None], (*responses.shape[:2], facts.shape[1])
  )
  finished = jnp.any(responses == END, axis=-1)
  found = truth.hundredths(asked, rows, finished, jnp) / 100
  whole = jnp.all(facts != _NO_FACT, axis=1)
  return jnp.where(whole[:, None], found, jnp.nan)


@dataclasses.dataclass(frozen=True)
class HiddenUtility(heads.Scoring):
  """Bradley-Terry on the hidden utility, as a golden model of a study.

  Attributes:
    language_model: of the other models of the study; its vocabulary is the
      corpus's. Nothing else of it is used.
  """

  language_model: LanguageModel

  def init(self, key: Key[Array, '']) -> PyTree[Array]:
    """The logarithm of the labels' inverse temperature."""
    del key
    return {'log_scale': jnp.zeros(())}

  def logical_axes(self) -> PyTree:
    """Of the one number."""
    return {'log_scale': ()}

  def scores(
    self,
    params: PyTree,
    prompts: Int[Array, 'batch prompt_length'],
    responses: Int[Array, 'batch n length'],
  ) -> Float[Array, 'batch n']:
    """The utility of each response, in units of the labels' temperature."""
    return jnp.exp(params['log_scale']) * utilities(prompts, responses)

  def with_language_model(
    self, language_model: LanguageModel
  ) -> 'HiddenUtility':
    """The same beside another language model."""
    return dataclasses.replace(self, language_model=language_model)

  def pair_reading(
    self, prompt_length: int, response_length: int
  ) -> PairReading:
    """No language model reads anything."""
    return PairReading(0, prompt_length, 0, response_length, 0, False)

  def pair_operations(self, prompt_length: int, response_length: int) -> float:
    """No matrix is multiplied."""
    del prompt_length, response_length
    return 0.0

  def widest_bytes(
    self, prompt_length: int, response_length: int, num_devices: int
  ) -> float:
    """Which tokens of two responses are alike: a byte each."""
    del prompt_length, num_devices
    return 2.0 * (response_length + 1) ** 2


def _facts(
  prompts: Int[Array, 'batch prompt_length'],
) -> Int[Array, 'batch facts']:
  """The facts of each post, as ids of the utility.

  As `corpus_text.parse_facts` finds them: of each group the first template that
  is there, where it stands first.
  """
  tables = _tables()
  inner = jnp.asarray(tables.inner)
  found = jnp.full((prompts.shape[0], len(text.FACTS)), _NO_FACT)
  for group in tables.groups:
    done = jnp.zeros(prompts.shape[0], bool)
    for template in group:
      if len(template.words) > prompts.shape[1]:
        continue
      here = _places(prompts, template)
      first = jnp.argmax(here, axis=1)
      taken = jnp.any(here, axis=1) & ~done
      for place, kind in template.slots:
        token = jnp.take_along_axis(prompts, (first + place)[:, None], axis=1)
        told = jnp.where(taken, inner[token[:, 0]], found[:, kind])
        found = found.at[:, kind].set(told)
      done |= taken
  return found


def _places(prompts: Array, template: _Template) -> Array:
  """[batch, places] whether the template begins there."""
  kinds = jnp.asarray(_tables().kinds)
  count = prompts.shape[1] - len(template.words) + 1
  here = jnp.ones((prompts.shape[0], count), bool)
  slots = dict(template.slots)
  for place, word in enumerate(template.words):
    token = prompts[:, place : place + count]
    here &= kinds[token] == slots[place] if place in slots else token == word
  return here


@functools.cache
def _tables() -> _Tables:
  vocabulary = Words(text.WORDS)
  id_of = {word: vocabulary.encode(word)[0] for word in text.WORDS}
  inner = np.full(vocabulary.size, truth.UNKNOWN)
  inner[PADDING], inner[END] = truth.PAD, truth.END
  for word, token in id_of.items():
    inner[token] = truth.WORD_IDS[word]
  kinds = np.full(vocabulary.size, -1)
  for kind, words in enumerate(text.FACTS.values()):
    kinds[[id_of[word] for word in words]] = kind
  groups = text.EVENTS, text.FEELINGS, text.ACTS
  return _Tables(
    inner,
    kinds,
    tuple(tuple(_template(s, id_of) for s in group) for group in groups),
  )


def _template(sentence: str, id_of: dict[str, int]) -> _Template:
  names = [f'{{{kind}}}' for kind in text.FACTS]
  words = sentence.split()
  return _Template(
    tuple(-1 if word in names else id_of[word] for word in words),
    tuple(
      (place, names.index(word))
      for place, word in enumerate(words)
      if word in names
    ),
  )
