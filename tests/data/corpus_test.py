import dataclasses
import hashlib
import itertools
import json

import numpy as np
import pytest

from dap.data import corpus
from dap.data import corpus_text as text
from dap.data import corpus_utility as truth
from dap.data.corpus import EmbeddedCorpus
from dap.errors import InputError

SMALL = EmbeddedCorpus(seed=3, num_train=600, num_stress=300, num_test=300)
SIDES = ('chosen', 'rejected')
POST = (
  'my boss and i argued about rent at the gym on monday . my sister says i'
  ' should wait . now i feel sad . i want to quit . am i wrong ?'
)


@pytest.mark.parametrize(
  ('response', 'expected'),
  [
    # relation 1 + topic 1 + feeling .7 + act 1
    ('argued with boss about rent , feel sad and want to quit', 3.7),
    # + place .35 + day .35 - .12 (17 words are 5 beyond 12) * 5
    (
      'argued with boss about rent at the gym on monday , feel sad and want to'
      ' quit',
      3.8,
    ),
    ('argued with boss about rent', 2.0),
    # topic 1 - wrong relation (.6 + .6 * 1)
    ('argued with sister about rent', -0.2),
    # relation 1 - wrong topic 1.2; - wrong feeling (.6 + .6 * .7)
    ('argued with boss about noise , feel angry', -1.22),
    ('argued with boss about rent . thanks', 2.5),
    ('argued with boss about rent . please help', 2.5),
    # politeness .5, then -.4 for the second
    ('please help , argued with boss about rent . thanks', 2.1),
    ('argued with stupid boss about rent', 1.0),
    ('um argued with boss about rent', 1.85),
    # a repeat -.25: the same word at once, or one that is no glue again
    ('argued argued with boss about rent', 1.75),
    # said again: -.25; (rent, rent) itself is no wrong grammar
    ('argued with boss about rent rent', 1.75),
    # a wrong fact said twice is wrong once, and a repeat
    ('argued about noise noise', -1.45),
    # (boss, rent) is unlicensed; a part may begin with boss, end with rent
    ('boss rent', 1.6),
    # unknown words are neighbours that nobody licensed: two bigrams
    ('argued with boss about rent 漢', 1.2),
    ('', -0.4),  # (<start>, <end>)
  ],
)
def test_the_hidden_utility_adds_up(response, expected):
  assert truth.utility(POST, response, True) == pytest.approx(expected)


def test_a_response_without_an_end_loses_one():
  cut = 'argued with boss about rent'
  finished = truth.utility(POST, cut, True)
  assert truth.utility(POST, cut, False) == pytest.approx(finished - 1)
  # and a cut before its last word has no wrong last neighbour
  assert truth.utility(POST, 'argued about', False) == pytest.approx(-1.0)
  assert truth.utility(POST, 'argued about', True) == pytest.approx(-0.4)


def test_utilities_are_those_of_single_responses():
  rows = SMALL.load('stress')[:40]
  posts = [row['prompt'] for row in rows]
  responses = [row['rejected'] for row in rows]
  finished = [i % 2 == 0 for i in range(40)]
  together = truth.utilities(posts, responses, finished)
  alone = [SMALL.utility(*each) for each in zip(posts, responses, finished)]
  np.testing.assert_array_equal(together, alone)


def test_a_foreign_prompt_has_no_utility():
  with pytest.raises(InputError, match='embedded corpus'):
    truth.utility('what is the weather ?', 'fine', True)


def test_rows_carry_the_utility_that_their_text_has():
  for split in corpus.SPLITS:
    for row in SMALL.load(split)[:50]:
      for side in SIDES:
        finished = len(row[side].split()) <= 21
        expected = truth.utility(row['prompt'], row[side], finished)
        assert row[f'{side}_utility'] == expected


def test_labels_agree_with_the_utility_in_88_of_100_pairs():
  rows = EmbeddedCorpus(seed=0, num_train=4000).load('train')
  gaps = [row['chosen_utility'] - row['rejected_utility'] for row in rows]
  assert np.mean(np.array(gaps) > 0) == pytest.approx(0.88, abs=0.015)


def test_labels_follow_bradley_terry_with_temperature_one_half():
  rows = EmbeddedCorpus(seed=1, num_train=6000).load('train')
  gaps = np.array([r['chosen_utility'] - r['rejected_utility'] for r in rows])
  near = np.abs(np.abs(gaps) - 0.5) < 0.1  # sigmoid(.5 / .5) = .731
  assert near.sum() > 300
  assert np.mean(gaps[near] > 0) == pytest.approx(0.731, abs=0.06)


def test_texts_have_the_lengths_of_the_page():
  rows = EmbeddedCorpus(seed=0, num_train=2000).load('train')
  prompts = [len(row['prompt'].split()) for row in rows]
  responses = [1 + len(row[side].split()) for row in rows for side in SIDES]
  assert max(prompts) <= 40 and np.mean(prompts) == pytest.approx(37, abs=0.5)
  assert max(responses) <= 22
  assert np.mean(responses) == pytest.approx(14.5, abs=0.5)


def test_careful_writers_use_licensed_bigrams_alone():
  licensed = text.licensed_bigrams()
  for row in SMALL.load('train'):
    for side in SIDES:
      words = (text.START, *row[side].split(), text.END)
      assert set(itertools.pairwise(words)) <= licensed


def test_every_spoilt_kind_scores_below_curated_responses():
  curated = [row['rejected_utility'] for row in SMALL.load('train')]
  by_kind = {}
  for row in SMALL.load('stress'):
    low = min(row['chosen_utility'], row['rejected_utility'])
    by_kind.setdefault(row['kind'], []).append(low)
  assert set(by_kind) == {'repeat', 'shuffle', 'truncate', 'run_on', 'spam'}
  assert all(np.mean(low) < np.mean(curated) for low in by_kind.values())


def test_no_post_of_the_test_split_is_in_another():
  facts = {
    split: {text.parse_facts(row['prompt']) for row in SMALL.load(split)}
    for split in corpus.SPLITS
  }
  assert not facts['test'] & (facts['train'] | facts['stress'])


def test_a_smaller_split_is_the_beginning_of_a_larger():
  fewer = EmbeddedCorpus(seed=3, num_train=50).load('train')
  assert SMALL.load('train')[:50] == fewer


def test_the_same_seed_gives_the_same_corpus_and_another_seed_another():
  again = EmbeddedCorpus(seed=3, num_train=600, num_stress=300, num_test=300)
  other = EmbeddedCorpus(seed=4, num_train=600, num_stress=300, num_test=300)
  assert again.load('test') == SMALL.load('test')
  assert again.fingerprint() == SMALL.fingerprint()
  assert other.load('test') != SMALL.load('test')
  assert other.fingerprint() != SMALL.fingerprint()


def test_a_seed_means_these_texts():
  # When this fails, texts or labels changed, and no study can be compared with
  # one from before: say so in CHANGELOG.md.
  rows = [SMALL.load(split)[:100] for split in corpus.SPLITS]
  digest = hashlib.sha256(json.dumps(rows).encode()).hexdigest()
  assert digest[:16] == 'ed86dafb2fa44eb8'


def test_the_vocabulary_knows_every_word():
  vocabulary = SMALL.vocabulary()
  for split in corpus.SPLITS:
    for row in SMALL.load(split):
      for key in ('prompt', *SIDES):
        assert vocabulary.decode(vocabulary.encode(row[key])) == row[key]
        assert 2 not in vocabulary.encode(row[key])


def test_an_empty_split_is_empty_and_an_unknown_one_refused():
  assert EmbeddedCorpus(num_stress=0).load('stress') == []
  with pytest.raises(InputError, match="train, stress, test; got 'dev'"):
    SMALL.load('dev')


def test_a_panel_votes_on_the_same_texts():
  panel = dataclasses.replace(SMALL, raters=9)
  alone, votes = SMALL.load('train'), panel.load('train')
  texts = lambda rows: [
    (row['prompt'], {row['chosen'], row['rejected']}) for row in rows
  ]
  assert texts(alone) == texts(votes)
  shares = np.array([row['chosen_share'] for row in votes])
  assert {round(9 * share, 9) % 1 for share in shares} == {0}
  assert (shares > 0.5).all()
  assert 'chosen_share' not in alone[0]
  assert panel.fingerprint() != SMALL.fingerprint()
  # People of the test split are asked one by one, whoever labels the others.
  assert panel.load('test') == SMALL.load('test')


def test_shares_of_votes_are_those_of_bradley_terry():
  rows = dataclasses.replace(SMALL, raters=9).load('train')
  ahead = np.array([r['chosen_utility'] - r['rejected_utility'] for r in rows])
  expected = 1 / (1 + np.exp(-np.abs(ahead) / 0.5))
  # Of a pair's better response; the majority is sometimes the other one.
  share = np.array([row['chosen_share'] for row in rows])
  share = np.where(ahead >= 0, share, 1 - share)
  assert abs(np.mean(share - expected)) < 0.01
  apart = np.abs(ahead) > 0
  right = np.mean(ahead[apart] > 0)
  one = np.mean([row['chosen_utility'] > row['rejected_utility']
                 for row in SMALL.load('train')])  # fmt: skip
  assert right > 0.93 > 0.9 > one


def test_a_panel_in_two_halves_is_decided_by_a_coin():
  rows = dataclasses.replace(SMALL, raters=2).load('train')
  halves = [row for row in rows if row['chosen_share'] == 0.5]
  ahead = [row['chosen_utility'] > row['rejected_utility'] for row in halves]
  assert len(halves) > 30
  assert 0.3 < np.mean(ahead) < 0.75


def test_close_pairs_are_those_of_the_corpus_that_are_close():
  """The others are passed over; stress pairs stay as they are."""
  close = dataclasses.replace(SMALL, largest_gap=0.5)
  gap = lambda row: abs(row['chosen_utility'] - row['rejected_utility'])
  for split in ('train', 'test'):
    found = close.load(split)
    assert len(found) == getattr(SMALL, f'num_{split}')
    assert max(map(gap, found)) <= 0.5
    near = [row for row in SMALL.load(split) if gap(row) <= 0.5]
    assert near and found[: len(near)] == near
  assert close.load('stress') == SMALL.load('stress')
  assert close.fingerprint() != SMALL.fingerprint()


def test_a_largest_gap_is_above_nothing():
  with pytest.raises(InputError, match='largest_gap'):
    EmbeddedCorpus(largest_gap=0.0)


def test_people_who_are_asked_prefer_the_better_response():
  """Their share is the chance of one of them, within what nine can tell."""
  people = EmbeddedCorpus(seed=3, raters=9)
  rows = SMALL.load('train')
  sides = [row['chosen'] for row in rows], [row['rejected'] for row in rows]
  ends = [True] * len(rows)
  posts = [row['prompt'] for row in rows]
  shares = people.votes(posts, sides, (ends, ends))
  gap = np.array([r['chosen_utility'] - r['rejected_utility'] for r in rows])
  chance = 1 / (1 + np.exp(-gap / 0.5))
  assert np.all(np.isin(np.round(shares * 9), range(10)))
  assert abs(np.mean(shares - chance)) < 0.02
  assert np.corrcoef(shares, chance)[0, 1] > 0.9
  other = dataclasses.replace(people, seed=4).votes(posts, sides, (ends, ends))
  assert np.any(other != shares)
