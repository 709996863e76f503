import os
import pathlib
import subprocess

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
