import algorithm_laws as laws

RUN = laws.run_of('rest', THRESHOLD=0.0, NUM_SAMPLES=1)


def test_one_program_serves_a_grid_of_rest(tmp_path):
  runs = [laws.numbers_of(RUN, rate) for rate in (1e-3, 1e-2)]
  laws.one_program_serves(runs, tmp_path)
