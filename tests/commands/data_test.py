import gzip
import json
import pathlib

import pytest

from dap import main

FIXTURES = pathlib.Path(__file__).parents[1] / 'fixtures' / 'data'


def dap_data(part, *others, train=None):
  """`dap data` of a part; the training file stands for the test file too."""
  given = {'TRAIN_FILE': train, 'TEST_FILE': train} if train else {}
  main.main([
    'data',
    f'--gin_file=gin/data/{part}.gin',
    *(f'--gin.{name}={str(path)!r}' for name, path in given.items()),
    *others,
  ])  # fmt: skip


@pytest.fixture
def cache(tmp_path):
  return tmp_path / 'cache'


def where(cache):
  return f'--gin.data.prepare_data.cache_dir={str(cache)!r}'


def test_jsonl_is_tokenised_once_and_shown(cache, capsys):
  words = ('--gin_file=gin/data/bytes.gin', where(cache))
  dap_data('jsonl', *words, train=FIXTURES / 'pairs.jsonl')
  printed = capsys.readouterr().out
  assert 'vocabulary: 259 ids' in printed
  assert 'train: 4 examples.' in printed and 'test: 4 examples.' in printed
  assert 'prompt:   Name a fruit.' in printed
  assert 'rejected: A stone.' in printed
  before = {p: p.stat().st_mtime_ns for p in cache.rglob('*')}
  assert (
    len({p.parent for p in before if p.suffix == '.npy'}) == 3
  )  # stress is empty
  dap_data('jsonl', *words, train=FIXTURES / 'pairs.jsonl')
  assert before == {p: p.stat().st_mtime_ns for p in cache.rglob('*')}


def test_a_gzipped_file_is_the_same_data(cache, tmp_path, capsys):
  path = tmp_path / 'pairs.jsonl.gz'
  path.write_bytes(gzip.compress((FIXTURES / 'pairs.jsonl').read_bytes()))
  dap_data('jsonl', '--gin_file=gin/data/bytes.gin', where(cache), train=path)
  assert 'chosen:   A pear, for example.' in capsys.readouterr().out


def test_dialogues_are_split_at_the_last_turn(cache, capsys):
  dap_data(
    'hh',
    '--gin_file=gin/data/bytes.gin',
    where(cache),
    train=FIXTURES / 'dialogues.jsonl',
  )
  printed = capsys.readouterr().out
  assert 'Human: A fruit?\n\nAssistant:\n' in printed
  assert 'chosen:   An apple.\n' in printed and 'rejected: Why?\n' in printed


def test_a_vocabulary_is_trained_on_the_data(cache, tmp_path, capsys):
  path = tmp_path / 'pairs.jsonl'
  row = {'prompt': 'say one two three', 'chosen': 'one', 'rejected': 'two'}
  path.write_text((json.dumps(row) + '\n') * 20)
  dap_data('jsonl', '--gin.VOCABULARY_SIZE=275', where(cache), train=path)
  assert 'prompt:   say one two three' in capsys.readouterr().out
  assert (cache / 'vocabulary.model').exists()


def test_the_embedded_corpus_has_a_split_of_its_own(cache, capsys):
  dap_data(
    'embedded',
    '--gin.corpus.EmbeddedCorpus.num_train=8',
    '--gin.corpus.EmbeddedCorpus.num_stress=4',
    '--gin.corpus.EmbeddedCorpus.num_test=4',
    where(cache),
  )
  printed = capsys.readouterr().out
  assert 'vocabulary: 140 ids' in printed and 'stress: 4 examples.' in printed


def test_long_responses_are_counted_with_their_rule(cache, capsys):
  words = ('--gin_file=gin/data/bytes.gin', '--gin.RESPONSE_LENGTH=9')
  train = FIXTURES / 'pairs.jsonl'
  dap_data('jsonl', *words, where(cache), train=train)
  # "An apple." has 9 bytes and an end; so do "Hi there!" and "A stone." not.
  printed = capsys.readouterr().out
  assert '4 of 8 responses (50.0 %) were longer than 9 tokens' in printed
  assert 'were cut (rule: trim)' in printed


def test_a_dry_run_checks_every_row_and_writes_nothing(cache, capsys):
  dap_data(
    'jsonl',
    '--gin_file=gin/data/bytes.gin',
    where(cache),
    '--dry_run',
    train=FIXTURES / 'pairs.jsonl',
  )
  printed = capsys.readouterr().out
  assert 'train: 4 rows' in printed and 'JsonlFiles' in printed
  assert not cache.exists()


def test_lengths_are_printed_and_others_suggested(cache, capsys):
  words = ('--gin_file=gin/data/bytes.gin', '--gin.RESPONSE_LENGTH=9')
  dap_data('jsonl', *words, where(cache), train=FIXTURES / 'pairs.jsonl')
  printed = capsys.readouterr().out
  lines = [line.split() for line in printed.splitlines()]
  table = [line for line in lines if line[:1] in (['prompts'], ['responses'])]
  # "An apple." and an end are 10 tokens; 4 of 8 are longer than 9.
  assert table[1][6:] == ['9', '50.0', '%'] and len(table) == 4
  assert 'Lengths that cut at most 1 % of each: PROMPT_LENGTH=' in printed


def test_test_rows_of_train_are_told_or_left_out(cache, tmp_path, capsys):
  row = {'prompt': 'one', 'chosen': 'yes', 'rejected': 'no'}
  path, test = tmp_path / 'train.jsonl', tmp_path / 'test.jsonl'
  path.write_text(json.dumps(row))
  rows = [row | {'chosen': 'oh'}, row | {'prompt': 'two'}]
  test.write_text('\n'.join(map(json.dumps, rows)))
  words = ['--gin_file=gin/data/bytes.gin', where(cache)]
  more = f'--gin.TEST_FILE={str(test)!r}'
  dap_data('jsonl', *words, more, train=path)
  said = capsys.readouterr().out
  assert '1 of 2 test prompts (50.0 %) stand in train too.' in said
  words[:0] = ['--gin_file=gin/data/new_prompts.gin']
  dap_data('jsonl', *words, more, train=path)
  said = capsys.readouterr().out
  assert 'and 1 examples of them were left out.' in said


def test_messages_have_a_part_of_their_own(cache, tmp_path, capsys):
  ask, *answers = (
    {'role': role, 'content': text}
    for role, text in (('user', 'Tea?'), *[('assistant', x) for x in 'ab'])
  )
  row = {'chosen': [ask, answers[0]], 'rejected': [ask, answers[1]]}
  path = tmp_path / 'rows.jsonl'
  path.write_text(json.dumps(row))
  words = ('--gin_file=gin/data/bytes.gin', where(cache))
  dap_data('messages', *words, train=path)
  assert 'Human: Tea?\n\nAssistant:' in capsys.readouterr().out
