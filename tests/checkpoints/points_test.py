import jax.numpy as jnp

from dap.checkpoints import points, state

PARAMS, REST = {'scale': jnp.ones(5)}, {'step': jnp.asarray(3)}


def newest(root):
  return points.restartable(root)[0].name


def test_restart_points_go_with_the_checkpoint_that_follows(tmp_path):
  def keep(step, kind):
    state.save(tmp_path, step, PARAMS, REST, '', kind=kind)
    return sorted(path.name for path in tmp_path.iterdir())

  keep(1, points.RESTART), keep(2, points.RESTART)
  assert keep(3, points.RESTART) == ['restart_2', 'restart_3']
  assert keep(4, points.POINT) == ['checkpoint_4']
  keep(5, points.RESTART), keep(6, points.RESTART)
  assert keep(7, points.RESTART) == ['checkpoint_4', 'restart_6', 'restart_7']
  assert newest(tmp_path) == 'restart_7' and points.steps(tmp_path) == [4]
  keep(8, points.POINT), keep(9, points.POINT)
  with_rest = [path.parent.name for path in tmp_path.glob('*/rest')]
  assert sorted(with_rest) == ['checkpoint_8', 'checkpoint_9']
  state.save(tmp_path, 10, PARAMS, REST, '', kind=points.RESTART)
  points.drop_restarts(tmp_path)
  assert newest(tmp_path) == 'checkpoint_9'


def test_no_checkpoint_is_no_step(tmp_path):
  assert points.steps(tmp_path / 'absent') == []
  assert points.restartable(tmp_path / 'absent') == []
