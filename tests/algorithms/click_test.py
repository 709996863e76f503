import algorithm_laws as laws
import pytest

from dap.data import arrays
from dap.training import recorded, stream

RUN = laws.run_of('click')


@pytest.fixture(scope='module')
def done(tmp_path_factory):
  return laws.done(RUN, tmp_path_factory.mktemp('click'))


def test_click_survives_kills(done, tmp_path):
  laws.survives_kills(done, tmp_path, kills=(5,))


def test_the_stream_of_click_repeats_it(done, tmp_path):
  laws.replay_repeats(done, tmp_path)


def test_one_program_serves_a_grid_of_click(tmp_path):
  runs = [
    laws.numbers_of(RUN, rate, rank_weight=number)
    for rate, number in ((1e-3, 0.1), (1e-2, 0.7))
  ]
  laws.one_program_serves(runs, tmp_path)


def test_the_data_stand_before_the_samples(done):
  laws.data_stand_first(done)


def test_another_batch_size_is_no_repetition_and_it_is_said(done):
  examples = stream.read(done.folder / 'stream')
  assert examples.examples_of_step == 8 * 8  # of a prompt as many as samples

  def said(size, order=arrays.in_order):
    return recorded.no_repetition(order, size, examples)

  assert said(64) == ''
  assert 'Bind BATCH_SIZE = 64 for that' in said(8)
  assert said(8, arrays.batch_indices) == ''
  assert recorded.no_repetition(arrays.in_order, 1, laws.PAIRS) == ''
