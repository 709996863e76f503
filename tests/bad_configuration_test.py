"""Every mistake in checkpoints, numbers and places: exit code 2, no work."""

import contextlib
import pathlib
import resource
import shutil

import jax
import pytest
import tiny_commands
import tiny_study
from refusals import COMMANDS, refused, results

from dap.checkpoints import state
from dap.models import t5
from dap.models.policy import Policy

POLICY = Policy(t5.T5(t5.T5Config(140, 16, 2, 8, 32, 1, 1)))


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


# Checkpoints


def offline(out, checkpoint, *others, **changes):
  start = f'--gin.INITIAL_CHECKPOINT_PATH={str(checkpoint)!r}'
  return tiny_commands.argv(
    'train', 'offline_ipo', out, start, *others, **changes
  )


def test_a_missing_checkpoint_says_what_one_is(capfd, tmp_path, out):
  said = refused(capfd, offline(out, tmp_path / 'absent'))
  assert 'it does not exist. A checkpoint is a folder with files' in said
  assert not out.exists()


def test_a_checkpoint_that_is_not_given_is_asked_for(capfd, out):
  said = refused(capfd, tiny_commands.argv('train', 'offline_ipo', out))
  assert 'INITIAL_CHECKPOINT_PATH must be given' in said


def test_the_checkpoint_of_another_model_is_refused(capfd, checkpoint, out):
  words = offline(out, checkpoint, **{'t5.T5Config.mlp_dim': 48})
  said = refused(capfd, words)
  assert 'is the checkpoint of another model. Of its parameters are ' in said
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
  assert 'remove that folder' in said
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
  assert f'{tmp_path} is no checkpoint' in said


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
  'BETA': (0.0, 'beta of ipo_loss must be > 0, got 0.0'),
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
  words = tiny_study.argv(out, SETTINGS=((1e-3, beta),))
  said = refused(capfd, words)
  assert 'of the arm o' in said
  assert f'beta of ipo_loss must be > 0, got {beta}' in said
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
  assert "beta of ipo_loss must be a number, got 'high'" in said


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
  assert 'ulimit -f' in said and 'then give the same command again' in said
  assert not results(place)
