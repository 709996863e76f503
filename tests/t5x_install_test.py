import os
import pathlib
import subprocess

SCRIPT = 'launch/install_t5x.sh'
ROOT = pathlib.Path(__file__).resolve().parent.parent


def install(*words, **environment):
  return subprocess.run(
    ['bash', SCRIPT, *words],
    env={**os.environ, **environment},
    capture_output=True,
    text=True,
    cwd=ROOT,
  )


def test_help_says_what_is_fetched_and_how_to_give_it_instead():
  done = install('--help')
  assert done.returncode == 0
  assert 'GitHub' in done.stdout and 'T5X_SOURCES=DIRECTORY' in done.stdout


def test_an_argument_and_a_folder_without_checkouts_are_refused(tmp_path):
  environment = {'DAP_VENV': str(tmp_path / 'venv')}
  assert "takes no 'all'" in install('all', **environment).stderr
  (tmp_path / 'jestimator' / 'jestimator').mkdir(parents=True)
  done = install(T5X_SOURCES=str(tmp_path), **environment)
  assert done.returncode == 2
  assert f'there is no {tmp_path}/airio/airio' in done.stderr
  assert 'Clone https://github.com/google/airio' in done.stderr
  assert not (tmp_path / 'venv').exists()
