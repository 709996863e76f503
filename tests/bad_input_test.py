"""Every mistake of a caller: exit code 2, one message, before any work."""

import contextlib
import json
import pathlib
import resource
import shutil

import jax
import pytest
import tiny_commands
import tiny_study

from dap import main
from dap.checkpoints import state
from dap.models import t5
from dap.models.policy import Policy

GOOD = {
  'prompt': 'Name a fruit.',
  'chosen': 'An apple.',
  'rejected': 'A stone.',
}
POLICY = Policy(t5.T5Config(140, 16, 2, 8, 32, 1, 1))


def refused(capture, words):
  """The message of a command that must exit with 2 and say nothing else."""
  capture.readouterr()
  with pytest.raises(SystemExit) as exit_info:
    main.main(words)
  said = capture.readouterr().err
  assert exit_info.value.code == 2, said
  assert said.startswith(f'dap {words[0]}: '), said
  assert 'Traceback' not in said
  return said


@pytest.fixture
def out(tmp_path):
  """A folder that a refused command must not have made."""
  return tmp_path / 'out'


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
  """A policy of the tiny sizes, as an SFT run would leave it."""
  folder = tmp_path_factory.mktemp('sft')
  params = POLICY.init(jax.random.key(0))
  state.save(folder / 'checkpoints', 1, params, {}, '')
  return folder


def commands_on(path, out, *, test=None):
  """`dap data`, `train` and `study` on a JSONL file, by name."""
  given = {'TRAIN_FILE': str(path), 'TEST_FILE': str(test or path)}
  words = ['--gin_file=gin/data/jsonl.gin', '--gin_file=gin/data/bytes.gin']
  plain = [name for name in tiny_commands.SIZES if 'Corpus' in name]
  study = [name for name in tiny_study.SIZES if 'Corpus' in name]
  study += ['VOCABULARY_SIZE']
  return {
    'data': [
      'data',
      *words,
      *(f'--gin.{name}={value!r}' for name, value in given.items()),
      f'--gin.data.prepare_data.cache_dir={str(out)!r}',
    ],
    'train': tiny_commands.argv(
      'train', 'sft', out, *words, without=plain, **given
    ),
    'study': tiny_study.argv(out, *words, without=study, **given),
  }


def results(out):
  """What counts as work: arrays, checkpoints, metrics, finished stages."""
  names = ('*.npy', 'checkpoint_*', 'metrics.jsonl', 'stage.json')
  return [path for name in names for path in out.rglob(name)]


COMMANDS = ('data', 'train', 'study')


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
  assert 'Example 1: No response may be longer than 5 tokens' in said
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


# Checkpoints


def offline(out, checkpoint, *others, **changes):
  start = f'--gin.INITIAL_CHECKPOINT_PATH={str(checkpoint)!r}'
  return tiny_commands.argv(
    'train', 'offline_ipo', out, start, *others, **changes
  )


def test_a_missing_checkpoint_says_what_one_is(capfd, tmp_path, out):
  said = refused(capfd, offline(out, tmp_path / 'absent'))
  assert 'A checkpoint is a folder with metadata.json' in said
  assert not out.exists()


def test_a_checkpoint_that_is_not_given_is_asked_for(capfd, out):
  said = refused(capfd, tiny_commands.argv('train', 'offline_ipo', out))
  assert 'INITIAL_CHECKPOINT_PATH must be given' in said


def test_the_checkpoint_of_another_model_is_refused(capfd, checkpoint, out):
  words = offline(out, checkpoint, **{'t5.T5Config.mlp_dim': 48})
  said = refused(capfd, words)
  assert 'is the checkpoint of another configuration (other shape: ' in said
  assert 'needed (16, 48)' in said
  assert not out.exists()


def test_a_damaged_checkpoint_is_refused(capfd, checkpoint, tmp_path, out):
  folder = shutil.copytree(checkpoint, tmp_path / 'damaged')
  (path,) = folder.glob('checkpoints/checkpoint_1/params/manifest.ocdbt')
  content = bytearray(path.read_bytes())
  content[-1] ^= 1
  path.write_bytes(content)
  said = refused(capfd, offline(out, folder))
  assert 'is damaged: params/manifest.ocdbt fails its CRC-32' in said
  assert 'Remove that folder' in said
  assert not out.exists()


def test_a_folder_that_holds_another_run_is_left_alone(
  capfd, checkpoint, tmp_path
):
  folder = shutil.copytree(checkpoint, tmp_path / 'run')
  metadata = folder / 'checkpoints' / 'checkpoint_1' / 'metadata.json'
  params = POLICY.init(jax.random.key(0))
  rest = {'step': jax.numpy.asarray(1)}
  state.save(folder / 'checkpoints', 1, params, rest, 'another')
  before = metadata.read_bytes()
  said = refused(capfd, tiny_commands.argv('train', 'sft', folder))
  assert 'holds the run of another configuration' in said
  assert metadata.read_bytes() == before
  assert not (folder / 'configuration.json').exists()
  assert not (folder / 'metrics.jsonl').exists()


def test_sampling_from_no_run_is_refused(capfd, tmp_path):
  said = refused(capfd, tiny_commands.argv('sample', 'sft', tmp_path))
  assert f'{tmp_path} is none' in said


def test_a_stream_that_is_not_there_is_refused(capfd, checkpoint, out):
  words = offline(
    out,
    checkpoint,
    '--gin_file=gin/samplers/stream.gin',
    f'--gin.STREAM_PATH={str(out / "stream")!r}',
  )
  assert 'Bind RECORD_STREAM = True' in refused(capfd, words)


def test_a_report_of_no_study_is_refused(capfd, tmp_path):
  said = refused(capfd, tiny_study.report_argv(tmp_path))
  assert 'runs.jsonl is not there' in said


# Bindings and numbers


@pytest.mark.parametrize(
  'words',
  [
    tiny_commands.argv('train', 'offline_ipo', 'out', BETTA=1),
    tiny_study.argv('out', BETTA=1),
  ],
  ids=['train', 'study'],
)
def test_a_binding_that_nobody_reads_is_refused(capfd, words):
  assert 'nobody reads BETTA. Nearest: BETA.' in refused(capfd, words)


OUT_OF_RANGE = {
  'BETA': (0.0, 'beta of IPO must be > 0, got 0.0'),
  'LEARNING_RATE': (-1e-3, 'learning_rate > 0, got -0.001'),
  'OFFLINE_STEPS': (0, 'num_steps >= 1, got 0'),
  'OFFLINE_SAVE_STEPS': ((9,), r'save_steps must be in 1..6, got [9]'),
  'BATCH_SIZE': (0, 'batch_size >= 1, got 0'),
  'MESH': ((5, 1), 'needs 5 devices'),
  'optimizers.AdamW.clip_norm': (0.0, 'clip_norm > 0, got 0.0'),
}


@pytest.mark.parametrize('name', OUT_OF_RANGE)
def test_a_number_out_of_range_is_refused(capfd, checkpoint, out, name):
  value, expected = OUT_OF_RANGE[name]
  said = refused(capfd, offline(out, checkpoint, **{name: value}))
  assert expected in said
  assert not out.exists()


@pytest.mark.parametrize('beta', [0.0, -0.1])
def test_a_study_with_a_beta_out_of_range_is_refused(capfd, out, beta):
  words = tiny_study.argv(out, OFFLINE_SETTINGS=((1e-3, beta),))
  assert 'a beta > 0' in refused(capfd, words)
  assert not out.exists()


@pytest.mark.parametrize('temperature', [0.0, -1.0])
def test_a_temperature_out_of_range_is_refused(capfd, out, temperature):
  words = tiny_commands.argv(
    'train',
    'online_ipo',
    out,
    '--gin_file=gin/samplers/temperature.gin',
    *tiny_commands.starts(out),
    TEMPERATURE=temperature,
  )
  said = refused(capfd, words)
  assert f'temperature must be > 0, got {temperature}' in said


@pytest.mark.parametrize('dry_run', [(), ('--dry_run',)])
def test_a_batch_that_the_mesh_cannot_split_is_refused(
  capfd, checkpoint, out, dry_run
):
  words = offline(out, checkpoint, *dry_run, MESH=(4, 1), BATCH_SIZE=6)
  said = refused(capfd, words)
  assert 'divisible by the 4 devices of the data axis, got 6 rows' in said
  assert not out.exists()


def test_a_value_of_another_type_is_refused(capfd, checkpoint, out):
  said = refused(capfd, offline(out, checkpoint, BETA='high'))
  assert "must be float, got 'high'" in said


# Places

PLACES = ['file/run', '/sys/run', '/proc/run']


def commands_to(place):
  given = f'--gin.data.prepare_data.cache_dir={str(place)!r}'
  return {
    'data': ['data', '--gin_file=gin/data/embedded.gin', given],
    'train': tiny_commands.argv('train', 'sft', place),
    'study': tiny_study.argv(place),
  }


@pytest.mark.parametrize('command', COMMANDS)
@pytest.mark.parametrize('place', PLACES)
def test_a_place_that_cannot_be_written_is_named(
  capfd, tmp_path, monkeypatch, command, place
):
  monkeypatch.chdir(tmp_path)
  pathlib.Path('file').write_text('precious')
  said = refused(capfd, commands_to(pathlib.Path(place))[command])
  assert place in said and 'could not be written' in said
  assert pathlib.Path('file').read_text() == 'precious'


@contextlib.contextmanager
def largest_file(num_bytes):
  """A disk on which no file can grow beyond so many bytes."""
  soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
  try:
    yield
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize('command', COMMANDS)
def test_a_disk_that_is_full_is_told_and_says_what_to_free(
  capsys, tmp_path, command
):
  place = tmp_path / 'run'
  with largest_file(300):
    said = refused(capsys, commands_to(place)[command])
  assert str(place) in said and 'File too large' in said
  assert 'Free some space, then give the same command again' in said
  assert 'are free; the largest in' in said
  assert not results(place)
