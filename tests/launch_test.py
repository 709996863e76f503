import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
SCRIPTS = sorted((ROOT / 'launch').glob('*.sh'))


def bash(*words, **environment):
  return subprocess.run(
    ['bash', *words],
    env={**os.environ, **environment},
    capture_output=True,
    text=True,
    cwd=ROOT,
  )


@pytest.mark.parametrize('path', [*SCRIPTS, ROOT / '.ci' / 'run'], ids=str)
def test_a_script_is_bash_and_says_what_it_does(path):
  assert bash('-n', str(path)).returncode == 0
  assert '\n# ' in '\n' + path.read_text()


def test_an_old_python_is_refused_with_what_to_install(tmp_path):
  old = tmp_path / 'python3.8'
  old.write_text('#!/bin/sh\ncase "$2" in *exit*) exit 1;; esac\necho 3.8\n')
  old.chmod(0o755)
  done = bash(
    'launch/quickstart.sh', PYTHON=str(old), DAP_VENV=str(tmp_path / 'venv')
  )
  assert done.returncode == 2
  assert 'needs Python 3.11 or newer' in done.stderr
  assert f'{old} (3.8)' in done.stderr and 'apt install' in done.stderr
  assert not (tmp_path / 'venv').exists()


@pytest.mark.parametrize(
  ('before', 'after'),
  [
    ('', 'glibc.malloc.hugetlb=1'),
    ('glibc.malloc.check=1', 'glibc.malloc.check=1:glibc.malloc.hugetlb=1'),
    ('glibc.malloc.hugetlb=0', 'glibc.malloc.hugetlb=0'),
  ],
)
def test_huge_pages_join_the_tunables_that_are_set(before, after):
  program = (
    f'source launch/environment.sh; GLIBC_TUNABLES={before};'
    ' use_huge_pages; printenv GLIBC_TUNABLES || echo "$GLIBC_TUNABLES"'
  )
  assert bash('-c', program, GLIBC_TUNABLES='').stdout.strip() == after


STUDIES = (
  'default', 'gap', 'h1', 'h2', 'h3', 'h4', 'h5', 'on_policy_data', 'losses',
  'staleness', 'all',
)  # fmt: skip
PRINTS = """
run_here() { printf '%s\\n' "$@"; exit; }
"""


@pytest.fixture(scope='module')
def study(tmp_path_factory):
  """launch/study.sh where starting a command only prints its words."""
  root = tmp_path_factory.mktemp('root')
  (root / 'launch').mkdir()
  (root / 'configs').symlink_to(ROOT / 'configs')
  environment = (ROOT / 'launch' / 'environment.sh').read_text()
  (root / 'launch' / 'environment.sh').write_text(environment + PRINTS)
  (root / 'launch' / 'gpu.sh').write_text('echo on gpu "$@"')
  script = root / 'launch' / 'study.sh'
  script.write_text((ROOT / 'launch' / 'study.sh').read_text())
  return lambda *words, **environment: bash(
    str(script), *words, **{'WORK_DIR': '', 'PLACE': '', **environment}
  )


@pytest.mark.parametrize('name', STUDIES)
def test_every_experiment_starts_by_its_name(study, name):
  _, command, config, folder, *rest = study(name, '--dry_run').stdout.split()
  assert command == 'study' and rest == ['--dry_run']
  path = ROOT / config.removeprefix('--gin_file=')
  assert path.exists() and path.parent.name == 'studies'
  assert folder.startswith('--gin.STUDY_DIR=') and f'/out/{name}' in folder


def test_papers_sizes_places_and_folders_are_chosen_by_the_caller(study):
  words = study('h5', '--gin.SEEDS=(1,)', '--paper').stdout.split()
  assert '--gin_file=configs/paper/h5_scaling.gin' in words
  assert '/out/paper/h5' in words[3] and words[4] == '--gin.SEEDS=(1,)'
  there = study('gap', PLACE='gpu', WORK_DIR='/data').stdout
  assert there.startswith('on gpu study --gin_file=configs/studies/gap.gin')
  assert "--gin.STUDY_DIR='gap'" in there


@pytest.mark.parametrize(
  ('words', 'place', 'message'),
  [
    (('h6',), '', "no experiment 'h6'. There are: default gap h1"),
    ((), '', 'Name an experiment: default gap'),
    (('losses', '--paper'), '', 'There are: all gap h1_coverage'),
    (('gap',), 'moon', 'give cpu, gpu or tpu'),
  ],
)
def test_what_is_not_there_is_refused_with_what_is(
  study, words, place, message
):
  done = study(*words, PLACE=place)
  assert done.returncode == 2 and not done.stdout
  assert message in done.stderr


def test_help_teaches_every_experiment(study):
  done = study('--help')
  assert done.returncode == 0
  for name in STUDIES:
    assert f'\n  {name} ' in done.stdout
  assert '--paper' in done.stdout and 'set -e' not in done.stdout


@pytest.mark.parametrize('name', ['quickstart', 'test', 'install_t5x'])
def test_help_starts_nothing(name):
  done = bash(f'launch/{name}.sh', '--help')
  assert done.returncode == 0 and f'bash launch/{name}.sh' in done.stdout
  assert 'source ' not in done.stdout and not done.stderr


def test_a_misspelt_option_is_no_directory():
  done = bash('launch/quickstart.sh', '--dry_run')
  assert done.returncode == 2 and "not '--dry_run'" in done.stderr


@pytest.fixture
def installs(tmp_path):
  """launch/test.sh with a Python that only notes what it is asked to do."""
  programs = {
    'python': f"""
      echo "$@" >> {tmp_path}/asked
      case "$*" in
        *version_info*%*) echo 3.11 ;;
        *'-m venv'*) mkdir -p "$4/bin" && cp {tmp_path}/bin/* "$4/bin" ;;
      esac""",
    'ruff': 'echo ruff "$@"',
    'pyright': 'echo pyright "$@"',
    'pytest': f"""
      case "$*" in
        *--newst*) exec {sys.executable} -m pytest "$@" ;;
        *) echo pytest "$@" ;;
      esac""",
  }
  (tmp_path / 'bin').mkdir()
  for name, body in programs.items():
    (tmp_path / 'bin' / name).write_text(f'#!/bin/sh\n{body}\n')
    (tmp_path / 'bin' / name).chmod(0o755)

  def run(*words):
    done = bash(
      'launch/test.sh',
      *words,
      PYTHON=str(tmp_path / 'bin' / 'python'),
      DAP_VENV=str(tmp_path / 'venv'),
    )
    return done, (tmp_path / 'asked').read_text()

  return run


@pytest.mark.parametrize(
  ('end', 'resolution'), [('newest', 'highest'), ('oldest', 'lowest-direct')]
)
def test_an_end_of_the_ranges_has_an_environment_of_its_own(
  installs, tmp_path, end, resolution
):
  assert f'  --{end}  ' in bash('launch/test.sh', '--help').stdout
  done, asked = installs(f'--{end}', '-k', 'ipo')
  assert done.returncode == 0
  assert f'-m venv --clear {tmp_path}/venv-{end}' in asked
  assert f'--resolution {resolution} --editable .[test]' in asked
  assert 'requirements.lock' not in asked
  assert not (tmp_path / 'venv').exists()
  *_, tests = done.stdout.splitlines()
  assert tests.endswith(' -k ipo') and 'ruff' not in done.stdout
  paths = [word for word in tests.split() if word.startswith('tests/')]
  assert 'tests/losses' in paths and len(paths) >= 5
  assert all((ROOT / path).exists() for path in paths)


def test_a_misspelt_option_is_refused_by_pytest(installs, tmp_path):
  done, asked = installs('--newst')
  assert done.returncode == 1 and 'failed: tests' in done.stderr
  assert 'unrecognized arguments: --newst' in done.stderr
  assert '--constraint requirements.lock' in asked and ' uv ' not in asked
  assert not (tmp_path / 'venv-newest').exists()
