import copy
import gzip
import json
import pathlib

import pytest

from dap.data import formats, sources
from dap.data.corpus import EmbeddedCorpus
from dap.data.readers import JsonlFiles
from dap.data.sources import Formatted
from dap.errors import InputError

FIXTURES = pathlib.Path(__file__).parents[1] / 'fixtures' / 'data'
PAIRS = str(FIXTURES / 'pairs.jsonl')
DIALOGUES = str(FIXTURES / 'dialogues.jsonl')
TARGETS = str(FIXTURES / 'targets.jsonl')
GOOD = b'{"prompt": "p", "chosen": "c", "rejected": "r"}\n'


def own_pairs(train, test=None):
  return Formatted(JsonlFiles(train, test), formats.pairs)


def own_targets(train):
  return Formatted(JsonlFiles(train), formats.targets)


def dialogues(train):
  return Formatted(JsonlFiles(train), formats.hh)


def written(folder, content, name='data.jsonl'):
  path = folder / name
  path.write_bytes(content)
  return str(path)


def line(**values):
  return json.dumps({'prompt': 'p', 'chosen': 'c', 'rejected': 'r'} | values)


def test_pairs_keep_their_order_and_their_other_keys():
  rows = own_pairs(PAIRS).load('train')
  assert [row['rejected'] for row in rows] == [
    'A stone.',
    'No.',
    'Fruit.',
    'Lost',
  ]
  assert all(row['source'] == 'hand' for row in rows)


def test_a_line_ends_at_a_line_feed_alone():
  row = own_pairs(PAIRS).load('train')[3]
  assert row['prompt'].startswith('Odd\u2028break\u0085s')


def test_gzip_is_told_by_content_and_gives_the_same_rows(tmp_path):
  content = gzip.compress(pathlib.Path(PAIRS).read_bytes())
  zipped = written(tmp_path, content, 'pairs.data')
  assert own_pairs(zipped).load('train') == own_pairs(PAIRS).load('train')


def test_a_byte_order_mark_blank_lines_and_a_missing_last_feed_are_no_matter(
  tmp_path,
):
  path = written(tmp_path, b'\xef\xbb\xbf' + GOOD + b'\r\n\n' + GOOD.rstrip())
  assert len(own_pairs(path).load('train')) == 2


def test_each_split_reads_its_own_file(tmp_path):
  test = written(tmp_path, GOOD)
  source = own_pairs(PAIRS, test)
  assert len(source.load('train')) == 4
  assert len(source.load('test')) == 1
  assert source.load('stress') == []


@pytest.mark.parametrize(
  ('content', 'message'),
  [
    (GOOD + b'{"prompt": p}\n', 'line 2: not JSON at column 12'),
    (GOOD + b'["p"]\n', r'line 2: .* an object, got a list|JSON object, got a'),
    (GOOD + b'null\n', 'line 2: each line must be a JSON object, got null'),
    (
      GOOD * 2 + b'{"prompt": "p", "chosen": "c"}\n',
      'line 3: .*rejected is mi',
    ),
    (b'{}\n', 'line 1: .* prompt is missing, there are none'),
    (line(chosen='').encode(), 'line 1: chosen is empty'),
    (line(prompt=' \n').encode(), 'line 1: prompt is empty'),
    (
      line(rejected=7).encode(),
      'line 1: rejected must be a text, got a number',
    ),
    (line(chosen=None).encode(), 'line 1: chosen must be a text, got null'),
    (line(chosen=['c']).encode(), r'got a list: \["c"\]'),
    (GOOD + b'{"prompt": "\xe4"}\n', 'line 2: byte 13 of the line, 0xe4'),
    (line(chosen='\ud800').encode(), 'line 1: chosen has half of a surrogate'),
    (
      GOOD + b'{"prompt": "p", "chosen": "c", "rejected": "r", "chosen": "d"}',
      "line 2: the key 'chosen' stands twice in one object",
    ),
    (
      GOOD[:-2] + b', "more": [{"a": {"b": 1, "b": 1}}]}\n',
      "line 1: the key 'b' stands twice",
    ),
    (b'', 'no examples'),
    (b'\n \n', 'no examples'),
    (gzip.compress(GOOD * 1000, mtime=0)[:-20], 'damaged or cut short'),
    (b'[' * 100_000, 'line 1: not JSON'),
  ],
)
def test_a_mistake_in_the_data_is_refused_by_file_and_line(
  tmp_path, content, message
):
  path = written(tmp_path, content)
  with pytest.raises(InputError, match=message) as caught:
    own_pairs(path).load('train')
  assert path in str(caught.value)


def test_a_missing_file_is_refused_by_name():
  source = own_pairs('/no/such/pairs.jsonl')
  with pytest.raises(InputError, match='/no/such/pairs.jsonl: no such file'):
    source.load('train')
  with pytest.raises(InputError, match='/no/such/pairs.jsonl'):
    source.fingerprint()


def test_a_folder_in_place_of_a_file_is_refused(tmp_path):
  with pytest.raises(InputError, match='cannot be read'):
    own_pairs(str(tmp_path)).load('train')


def test_a_split_without_a_file_is_refused_with_the_way_to_give_one():
  with pytest.raises(InputError, match='give JsonlFiles\\(test=PATH\\)'):
    own_pairs(PAIRS).load('test')
  with pytest.raises(InputError, match="train, test, stress; got 'dev'"):
    own_pairs(PAIRS).load('dev')


def test_dialogues_are_split_at_their_last_turn():
  first, second = dialogues(DIALOGUES).load('train')
  assert first['prompt'].endswith('\n\nHuman: A fruit?\n\nAssistant:')
  assert 'Hello.' in first['prompt']
  assert (first['chosen'], first['rejected']) == ('An apple.', 'Why?')
  assert (second['chosen'], second['rejected']) == ('4', '5')


@pytest.mark.parametrize(
  ('chosen', 'rejected', 'message'),
  [
    (
      '\n\nHuman: a\n\nAssistant: b',
      '\n\nHuman: A\n\nAssistant: c',
      'line 1: chosen and rejected must be the same .* part at character 10',
    ),
    (
      '\n\nHuman: a\n\nAssistant: b',
      '\n\nHuman: a\n\nAssistant: b\n\nAssistant: c',
      'must be the same dialogue',
    ),
    ('a', 'b', r"line 1: chosen needs a turn that begins '\\n\\nAssistant:'"),
    (
      '\n\nHuman: a\n\nAssistant: ',
      '\n\nHuman: a\n\nAssistant: c',
      'line 1: the last turn of chosen is empty',
    ),
  ],
)
def test_dialogues_that_do_not_pair_are_refused(
  tmp_path, chosen, rejected, message
):
  content = json.dumps({'chosen': chosen, 'rejected': rejected}).encode()
  with pytest.raises(InputError, match=message):
    dialogues(written(tmp_path, content)).load('train')


def test_targets_need_a_response(tmp_path):
  assert [r['response'] for r in own_targets(TARGETS).load('train')] == [
    'An apple.',
    'Green.',
  ]
  with pytest.raises(InputError, match='line 1: .* response is missing'):
    own_targets(written(tmp_path, GOOD)).load('train')


def test_targets_from_pairs_are_both_responses_or_the_chosen_one():
  both = sources.BothResponses(own_pairs(PAIRS)).load('train')
  chosen = sources.ChosenResponses(own_pairs(PAIRS)).load('train')
  assert [r['response'] for r in both[:2]] == ['An apple.', 'A stone.']
  assert (len(both), len(chosen)) == (8, 4)
  assert chosen[1] == {
    'prompt': 'Two lines:\nsay hi.',
    'response': 'Hi there!',
  }


def test_a_fingerprint_names_content_and_never_a_path(tmp_path):
  content = pathlib.Path(PAIRS).read_bytes()
  elsewhere = written(tmp_path, content)
  changed = written(tmp_path, content + GOOD, 'more.jsonl')
  original = own_pairs(PAIRS).fingerprint()
  assert own_pairs(elsewhere).fingerprint() == original
  assert own_pairs(changed).fingerprint() != original
  assert own_pairs(PAIRS, PAIRS).fingerprint() != original
  assert dialogues(PAIRS).fingerprint() != original  # other rows from it
  both = sources.BothResponses(own_pairs(PAIRS)).fingerprint()
  assert both != sources.ChosenResponses(own_pairs(PAIRS)).fingerprint()


@pytest.mark.parametrize(
  'source',
  [
    own_pairs(PAIRS),
    own_targets(TARGETS),
    dialogues(DIALOGUES),
    sources.BothResponses(own_pairs(PAIRS)),
    EmbeddedCorpus(),
  ],
)
def test_a_source_is_a_value(source):
  assert isinstance(source, sources.Source)
  assert hash(source) == hash(copy.deepcopy(source))
  assert source == copy.deepcopy(source)
