import algorithm_laws as laws
import pytest

RUN = laws.run_of('rrhf')


@pytest.fixture(scope='module')
def done(tmp_path_factory):
  return laws.done(RUN, tmp_path_factory.mktemp('rrhf'))


def test_rrhf_survives_kills(done, tmp_path):
  laws.survives_kills(done, tmp_path, kills=(5,))


def test_the_stream_of_rrhf_repeats_it(done, tmp_path):
  laws.replay_repeats(done, tmp_path)


def test_one_program_serves_a_grid_of_rrhf(tmp_path):
  runs = [
    laws.numbers_of(RUN, rate, rank_weight=number)
    for rate, number in ((1e-3, 0.1), (1e-2, 0.7))
  ]
  laws.one_program_serves(runs, tmp_path)


def test_the_data_stand_before_the_samples(done):
  laws.data_stand_first(done)
