import os

import pytest

from dap.stages import artefacts, machine

GPU = artefacts.Runtime((), 'gpu', 1, '', ())
CPU = GPU._replace(backend='cpu')
FRACTION = 'XLA_PYTHON_CLIENT_MEM_FRACTION'


@pytest.fixture
def visible(monkeypatch):
  """Says which GPUs there are."""
  monkeypatch.delenv(FRACTION, raising=False)
  return lambda names: monkeypatch.setenv('CUDA_VISIBLE_DEVICES', names)


def seen(tmp_path, num_workers, devices_each=1, where=GPU):
  return [
    machine.environment(tmp_path, where, index, num_workers, devices_each)
    for index in range(num_workers)
  ]


def test_each_worker_has_a_gpu_of_its_own_and_all_its_memory(tmp_path, visible):
  visible('2,5,7')
  found = seen(tmp_path, 3)
  assert [each['CUDA_VISIBLE_DEVICES'] for each in found] == ['2', '5', '7']
  assert {each[FRACTION] for each in found} == {'0.900'}


def test_a_worker_on_a_mesh_has_a_group_of_gpus(tmp_path, visible):
  visible('0,1,2,3')
  found = seen(tmp_path, 2, devices_each=2)
  assert [each['CUDA_VISIBLE_DEVICES'] for each in found] == ['0,1', '2,3']
  assert {each[FRACTION] for each in found} == {'0.900'}


@pytest.mark.parametrize(
  ('names', 'devices_each', 'expected', 'fraction'),
  [
    ('0,1', 1, ['0', '1', '0'], '0.450'),  # two of three share one: .9 / 2
    ('4', 1, ['4', '4', '4'], '0.300'),
    ('0,1', 2, ['0,1', '0,1', '0,1'], '0.300'),
  ],
)
def test_workers_beyond_the_gpus_share_them(
  tmp_path, visible, names, devices_each, expected, fraction
):
  visible(names)
  found = seen(tmp_path, 3, devices_each)
  assert [each['CUDA_VISIBLE_DEVICES'] for each in found] == expected
  assert {each[FRACTION] for each in found} == {fraction}


def test_without_gpus_nothing_is_said_of_them(tmp_path, visible):
  visible('0,1')
  for each in seen(tmp_path, 2, where=CPU):
    assert 'CUDA_VISIBLE_DEVICES' not in each


def test_a_fraction_that_the_caller_gave_is_shared(
  tmp_path, visible, monkeypatch
):
  visible('0')
  monkeypatch.setenv(FRACTION, '.5')
  assert seen(tmp_path, 1)[0][FRACTION] == '0.500'
  assert seen(tmp_path, 2)[1][FRACTION] == '0.250'


def test_gpus_are_found_by_their_device_files(monkeypatch, tmp_path):
  monkeypatch.delenv('CUDA_VISIBLE_DEVICES', raising=False)
  monkeypatch.setattr(machine, '_DEVICES', tmp_path)
  assert machine.gpus() == ()
  for name in ('nvidia10', 'nvidia2', 'nvidiactl', 'nvidia-uvm', 'null'):
    (tmp_path / name).touch()
  assert machine.gpus() == ('2', '10')


def test_workers_fill_the_machine(visible):
  visible('0,1,2,3')
  assert machine.default_workers('gpu') == 4
  assert machine.default_workers('gpu', devices_each=4) == 1
  assert machine.default_workers('gpu', devices_each=8) == 1
  assert machine.default_workers('tpu') == 0
  assert machine.default_workers('cpu') == len(os.sched_getaffinity(0))
