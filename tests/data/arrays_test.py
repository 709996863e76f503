import concurrent.futures
import errno
import json
import multiprocessing
import os
import pathlib

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from dap.data import array_writer, arrays, formats, sources
from dap.data.corpus import EmbeddedCorpus
from dap.data.readers import JsonlFiles
from dap.data.vocabulary import Bytes, Words
from dap.errors import InputError

LAWS = settings(deadline=None, derandomize=True, max_examples=60)
FIXTURES = pathlib.Path(__file__).parents[1] / 'fixtures' / 'data'
PAIRS = sources.Formatted(
  JsonlFiles(str(FIXTURES / 'pairs.jsonl')), formats.pairs
)
WORDS = Words(('a', 'b', 'c', 'd', 'e'))  # a is 3, e is 7


def prepare(source, cache_dir, vocabulary=WORDS, split='train', **lengths):
  lengths = {'prompt_length': 3, 'response_length': 4} | lengths
  return arrays.prepare(
    source, split, vocabulary, cache_dir=str(cache_dir), **lengths
  )


def pairs_of(folder, *rows):
  path = folder / 'rows.jsonl'
  keys = ('prompt', 'chosen', 'rejected')
  lines = [json.dumps(dict(zip(keys, row))) for row in rows]
  path.write_text('\n'.join(lines))
  return sources.Formatted(JsonlFiles(str(path)), formats.pairs)


def test_responses_end_and_prompts_keep_their_last_tokens(tmp_path):
  source = pairs_of(tmp_path, ('a b c d', 'a', 'b c d e'), ('e', 'b c', 'd'))
  prepared = prepare(source, tmp_path / 'cache')
  np.testing.assert_array_equal(prepared.prompts, [[4, 5, 6], [7, 0, 0]])
  np.testing.assert_array_equal(
    prepared.responses['chosen'], [[3, 1, 0, 0], [4, 5, 1, 0]]
  )
  np.testing.assert_array_equal(  # b c d e and the end are five: cut to four
    prepared.responses['rejected'], [[4, 5, 6, 7], [6, 1, 0, 0]]
  )
  assert prepared.prompts.dtype == np.int32
  assert len(prepared) == 2


def test_the_report_counts_and_names_the_rule(tmp_path):
  source = pairs_of(tmp_path, ('a b c d', 'a', 'b c d e'), ('e', 'b x', 'd'))
  report = prepare(source, tmp_path / 'cache').report
  assert report == (
    '2 examples. 1 of 4 responses (25.0 %) were longer than 4 tokens and were'
    ' cut (rule: trim). 1 of 2 prompts (50.0 %) were longer than 3 tokens and'
    ' lost their beginning. 1 of 16 tokens (6.2 %) are unknown to the'
    ' vocabulary.'
  )


def test_dropping_leaves_out_the_whole_example(tmp_path):
  source = pairs_of(
    tmp_path, ('a', 'a', 'b c d e'), ('b', 'b c', 'd'), ('c', 'a b c d', 'a')
  )
  kept = prepare(source, tmp_path / 'cache', long_responses=arrays.drop)
  np.testing.assert_array_equal(kept.prompts, [[4, 0, 0]])
  np.testing.assert_array_equal(kept.responses['chosen'], [[4, 5, 1, 0]])
  assert kept.row(0)['prompt'] == 'b'
  assert '2 of 3 examples (66.7 %) were left out (rule: drop)' in kept.report


def test_refusing_names_the_example_and_leaves_nothing(tmp_path):
  source = pairs_of(tmp_path, ('a', 'a', 'b'), ('b', 'a b c d', 'a'))
  with pytest.raises(InputError, match='line 2: .* 4 tokens, .* has 5'):
    prepare(source, tmp_path / 'cache', long_responses=arrays.refuse)
  assert not list((tmp_path / 'cache').iterdir())


@LAWS
@given(st.lists(st.integers(3, 9), max_size=12), st.integers(1, 14))
def test_trimming_keeps_a_prefix_and_the_end_only_where_it_fits(ids, limit):
  whole = [*ids, 1]
  kept = arrays.trim(whole, limit)
  assert kept == whole[:limit]
  assert (1 in kept) == (len(whole) <= limit)


def test_another_rule_is_a_function(tmp_path):
  def with_end(ids, limit):
    return [*ids[: limit - 1], 1]

  source = pairs_of(tmp_path, ('a', 'a', 'b c d e'))
  prepared = prepare(source, tmp_path / 'cache', long_responses=with_end)
  np.testing.assert_array_equal(prepared.responses['rejected'], [[4, 5, 6, 1]])
  assert '(rule: with_end)' in prepared.report


def test_rows_keep_their_texts_and_other_keys(tmp_path):
  prepared = prepare(
    PAIRS, tmp_path, Bytes(), prompt_length=80, response_length=40
  )
  rows = PAIRS.load('train')
  assert [prepared.row(i) for i in range(len(prepared))] == rows
  assert prepared.row(-1) == rows[-1]
  for row, ids in zip(rows, prepared.responses['chosen']):
    assert Bytes().decode(ids) == row['chosen']


def test_the_same_prompt_has_the_same_id(tmp_path):
  prepared = prepare(PAIRS, tmp_path, Bytes())
  np.testing.assert_array_equal(prepared.prompt_ids, [0, 1, 0, 2])
  np.testing.assert_array_equal(prepared.pairs(10).prompt_ids, [10, 11, 10, 12])


def test_targets_have_one_response(tmp_path):
  reader = JsonlFiles(str(FIXTURES / 'targets.jsonl'))
  source = sources.Formatted(reader, formats.targets)
  prepared = prepare(source, tmp_path, Bytes(), response_length=20)
  assert list(prepared.responses) == ['response']
  assert Bytes().decode(prepared.responses['response'][1]) == 'Green.'


def test_both_responses_of_a_pair_are_targets(tmp_path):
  both = prepare(sources.BothResponses(PAIRS), tmp_path, Bytes())
  pairs = prepare(PAIRS, tmp_path, Bytes())
  rows = np.stack([pairs.responses['chosen'], pairs.responses['rejected']], 1)
  np.testing.assert_array_equal(both.responses['response'], rows.reshape(-1, 4))


def test_a_split_without_rows_is_arrays_without_rows(tmp_path):
  prepared = prepare(PAIRS, tmp_path, split='stress')
  assert prepared.prompts.shape == (0, 3)
  assert prepared.responses['rejected'].shape == (0, 4)
  assert len(prepared.pairs()) == 0


def test_the_same_content_is_tokenised_once_wherever_it_lies(tmp_path):
  source = pairs_of(tmp_path, ('a', 'b', 'c'))
  first = prepare(source, tmp_path / 'cache')
  (tmp_path / 'elsewhere').mkdir()
  moved = pairs_of(tmp_path / 'elsewhere', ('a', 'b', 'c'))
  stamp = os.stat(first.folder).st_mtime_ns
  assert prepare(moved, tmp_path / 'cache').folder == first.folder
  assert os.stat(first.folder).st_mtime_ns == stamp


@pytest.mark.parametrize(
  'change',
  [
    {'prompt_length': 4},
    {'response_length': 5},
    {'vocabulary': Bytes()},
    {'split': 'stress'},
    {'long_responses': arrays.drop},
  ],
)
def test_whatever_changes_the_arrays_changes_their_folder(tmp_path, change):
  source = pairs_of(tmp_path, ('a', 'b', 'c'))
  first = prepare(source, tmp_path / 'cache').folder
  assert prepare(source, tmp_path / 'cache', **change).folder != first


@pytest.mark.parametrize('length', ['prompt_length', 'response_length'])
def test_no_room_for_a_token_is_refused(tmp_path, length):
  with pytest.raises(InputError, match=f'{length} 0'):
    prepare(PAIRS, tmp_path, **{length: 0})


def test_a_full_disk_is_an_input_error_and_leaves_nothing(
  tmp_path, monkeypatch
):
  def full(self, values):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

  monkeypatch.setattr(array_writer._Column, 'append', full)
  with pytest.raises(InputError, match='(?i)no space left.*free'):
    prepare(PAIRS, tmp_path / 'cache', Bytes())
  assert not list((tmp_path / 'cache').iterdir())


def test_a_place_that_is_no_folder_is_refused_by_name(tmp_path):
  (tmp_path / 'file').write_text('')
  with pytest.raises(InputError, match=f'{tmp_path}/file'):
    prepare(PAIRS, tmp_path / 'file' / 'cache')


def test_damaged_arrays_are_refused_with_the_folder_to_delete(tmp_path):
  prepared = prepare(PAIRS, tmp_path, Bytes())
  chosen = pathlib.Path(prepared.folder, 'chosen.npy')
  chosen.write_bytes(chosen.read_bytes()[:-8])
  with pytest.raises(InputError, match=f'{chosen} was changed.*Delete that'):
    prepare(PAIRS, tmp_path, Bytes())


def test_another_process_that_was_first_is_no_matter(tmp_path, monkeypatch):
  write_rows = arrays.write_rows

  def overtaken(*arguments):
    monkeypatch.setattr(arrays, 'write_rows', write_rows)
    prepare(PAIRS, tmp_path, Bytes())  # another process finishes meanwhile
    write_rows(*arguments)

  monkeypatch.setattr(arrays, 'write_rows', overtaken)
  assert len(prepare(PAIRS, tmp_path, Bytes())) == 4
  assert len(list(tmp_path.iterdir())) == 1  # and nothing aside


def _prepare_corpus(cache_dir):
  source = EmbeddedCorpus(num_train=300)
  return prepare(source, cache_dir, source.vocabulary()).prompts.sum()


def test_two_processes_may_prepare_at_once(tmp_path):
  spawn = multiprocessing.get_context('spawn')
  with concurrent.futures.ProcessPoolExecutor(2, spawn) as processes:
    sums = list(processes.map(_prepare_corpus, [tmp_path] * 2))
  assert sums[0] == sums[1] == _prepare_corpus(tmp_path)
  assert len(list(tmp_path.iterdir())) == 1


@LAWS
@given(st.integers(1, 20), st.integers(1, 25), st.integers(0, 2**40))
def test_each_epoch_has_every_example_once(num_examples, batch_size, seed):
  steps = range(-(-3 * num_examples // batch_size))
  rows = np.concatenate(
    [
      arrays.batch_indices(num_examples, batch_size, seed, step)
      for step in steps
    ]
  )
  for epoch in range(3):
    part = rows[epoch * num_examples : (epoch + 1) * num_examples]
    np.testing.assert_array_equal(np.sort(part), np.arange(num_examples))


def test_a_batch_depends_on_seed_and_step_alone():
  late = arrays.batch_indices(1000, 32, 7, 500)
  for step in (3, 2, 499):
    arrays.batch_indices(1000, 32, 7, step)
  np.testing.assert_array_equal(arrays.batch_indices(1000, 32, 7, 500), late)
  assert late.dtype == np.int64
  assert not np.array_equal(arrays.batch_indices(1000, 32, 8, 500), late)


def test_epochs_differ_in_their_order():
  first, second = (arrays.batch_indices(50, 50, 0, step) for step in (0, 1))
  assert not np.array_equal(first, second)


def test_a_batch_order_is_pinned():
  # The order of a run must not change between versions.
  rows = arrays.batch_indices(10, 6, 0, 1)
  np.testing.assert_array_equal(rows, [1, 5, 2, 9, 1, 5])


def test_in_order_gives_the_rows_as_they_lie():
  np.testing.assert_array_equal(arrays.in_order(5, 3, 9, 1), [3, 4, 0])


@LAWS
@given(st.integers(0, 30), st.integers(1, 12))
def test_an_epoch_of_batches_weighs_every_row_once(num_examples, batch_size):
  total = np.zeros(num_examples)
  for rows, weight in arrays.epoch_batches(num_examples, batch_size):
    assert rows.shape == weight.shape == (batch_size,)
    np.add.at(total, rows, weight)
  np.testing.assert_array_equal(total, 1)


def test_a_batch_is_placed_over_the_devices_of_a_mesh():
  num_devices = jax.device_count()
  mesh = jax.make_mesh((num_devices,), ('data',), (AxisType.Auto,))
  sharding = NamedSharding(mesh, PartitionSpec('data'))
  batch = {
    'tokens': np.arange(num_devices * 6, dtype=np.int32).reshape(-1, 3),
    'weight': np.ones(num_devices * 2, np.float32),
  }
  placed = arrays.global_batch(batch, sharding)
  for name, array in placed.items():
    assert array.sharding.is_equivalent_to(sharding, array.ndim)
    assert array.addressable_shards[0].data.shape[0] == 2
    np.testing.assert_array_equal(array, batch[name])
