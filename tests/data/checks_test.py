"""Rows whose ids training cannot use: refused, or left out and counted."""

import dataclasses
import json
import logging

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dap.data import arrays, checks, facts, formats, hub, sources
from dap.data import pairs as pairs_lib
from dap.data.array_writer import Encoded
from dap.data.corpus import EmbeddedCorpus
from dap.data.datasets import PairData
from dap.data.readers import JsonlFiles
from dap.data.vocabulary import Bytes
from dap.errors import InputError

LAWS = settings(deadline=None, derandomize=True, max_examples=60)
GOOD = ('ask', 'yes', 'no')


@dataclasses.dataclass(frozen=True)
class Letters:
  """Letters without their case, and nothing of what is none but three marks.

  '#' is the end and '_' padding, as where a text spells them; '!' is no piece.
  """

  size: int = 29

  def encode(self, text):
    marks = {'#': 1, '_': 0, '!': 29}
    letters = 'abcdefghijklmnopqrstuvwxyz'
    known = {letter: 3 + i for i, letter in enumerate(letters)} | marks
    return [known[each] for each in text.lower() if each in known]

  def decode(self, ids):
    return ' '.join(str(int(each)) for each in ids)

  def fingerprint(self):
    return 'letters'


def written(folder, *rows, name='rows.jsonl', **others):
  keys = ('prompt', 'chosen', 'rejected')
  path = folder / name
  lines = [json.dumps(dict(zip(keys, row)) | others) for row in rows]
  path.write_text('\n'.join(lines))
  return str(path)


def source_of(folder, *rows, mistakes=sources.refuse, **others):
  reader = JsonlFiles(written(folder, *rows, **others))
  return sources.Formatted(reader, formats.pairs, mistakes=mistakes)


def prepare(source, folder, split='train', vocabulary=None, **others):
  lengths = {'prompt_length': 8, 'response_length': 6} | others
  return arrays.prepare(
    source, split, vocabulary or Letters(), cache_dir=str(folder / 'c'),
    **lengths,
  )  # fmt: skip


FAULTS = [
  (('…', 'yes', 'no'), 'no_ids', "prompt has no token .* empty text: '…'"),
  (('ask', '\u200b', 'no'), 'no_ids', 'chosen has no token'),
  (('ask', 'yes', '1 2'), 'no_ids', 'rejected has no token'),
  (('ask', '_yes', 'no'), 'no_ids', 'chosen needs ids from 1 to 28.* got 0 to'),
  (('as!', 'yes', 'no'), 'no_ids', 'prompt needs ids from 1 to 28.* to 29'),
  (('ask', 'y#es', 'no'), 'beyond_end', 'chosen has the end, id 1, before its'),
  (('ask', 'yes', 'no#'), 'beyond_end', 'rejected has the end'),
  (('ask', 'Yes', 'y e s'), 'same_ids', "chosen and .*'Yes' and 'y e s'"),
]


@pytest.mark.parametrize(('row', 'kind', 'message'), FAULTS)
def test_ids_that_training_cannot_use_are_mistakes_of_a_row(
  row, kind, message, tmp_path, caplog
):
  with pytest.raises(InputError, match=f'rows.jsonl, line 2: {message}'):
    prepare(source_of(tmp_path, GOOD, row), tmp_path)
  assert not list((tmp_path / 'c').iterdir())
  careful = source_of(tmp_path, GOOD, row, mistakes=sources.leave_out)
  with caplog.at_level(logging.WARNING):
    found = prepare(careful, tmp_path)
  assert len(found) == 1 and 'Left out: ' in caplog.text
  assert (found.counts['mistakes'], found.counts[kind]) == (1, 1)
  assert '1 of 2 rows (50.0 %) were left out for mistakes: 1 ' in found.report


def test_rows_that_the_format_left_out_are_counted_with_these(tmp_path):
  rows = (GOOD, ('ask', 'yes', 'yes'), (' ', 'yes', 'no'), ('…', 'a', 'b'))
  source = source_of(tmp_path, *rows, mistakes=sources.leave_out)
  found = prepare(source, tmp_path)
  assert (found.counts['rows'], found.counts['mistakes']) == (4, 3)
  assert '3 of 4 rows (75.0 %) were left out for mistakes: 2 in what the' in (
    found.report
  )
  both = prepare(sources.BothResponses(source), tmp_path)
  assert both.counts['malformed'] == 2


@pytest.mark.parametrize('route', ['huggingface', 'tfds', 'seqio'])
def test_the_ids_of_every_route_are_checked(route, tmp_path):
  rows = (GOOD, ('ask', 'Yes', 'y e s'), ('ask', '\u200b', 'no'), GOOD)
  source = routed(route, source_of(tmp_path, *rows), tmp_path)
  with pytest.raises(InputError, match='(row|example) 2: chosen and rejected'):
    prepare(source, tmp_path)
  careful = dataclasses.replace(source, mistakes=sources.leave_out)
  found = prepare(careful, tmp_path)
  assert len(found) == 2
  assert (found.counts['same_ids'], found.counts['no_ids']) == (1, 1)


def routed(route, files, folder):
  """The rows of files by another route."""
  if route == 'huggingface':
    pytest.importorskip('datasets', reason='the extra [huggingface]')
    (folder / 'set').mkdir()
    text = (folder / 'rows.jsonl').read_text()
    (folder / 'set' / 'train.jsonl').write_text(text)
    reader = hub.HuggingFaceRows(str(folder / 'set'), test=None)
    return sources.Formatted(reader, formats.pairs)
  if route == 'tfds':
    pytest.importorskip('tensorflow_datasets', reason='the extra [seqio]')
    from dap.data import tfds_builder

    builder = tfds_builder.tfds_builder(files, str(folder), splits=('train',))
    builder.download_and_prepare()
    reader = hub.TfdsRows(str(builder.data_path), test=None)
    return sources.Formatted(reader, formats.pairs)
  pytest.importorskip('seqio', reason='the extra [seqio]')
  from dap.data import seqio_source, tasks

  task = tasks.add_task(f'dap_checks_{id(files)}', files, Letters(), ('train',))
  return seqio_source.SeqioTask(task.name, modules=(), test=None)


@pytest.mark.parametrize(
  ('scores', 'against'),
  [
    ({'score_chosen': 1, 'score_rejected': 2.5}, True),
    ({'chosen-rating': 3.0, 'rejected-rating': 4}, True),
    ({'rejected_reward': 0.5, 'chosen_reward': -0.5}, True),
    ({'chosenScore': 1.0, 'rejectedScore': 2}, True),
    ({'chosen_overall_score': 1.0, 'rejected_overall_score': 2}, True),
    ({'chosen_toxicity_score': 1.0, 'rejected_toxicity_score': 2}, False),
    ({'score_chosen': 2, 'score_rejected': 2}, False),
    ({'score_chosen': 3, 'score_rejected': 2}, False),
    ({'score_chosen': 1}, False),  # of one response alone
    ({'score_chosen': '1', 'score_rejected': 2}, False),
    ({'score_chosen': float('nan'), 'score_rejected': 2}, False),
    ({'chosen_length': 1, 'rejected_length': 2}, False),
    ({'chosen_utility': 1.0, 'rejected_utility': 2.0}, False),  # noise is meant
  ],
)
def test_a_label_against_the_rows_own_scores_is_a_mistake(
  scores, against, tmp_path
):
  source = source_of(tmp_path, GOOD, **scores)
  if not against:
    assert len(prepare(source, tmp_path)) == 1
    return
  with pytest.raises(InputError, match='line 1: the label is against'):
    prepare(source, tmp_path)


@pytest.mark.parametrize(
  ('share', 'message'),
  [
    (0.25, 'against its own votes: chosen_share 0.25 is less than half'),
    (1.5, 'chosen_share must be a number from 0 to 1, got 1.5'),
    ('most', "chosen_share must be a number from 0 to 1, got 'most'"),
    (True, 'chosen_share must be a number from 0 to 1, got True'),
  ],
)
def test_a_share_of_votes_is_a_share_and_of_the_majority(
  share, message, tmp_path
):
  with pytest.raises(InputError, match=message):
    prepare(source_of(tmp_path, GOOD, chosen_share=share), tmp_path / 'cache')


def test_shares_of_votes_stand_beside_their_pairs(tmp_path):
  votes = [0.75, 1, 0.5]
  lines = [
    dict(prompt=f'ask {n}', chosen='yes', rejected='no', chosen_share=share)
    for n, share in enumerate(votes)
  ]
  path = tmp_path / 'rows.jsonl'
  path.write_text('\n'.join(map(json.dumps, lines)))
  source = sources.Formatted(JsonlFiles(str(path)), formats.pairs)
  made = prepare(source, tmp_path / 'cache')
  np.testing.assert_array_equal(made.shares, votes)
  pairs = made.pairs()
  assert pairs.known == ('shares',)
  batch = pairs.batch(np.array([2, 0]))
  np.testing.assert_array_equal(
    batch.columns['shares'], [[0.5, 0.5], [0.75, 0.25]]
  )
  np.testing.assert_array_equal(pairs.take(np.array([1])).shares, [1])
  assert pairs.relabelled(np.ones(3, bool)).shares is None
  pairs.save(tmp_path / 'pairs.npz')
  assert pairs_lib.load(tmp_path / 'pairs.npz').known == ('shares',)
  plain = dataclasses.replace(pairs, shares=None)
  both = pairs_lib.concatenate(plain, pairs)
  np.testing.assert_array_equal(both.shares, [1, 1, 1, *votes])


def test_rows_with_votes_among_rows_without_are_refused(tmp_path):
  lines = [
    dict(prompt='ask', chosen='yes', rejected='no', chosen_share=0.75),
    dict(prompt='ask more', chosen='yes', rejected='no'),
  ]
  path = tmp_path / 'rows.jsonl'
  for rows in (lines, lines[::-1]):
    path.write_text('\n'.join(map(json.dumps, rows)))
    source = sources.Formatted(JsonlFiles(str(path)), formats.pairs)
    with pytest.raises(InputError, match='line 2: the row has .* chosen_share'):
      prepare(source, tmp_path / 'cache')


def test_pairs_that_only_the_cut_makes_equal_never_stop_a_run(tmp_path):
  rows = (GOOD, ('ask', 'abcdefg', 'abcdefh'), ('ask', 'abcdef', 'abcdefgh'))
  source = source_of(tmp_path, *rows)
  found = prepare(source, tmp_path)
  assert (len(found), found.counts['same_cut']) == (1, 2)
  assert not found.counts.get('mistakes')
  assert '2 of 3 pairs (66.7 %) were left out, as their resp' in found.report
  assert len(prepare(source, tmp_path, response_length=7)) == 3


def test_the_embedded_corpus_keeps_pairs_of_equal_responses(tmp_path):
  source = EmbeddedCorpus(num_train=64, num_test=1, num_stress=0)
  words = source.vocabulary()
  found = prepare(source, tmp_path, vocabulary=words, prompt_length=40)
  assert len(found) == 64 and found.counts['same_kept'] == 1
  equal = np.all(
    found.responses['chosen'] == found.responses['rejected'], axis=1
  )
  assert equal.sum() == 1


def test_when_no_example_is_left_the_reasons_are_told(tmp_path):
  rows = (('…', 'yes', 'no'), ('ask', 'abcdefg', 'abcdefh'))
  source = source_of(tmp_path, *rows, mistakes=sources.leave_out)
  with pytest.raises(
    InputError, match='left of 2 rows: 1 have a mistake, 1 have two resp'
  ):
    prepare(source, tmp_path)


def test_prompts_that_the_cut_makes_one_are_counted(tmp_path):
  rows = (('north of here', 'yes', 'no'), ('south of here', 'no', 'yes'))
  found = prepare(source_of(tmp_path, *rows), tmp_path, prompt_length=4)
  assert found.counts['merged_prompts'] == 1
  np.testing.assert_array_equal(found.prompt_ids, [0, 1])  # as their texts


def test_a_key_of_another_kind_of_row_changes_nothing(tmp_path):
  found = prepare(source_of(tmp_path, GOOD, response='other'), tmp_path)
  assert [*found.responses] == ['chosen', 'rejected']
  path = written(tmp_path, GOOD, response='other')
  targets = sources.Formatted(JsonlFiles(path), formats.targets)
  assert [*prepare(targets, tmp_path).responses] == ['response']
  both = sources.BothResponses(source_of(tmp_path, GOOD, ('…', 'a', 'b')))
  with pytest.raises(InputError, match='line 2: prompt has no token'):
    prepare(both, tmp_path)


# Ends


@dataclasses.dataclass(frozen=True)
class Given:
  """A source with ids of its own: one prompt, and two responses a row."""

  rows: tuple

  def load(self, split):
    return [each.row for each in self.encoded(split, None, (0, 0))]

  def encoded(self, split, vocabulary, lengths):
    del split, vocabulary, lengths
    for number, (chosen, rejected) in enumerate(self.rows):
      row = {'prompt': 'p', 'chosen': 'c', 'rejected': 'r'}
      both = {'chosen': [*chosen], 'rejected': [*rejected]}
      yield Encoded(row, [5], both, f'row {number}')

  def fingerprint(self):
    return repr(self.rows)


FULL = (3, 4, 5, 6, 7, 8)


@pytest.mark.parametrize(
  ('rows', 'said'),
  [
    ([((3, 1), (4,))], 'row 0: neither this rejected .* append_eos is miss'),
    (
      [((3,), (4, 1)), ((5,), FULL)],
      'row 0: neither this chosen .* append_eos',
    ),
    ([((3, 1), (4,)), ((3, 1), (4, 1))], None),
    ([(FULL, (4, 1))], None),  # cut: whether it had an end is not known
  ],
)
def test_responses_of_which_none_has_an_end_are_refused(rows, said, tmp_path):
  source = Given(tuple(rows))
  if said:
    with pytest.raises(InputError, match=said):
      prepare(source, tmp_path)
    return
  found = prepare(source, tmp_path)
  assert found.counts['no_end'] == sum(r == (4,) for row in rows for r in row)
  assert found.counts['full_responses'] == sum(FULL in row for row in rows)


def test_equal_ids_that_came_cut_are_no_mistake(tmp_path):
  found = prepare(Given(((FULL, FULL), ((3, 1), (4, 1)))), tmp_path)
  assert (len(found), found.counts['same_cut']) == (1, 1)
  with pytest.raises(InputError, match='row 0: chosen and rejected are the s'):
    prepare(Given((((3, 1), (3, 1)),)), tmp_path)


# Test prompts that stand in train


def split_data(folder, repeats=checks.keep_repeated, **lengths):
  train = written(folder, GOOD, ('east', 'a', 'b'), name='train.jsonl')
  rows = (('ask!', 'a', 'b'), ('ask?', 'c', 'd'), ('West', 'a', 'b'))
  test = written(folder, *rows[1:], ('EAST', 'b', 'c'), name='test.jsonl')
  source = sources.Formatted(JsonlFiles(train, test), formats.pairs)
  lengths = {'prompt_length': 8, 'response_length': 6} | lengths
  return PairData(source, Letters(), **lengths, repeats=repeats)


def test_test_prompts_of_train_are_counted_and_warned_of(tmp_path, caplog):
  data = split_data(tmp_path)
  for _ in range(2):  # also of arrays that are there already
    caplog.clear()
    with caplog.at_level(logging.WARNING):
      found = data.prepare('test', Letters(), tmp_path / 'c')
    assert '2 of 3 test prompts (66.7 %) stand in train too.' in caplog.text
    assert 'gin/data/new_prompts.gin' in caplog.text
  assert len(found) == 3 and 'stand in train too' in found.report
  assert found.counts['prompts_in_train'] == 2
  stored = json.loads(
    (tmp_path / 'c' / found.folder / 'facts.json').read_text()
  )
  assert stored['counts']['prompts_in_train'] == 2
  train = data.prepare('train', Letters(), tmp_path / 'c')
  assert not train.counts['prompts_in_train']


def test_prompts_are_compared_as_the_model_reads_them(tmp_path):
  cut = split_data(tmp_path, prompt_length=2)  # 'est' and 'ast' end alike
  found = cut.prepare('test', Letters(), tmp_path / 'c')
  assert found.counts['prompts_in_train'] == 2
  assert found.counts['prompts'] == 2


def test_test_prompts_of_train_are_left_out_on_request(tmp_path):
  data = split_data(tmp_path, checks.leave_out_repeated)
  found = data.prepare('test', Letters(), tmp_path / 'c')
  assert [row['prompt'] for row in found.rows()] == ['West']
  assert ', and 2 examples of them were left out.' in found.report
  same = dataclasses.replace(
    data, source=dataclasses.replace(
      data.source, reader=JsonlFiles(*[data.source.reader.train] * 2)
    )
  )  # fmt: skip
  with pytest.raises(InputError, match='left of 2 rows: 2 have a prompt of tr'):
    same.prepare('test', Letters(), tmp_path / 'c')


def test_a_test_file_alone_is_compared_to_nothing(tmp_path):
  data = split_data(tmp_path)
  reader = dataclasses.replace(data.source.reader, train=None)
  source = dataclasses.replace(data.source, reader=reader)
  alone = dataclasses.replace(data, source=source)
  assert len(alone.prepare('test', Letters(), tmp_path / 'c')) == 3


# Lengths


def test_a_table_of_lengths_reads_from_short_to_long():
  own = facts.quantiles({n: 1 for n in range(1, 201)})
  lengths = {'responses': own, 'prompts': dict(sorted(own.items()))}
  counts = {'examples': 200, 'cut_prompts': 50, 'responses': 400}
  head, prompts, responses = facts.length_table(lengths, counts, (150, 250))
  assert head.split()[0] == 'tokens' and head.split()[-2:] == [
    'limit',
    'longer',
  ]
  numbers = ['100', '180', '190', '198', '200']
  assert prompts.split() == ['prompts', *numbers, '150', '25.0', '%']
  assert responses.split() == ['responses', *numbers, '250', '0.0', '%']


def test_a_share_of_prompts_is_of_all_texts():
  counts = {'merged_prompts': 30, 'prompts': 10, 'cut_prompts': 1}
  (note,) = facts.notes(counts)
  assert note.startswith('30 of 40 prompts (75.0 %)')
  assert note.endswith('once they are cut.')


@LAWS
@given(st.lists(st.integers(0, 40), min_size=1, max_size=60))
def test_a_quantile_is_the_least_length_that_so_many_do_not_exceed(lengths):
  histogram = {n: lengths.count(n) for n in lengths}
  for percent, length in facts.quantiles(histogram).items():
    within = sum(each <= length for each in lengths)
    below = sum(each < length for each in lengths)
    assert 100 * within >= int(percent) * len(lengths) > 100 * below


def test_lengths_are_those_before_the_cut(tmp_path):
  rows = [('a' * n, 'b' * n, 'c') for n in range(1, 101)]
  found = prepare(source_of(tmp_path, *rows), tmp_path, vocabulary=Bytes())
  assert found.lengths['prompts'] == {
    '50': 50, '90': 90, '95': 95, '99': 99, '100': 100,
  }  # fmt: skip
  assert found.lengths['responses']['100'] == 101  # the end included
  table = facts.length_table(found.lengths, found.counts, (8, 6))
  assert [line.split() for line in table[1:]] == [
    ['prompts', '50', '90', '95', '99', '100', '8', '92.0', '%'],
    ['responses', '2', '81', '91', '99', '101', '6', '47.5', '%'],
  ]
  assert facts.suggested_lengths(found.lengths).endswith(
    '1 % of each: PROMPT_LENGTH=99 RESPONSE_LENGTH=99;'
    ' 5 % of each: PROMPT_LENGTH=95 RESPONSE_LENGTH=91'
  )
