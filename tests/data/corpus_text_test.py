import itertools

import numpy as np
import pytest

from dap.data import corpus_text as text
from dap.data import corpus_writers as writers
from dap.errors import InputError


def draws(*values):
  """Uniform numbers given by hand, over and over."""
  return itertools.cycle(values).__next__


FACTS = dict(
  relation='boss',
  topic='rent',
  place='gym',
  day='monday',
  feeling='sad',
  act='quit',
)
POST = (
  'my boss and i argued about rent at the gym on monday . my sister says i'
  ' should wait . now i feel sad . i want to quit . am i wrong ?'
)


def test_the_words_are_about_130_and_all_different():
  assert 120 <= len(text.WORDS) <= 140
  assert len(set(text.WORDS)) == len(text.WORDS)


def test_facts_are_read_out_of_a_post_and_not_out_of_its_distractors():
  assert text.parse_facts(POST) == tuple(FACTS.values())


def test_a_post_that_lost_a_fact_is_refused_by_name():
  cut = POST.replace('now i feel sad .', '')
  with pytest.raises(InputError, match='tells no feeling'):
    text.parse_facts(cut)


@pytest.mark.parametrize('number', [0.0, 0.3, 0.6, 0.999])
def test_a_post_tells_its_facts_whatever_is_drawn(number):
  others = text.draw_other_facts(FACTS, draws(number))
  post = text.write_post(FACTS, others, draws(number, 0.5))
  assert text.parse_facts(post) == tuple(FACTS.values())
  assert len(post.split()) <= text.MAX_PROMPT_WORDS


@pytest.mark.parametrize('number', [0.0, 0.5, 0.999])
def test_other_facts_differ_in_every_kind(number):
  others = text.draw_other_facts(FACTS, draws(number))
  assert all(others[kind] != FACTS[kind] for kind in FACTS)
  assert all(others[kind] in text.FACTS[kind] for kind in FACTS)


@pytest.mark.parametrize(
  ('first', 'second', 'licensed'),
  [
    ('my', 'boss', True),
    ('about', 'rent', True),
    ('stupid', 'boss', True),  # an insult stands before who or what
    ('argued', 'argued', True),  # a stutter is a repeat, not wrong grammar
    (text.START, 'argued', True),
    ('quit', text.END, True),
    ('boss', 'rent', False),
    ('about', text.END, False),
    (text.START, 'gym', False),
    ('at', 'boss', False),
  ],
)
def test_a_bigram_is_licensed_when_a_careful_writer_can_write_it(
  first, second, licensed
):
  assert ((first, second) in text.licensed_bigrams()) == licensed


def test_spoilt_responses_end_with_22_words_at_most():
  numbers = iter(np.random.default_rng(0).random(20_000).tolist()).__next__
  others = text.draw_other_facts(FACTS, numbers)
  names = set()
  for _ in range(200):
    response, name = writers.write_spoilt(FACTS, others, numbers)
    names.add(name)
    assert 1 <= len(response.split()) <= 22
    assert set(response.split()) <= set(text.WORDS)
  assert names == {spoil.__name__ for spoil in writers.SPOILS}


def test_a_run_on_has_no_place_for_its_end():
  numbers = draws(*(i / 101 for i in range(101)))
  words = writers.run_on(['argued', 'about', 'rent'], FACTS, numbers)
  assert len(words) > writers.MAX_WORDS


def test_shuffling_keeps_the_words():
  words = ['argued', 'with', 'boss', 'about', 'rent']
  shuffled = writers.shuffle(words, FACTS, draws(0.9, 0.1, 0.5, 0.3, 0.2))
  assert shuffled == ['with', 'rent', 'about', 'boss', 'argued']
