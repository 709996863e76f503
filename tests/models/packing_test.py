import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from dap import errors
from dap.models import heads, packing
from dap.models.packing import Room
from dap.sampling.choose import InverseCdf

REAL = np.array([[1, 1, 0], [1, 0, 0], [1, 1, 1]], bool)
PROMPTS = jnp.array([[5, 6, 7, 0], [8, 9, 10, 11], [3, 0, 0, 0]])  # 8 are real
RESPONSES = jnp.array([  # 13 are real
  [[3, 4, 1], [5, 6, 7]], [[1, 0, 0], [9, 1, 0]], [[4, 1, 0], [8, 1, 0]],
])  # fmt: skip
PARAMS = tiny.POLICY.init(jax.random.key(0))
JUDGED = tiny.JUDGE.init(jax.random.key(1))
ROOMS = pytest.mark.parametrize(
  'room', [Room(8, 13), Room(10, 15), Room(8, None), Room(None, 14)]
)


@pytest.mark.parametrize('room', [6, 8])
def test_real_tokens_lie_one_after_another_and_come_back(room):
  layout = packing.layout(jnp.array(REAL), room)
  x = jnp.arange(1.0, 10.0).reshape(3, 3)
  packed = layout.pack(x)
  # Rows 1 2 -, 4 - -, 7 8 9.
  np.testing.assert_array_equal(packed[:6], [1, 2, 4, 7, 8, 9])
  np.testing.assert_array_equal(packed[6:], 0)
  np.testing.assert_array_equal(layout.spread(packed), np.where(REAL, x, 0))


def test_the_gradient_of_packing_is_its_inverse():
  layout = packing.layout(jnp.array(REAL), 8)
  cotangent = jnp.arange(1.0, 9.0)[:, None]
  bar = jax.vjp(layout.pack, jnp.ones((3, 3, 1)))[1](cotangent)[0]
  np.testing.assert_array_equal(bar, layout.spread(cotangent))
  plain = lambda x: x.reshape(-1, 1).at[layout.positions].get(mode='fill')
  (expected,) = jax.vjp(plain, jnp.ones((3, 3, 1)))[1](cotangent)
  np.testing.assert_array_equal(bar, expected)


@ROOMS
def test_a_room_changes_log_probs_and_gradients_by_rounding_alone(room):
  def loss(policy):
    def total(params):
      log_probs = policy.log_probs(params, PROMPTS, RESPONSES)
      return jnp.sum(jnp.square(log_probs)), log_probs

    return jax.jit(jax.value_and_grad(total, has_aux=True))(PARAMS)

  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-4),
    loss(packing.packed(tiny.POLICY, room)),
    loss(tiny.POLICY),
  )


def test_so_it_does_scores_and_samples():
  room, keys = Room(8, 13), jax.random.split(jax.random.key(2), 3)
  scores = lambda judge: jax.jit(judge.scores)(JUDGED, PROMPTS, RESPONSES)
  judge = packing.packed(tiny.JUDGE, room)
  np.testing.assert_allclose(scores(judge), scores(tiny.JUDGE), atol=1e-5)

  @jax.jit
  def samples(params, keys):
    policies = tiny.POLICY, packing.packed(tiny.POLICY, room)
    return [
      each.sample(
        params, PROMPTS, keys, num_samples=2, length=5, choose=InverseCdf()
      )
      for each in policies
    ]

  padded, packed = samples(PARAMS, keys)
  np.testing.assert_array_equal(padded.tokens, packed.tokens)
  np.testing.assert_allclose(padded.log_probs, packed.log_probs, atol=1e-5)


def test_a_model_that_reads_other_texts_than_those_of_a_batch_is_left_padded():
  joint = heads.JointPreferenceModel(tiny.T5, 20, (3,), (4,), 5, 6)
  assert packing.packed(joint, Room(8, 13)) is joint
  assert packing.packed(tiny.POLICY, Room()) == tiny.POLICY


def test_dropout_needs_texts():
  model = dataclasses.replace(tiny.T5, room=Room(8, 13))
  with pytest.raises(errors.InputError, match='without packing'):
    model.dropping(jax.random.key(0)).encode(PARAMS, PROMPTS)
