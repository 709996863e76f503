import algorithm_laws as laws

RUN = laws.run_of('sample_rank', NUM_SAMPLES=4)


def test_one_program_serves_a_grid_of_sample_rank(tmp_path):
  runs = [
    laws.numbers_of(RUN, rate, likelihood_weight=number)
    for rate, number in ((1e-3, 0.1), (1e-2, 0.7))
  ]
  laws.one_program_serves(runs, tmp_path)
