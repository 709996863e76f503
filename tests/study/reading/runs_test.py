import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dap.errors import InputError
from dap.study.reading import runs
from dap.study.reading.runs import Point

A = Point(
  'online_0', 'online_ipo', 0, 100, 5e-4, {'beta': 0.1}, 0.1 + 0.2, win_rate=0.5
)
B = A._replace(step=20)
C = A._replace(run='offline_0', algorithm='offline_ipo', seed=1)


def test_what_is_written_is_read_in_one_order(tmp_path):
  path = tmp_path / 'runs.jsonl'
  runs.write(path, [A, C, B])
  assert runs.read(path) == [C, B, A]
  before = path.read_bytes()
  runs.write(path, [B, A, C])
  assert path.read_bytes() == before


def test_a_line_has_the_schema_first_and_fields_in_order():
  record = json.loads(runs.line(A))
  assert list(record) == ['schema', *Point._fields]
  assert record['hidden_utility'] is None
  assert '"kl_nats": 0.30000000000000004,' in runs.line(A)


@settings(deadline=None, derandomize=True)
@given(st.floats(allow_nan=False, allow_infinity=False), st.floats(0, 1))
def test_numbers_come_back_to_the_bit(kl, rate):
  record = json.loads(runs.line(A._replace(kl_nats=kl, win_rate=rate)))
  assert (record['kl_nats'], record['win_rate']) == (kl, rate)


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    ({'schema': 7}, 'needs schema 3, got 7.*another version'),
    ({'win_rate': 1.5}, "'win_rate' must be a number from 0 to 1, got 1.5"),
    ({'win_rate': None}, "'win_rate' is missing"),
    ({'kl_nats': '3'}, "'kl_nats' must be a finite number, got '3'"),
    ({'kl_nats': True}, "'kl_nats' must be a finite number, got True"),
    ({'step': 1.5}, "'step' must be a whole number >= 0, got 1.5"),
    ({'scalars': {'tau': '1'}}, "'scalars' must be finite numbers by name"),
    ({'algorithm': ''}, "'algorithm' must be text, got ''"),
    ({'betta': 0.1}, "unknown field 'betta'"),
  ],
)
def test_a_bad_line_is_named_by_its_number(tmp_path, change, message):
  path = tmp_path / 'runs.jsonl'
  record = json.loads(runs.line(B)) | change
  path.write_text(runs.line(A) + json.dumps(record) + '\n')
  with pytest.raises(InputError, match=f'runs.jsonl, line 2: .*{message}'):
    runs.read(path)


@pytest.mark.parametrize(('beta', 'scalars'), [(0.1, A.scalars), (None, {})])
def test_a_line_of_0_3_0_has_its_one_number_by_name(tmp_path, beta, scalars):
  record = {**json.loads(runs.line(A)), 'schema': 2, 'beta': beta}
  del record['scalars']
  path = tmp_path / 'runs.jsonl'
  path.write_text(json.dumps(record) + '\n')
  assert runs.read(path) == [A._replace(scalars=scalars)]
  runs.write(path, runs.read(path))
  assert runs.read(path) == [A._replace(scalars=scalars)]


def test_a_point_that_is_not_a_number_is_not_written(tmp_path):
  with pytest.raises(InputError, match="run 'online_0': 'kl_nats' must be"):
    runs.write(tmp_path / 'runs.jsonl', [A._replace(kl_nats=float('nan'))])


def test_one_checkpoint_twice_is_refused(tmp_path):
  with pytest.raises(InputError, match="'online_0', seed 0, step 100.*twice"):
    runs.write(tmp_path / 'runs.jsonl', [A, A])


def test_a_study_without_points_is_told_from_one_that_is_not_there(tmp_path):
  with pytest.raises(InputError, match='is not there.*dap study'):
    runs.read(tmp_path / 'runs.jsonl')
  (tmp_path / 'runs.jsonl').touch()
  with pytest.raises(InputError, match='holds no points'):
    runs.read(tmp_path / 'runs.jsonl')


def test_arrays_that_lack_a_name_are_refused(tmp_path):
  path = tmp_path / 'a.npz'
  np.savez(path, kl=np.arange(3))
  assert runs.read_arrays(path, ['kl'])['kl'].tolist() == [0, 1, 2]
  with pytest.raises(InputError, match='with kl, tokens: .*tokens'):
    runs.read_arrays(path, ['kl', 'tokens'])
