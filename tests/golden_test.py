"""The numbers of version 0.3.0, which no change of structure may move.

A change is allowed where an algorithm, a default or a tie rule is meant to
change, or a new jaxlib computes otherwise; CHANGELOG.md says so, and
`python tests/golden.py tests/fixtures/golden/0.3.0.npz` records anew.
`benchmarks/golden.py --before REV` compares two commits to the byte on one
machine, whatever that is.
"""

import json
import os
import pathlib
import subprocess
import sys

import golden
import numpy as np
import pytest

TESTS = pathlib.Path(__file__).parent
RECORDED = TESTS / 'fixtures' / 'golden' / '0.3.0.npz'
OF_PART = {'study': ('points', 'verdicts'), 'text': ('sample',)}


def belongs(name, part):
  """Whether an array, or a group of them, was recorded by a part."""
  first = name.split('/')[0]
  others = sum(OF_PART.values(), ())
  return first in OF_PART[part] if part in OF_PART else first not in others


def observed(part, folder, known):
  """(arrays, machine) of a process without the checks of types of tests.

  On a machine that no bytes are known of it compiles without much care.
  """
  output = folder / 'found.npz'
  flags = golden.XLA_FLAGS
  if golden.machine(flags) not in known:
    flags += ' --xla_backend_optimization_level=0'
  environment = {
    **os.environ,
    'PYTHONPATH': os.pathsep.join([str(TESTS.parent), str(TESTS)]),
    'XLA_FLAGS': flags,
  }
  program = [sys.executable, str(TESTS / 'golden.py'), str(output), part]
  subprocess.run(program, env=environment, check=True)
  (machine,) = json.loads(output.with_suffix('.json').read_text())
  return dict(np.load(output)), machine


@pytest.mark.parametrize('part', golden.PARTS)
def test_numbers_are_those_of_version_0_3_0(
  tmp_path, part, record_property, capsys
):
  known = json.loads(RECORDED.with_suffix('.json').read_text())
  found, machine = observed(part, tmp_path, known)
  with np.load(RECORDED) as stored:
    before = {n: stored[n] for n in stored.files if belongs(n, part)}
  exact = machine in known
  record_property('compared', 'bytes' if exact else 'floats to 5e-5')
  with capsys.disabled():
    how = 'to the byte' if exact else 'to 5e-5: no hashes of this machine'
    print(f'\ngolden {part}: compared {how}')
  assert not golden.differences(before, found, exact)
  if exact:
    hashes = known[machine]
    # Verdicts were recorded anew, each half of the prompts judging the other's
    # choice: `differences` has compared them.
    same = {n: v for n, v in golden.hashes(found).items() if n != 'verdicts'}
    assert same == {n: v for n, v in hashes.items() if n in same}
    assert same or part == 'text'
