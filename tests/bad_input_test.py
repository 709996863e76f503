"""Every mistake in data: exit code 2, one message, before any work."""

import json

import pytest
import tiny_commands
from refusals import COMMANDS, commands_on, refused, results

from dap import main

GOOD = {
  'prompt': 'Name a fruit.',
  'chosen': 'An apple.',
  'rejected': 'A stone.',
}


@pytest.fixture
def out(tmp_path):
  """A folder that a refused command must not have made."""
  return tmp_path / 'out'


# Files


@pytest.mark.parametrize('command', COMMANDS)
def test_a_missing_file_is_named(capfd, tmp_path, out, command):
  path = tmp_path / 'absent.jsonl'
  said = refused(capfd, commands_on(path, out)[command])
  assert str(path) in said and 'no such file' in said.lower()
  assert not results(out)


BAD_LINES = {
  'malformed JSON': (b'{"prompt": "x", "chosen"', 'not JSON at column'),
  'no object': (b'["prompt"]', 'must be a JSON object, got a list'),
  'missing key': (b'{"prompt": "x", "chosen": "y"}', 'rejected is missing'),
  'empty value': (
    b'{"prompt": "x", "chosen": " ", "rejected": "y"}',
    'chosen is empty',
  ),
  'wrong type': (
    b'{"prompt": "x", "chosen": 3, "rejected": "y"}',
    'chosen must be a text, got a number',
  ),
  'not UTF-8': (
    b'{"prompt": "caf\xe9", "chosen": "x", "rejected": "y"}',
    'is no UTF-8',
  ),
}


@pytest.mark.parametrize('command', COMMANDS)
@pytest.mark.parametrize('kind', BAD_LINES)
def test_a_bad_line_is_named_by_file_and_number(
  capfd, tmp_path, out, command, kind
):
  line, words = BAD_LINES[kind]
  path = tmp_path / 'pairs.jsonl'
  good = json.dumps(GOOD).encode()
  path.write_bytes(b'\n'.join([good, good, line, good]))
  said = refused(capfd, commands_on(path, out)[command])
  assert f'{path}, line 3: ' in said and words in said
  assert not results(out)


def test_a_bad_test_file_is_found_before_the_training(capfd, tmp_path, out):
  path, test = tmp_path / 'train.jsonl', tmp_path / 'test.jsonl'
  path.write_text((json.dumps(GOOD) + '\n') * 20)
  test.write_text('{')
  said = refused(capfd, commands_on(path, out, test=test)['train'])
  assert f'{test}, line 1: not JSON' in said
  assert not list(out.rglob('checkpoint_*'))


@pytest.mark.parametrize('command', COMMANDS)
@pytest.mark.parametrize('content', ['', '\n \n'])
def test_an_empty_data_set_is_refused(capfd, tmp_path, out, command, content):
  path = tmp_path / 'empty.jsonl'
  path.write_text(content)
  said = refused(capfd, commands_on(path, out)[command])
  assert f'{path}: no examples' in said
  assert not results(out)


def test_fewer_examples_than_a_batch_are_refused(capfd, tmp_path, out):
  path = tmp_path / 'few.jsonl'
  path.write_text((json.dumps(GOOD) + '\n') * 3)
  said = refused(capfd, commands_on(path, out)['train'])
  assert 'A batch of 8 needs as many examples, the data set has 3' in said


def test_a_dialogue_without_an_answer_is_refused(capfd, tmp_path, out):
  path = tmp_path / 'hh.jsonl'
  path.write_text(json.dumps({'chosen': 'Hi', 'rejected': 'Hi'}))
  words = commands_on(path, out)['data']
  words[1] = '--gin_file=gin/data/hh.gin'
  assert f'{path}, line 1: chosen needs a turn' in refused(capfd, words)


def test_a_missing_gin_file_is_named_with_the_nearest(capfd, out):
  words = tiny_commands.argv('train', 'sft', out)
  words[1] = '--gin_file=configs/embedded/stf.gin'
  said = refused(capfd, words)
  assert 'no such gin file' in said
  assert 'Nearest: configs/embedded/sft.gin' in said


# Lengths and vocabulary


def test_long_responses_are_refused_by_the_rule_that_says_so(
  capfd, tmp_path, out
):
  path = tmp_path / 'pairs.jsonl'
  path.write_text(json.dumps(GOOD))
  rule = tmp_path / 'rule.gin'
  rule.write_text(
    'from __gin__ import dynamic_registration\n'
    'from dap.data import arrays\n'
    'from dap.data import datasets\n'
    'datasets.PairData.long_responses = @arrays.refuse\n'
  )
  words = commands_on(path, out)['data']
  words += [f'--gin_file={rule}', '--gin.RESPONSE_LENGTH=5']
  said = refused(capfd, words)
  assert 'line 1: No response may be longer than 5 tokens' in said
  assert 'one has 10' in said and 'choose the rule trim or drop' in said
  assert not results(out)


def test_long_responses_are_counted_where_the_rule_is_to_cut(
  capfd, tmp_path, out
):
  path = tmp_path / 'pairs.jsonl'
  path.write_text(json.dumps(GOOD))
  main.main([*commands_on(path, out)['data'], '--gin.RESPONSE_LENGTH=9'])
  said = capfd.readouterr().out
  assert '1 of 2 responses (50.0 %) were longer than 9 tokens' in said
  assert 'were cut (rule: trim)' in said


@pytest.mark.parametrize('command', ['train', 'study'])
def test_a_vocabulary_that_does_not_fit_is_refused(
  capfd, tmp_path, out, command
):
  path = tmp_path / 'pairs.jsonl'
  path.write_text((json.dumps(GOOD) + '\n') * 20)
  words = commands_on(path, out)[command]
  said = refused(capfd, [*words, '--gin.VOCABULARY_SIZE=100'])
  assert 'The vocabulary has 259 ids, but the model has room for 100' in said
  assert not results(out)


def test_a_file_that_is_no_vocabulary_is_refused(capfd, tmp_path, out):
  path = tmp_path / 'pairs.jsonl'
  path.write_text(json.dumps(GOOD))
  words = commands_on(path, out)['data']
  words[2] = '--gin_file=gin/data/sentencepiece.gin'
  said = refused(capfd, [*words, f'--gin.VOCABULARY_FILE={str(path)!r}'])
  assert f'{path} is no SentencePiece model' in said
