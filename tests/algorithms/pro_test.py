import algorithm_laws as laws

RUN = laws.run_of('pro')


def test_one_program_serves_a_grid_of_pro(tmp_path):
  runs = [
    laws.numbers_of(RUN, rate, likelihood_weight=number)
    for rate, number in ((1e-3, 0.1), (1e-2, 0.7))
  ]
  laws.one_program_serves(runs, tmp_path)
