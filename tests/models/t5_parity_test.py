import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import t5x_parity as parity
from flax import traverse_util

from dap.losses import heads
from dap.models import t5
from dap.models.policy import Policy
from dap.records import Pair
from dap.sampling import decode
from dap.sampling.choose import Greedy

POLICY = Policy(parity.T5)
REAL = parity.outputs()['batch/decoder_target_tokens'] > 0


def close(name, ours, tolerance=1e-4):
  theirs = parity.outputs()[name]
  assert np.abs(theirs).max() > 0.1
  np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance)


def test_encoder_states_are_t5x_s():
  encode = jax.jit(lambda p, x: t5.apply(parity.CONFIG, p, 'encode', x))
  close('encoded', encode(parity.params(), parity.batch()[0]))


def test_logits_are_t5x_s_on_padding_too():
  close(
    'logits', parity.logits(parity.CONFIG, parity.params(), *parity.batch())
  )


def test_logits_of_packed_rows_are_t5x_s():
  packed = parity.batch('packed')
  close('packed/logits', parity.logits(parity.CONFIG, parity.params(), *packed))


def test_tied_logits_are_t5x_s():
  config = dataclasses.replace(parity.CONFIG, logits_via_embedding=True)
  params = {**parity.params(), 'decoder': dict(parity.params()['decoder'])}
  del params['decoder']['logits_dense']
  close('variant/tied/logits', parity.logits(config, params, *parity.batch()))


@pytest.mark.parametrize(
  ('name', 'float32_attention'), [('bf16', False), ('bf16_f32attn', True)]
)
def test_bfloat16_logits_are_t5x_s_within_a_step_of_rounding(
  name, float32_attention
):
  config = dataclasses.replace(
    parity.CONFIG,
    dtype='bfloat16',
    float32_attention_logits=float32_attention,
  )
  logits = parity.logits(config, parity.params(), *parity.batch())
  assert logits.dtype == jnp.float32
  # bfloat16 has 8 bits: numbers near 3, as the logits are, lie 1/64 apart.
  close(f'variant/{name}/logits', logits, 4 / 64)


def test_scores_are_t5x_s():
  prompts, _, targets = parity.batch()
  scores = jax.jit(POLICY.log_probs)(
    parity.params(), prompts, targets[:, None]
  )[:, 0]
  close('score/token_logprob', scores)
  close('score/sequence', scores.sum(1))


@pytest.mark.parametrize(
  ('variant', 'z_loss', 'smoothing'),
  [
    ('sum_z0', 0.0, 0.0),
    ('sum_z1e-4', 1e-4, 0.0),
    ('sum_z1e-2', 1e-2, 0.0),
    ('sum_z1e-4_ls0.1', 1e-4, 0.1),
  ],
)
def test_losses_are_t5x_s(variant, z_loss, smoothing):
  outputs = parity.outputs()
  total = parity.loss(
    parity.logits(parity.CONFIG, parity.params(), *parity.batch()),
    outputs['batch/decoder_target_tokens'],
    outputs['batch/decoder_loss_weights'],
    z_loss=z_loss,
    label_smoothing=smoothing,
  )
  close(f'loss/{variant}/total', total, 1e-4)


@pytest.mark.parametrize(
  'variant', ['per_real_token', 'per_total_token', 'avg_per_sequence']
)
def test_normalised_losses_are_t5x_s(variant):
  outputs = parity.outputs()
  weights = outputs['batch/decoder_loss_weights']
  rows = weights.sum(axis=1, keepdims=True)
  scaled = {
    'per_real_token': weights / weights.sum(),
    'per_total_token': weights / weights.size,
    'avg_per_sequence': weights / rows / len(weights),
  }[variant]
  total = parity.loss(
    parity.logits(parity.CONFIG, parity.params(), *parity.batch()),
    outputs['batch/decoder_target_tokens'],
    scaled,
    z_loss=1e-4,
  )
  close(f'loss/{variant}_z1e-4/total', total, 1e-4)


def test_gradients_are_t5x_s():
  weights = parity.outputs()['batch/decoder_loss_weights']

  def total(params):
    logits = parity.logits(parity.CONFIG, params, *parity.batch())
    return parity.loss(logits, parity.batch()[2], weights, z_loss=1e-4)

  # With the care that tests are otherwise compiled without: rounding counts.
  careful = {'xla_backend_optimization_level': 2}
  gradients = jax.jit(jax.grad(total), compiler_options=careful)
  ours = traverse_util.flatten_dict(gradients(parity.params()), sep='/')
  assert ours.keys() == parity.gradients().keys()
  for name, theirs in parity.gradients().items():
    # A small element is a difference of large ones, and processors sum in
    # orders of their own: to 3e-5 of the largest of its array.
    near = max(1e-4, 3e-5 * np.max(np.abs(theirs)))
    np.testing.assert_allclose(
      ours[name], theirs, rtol=1e-4, atol=near, err_msg=name
    )
  squares = sum(np.sum(np.square(x)) for x in ours.values())
  # Near 269, where float32 itself rounds to 3e-5: relative, 84 such roundings.
  np.testing.assert_allclose(
    np.sqrt(squares), parity.outputs()['grad_global_norm'], rtol=1e-5
  )


@jax.jit
def stepwise_logits(inputs, prompts):
  encoded = t5.apply(parity.CONFIG, parity.params(), 'encode', prompts)
  cache = t5.apply(
    parity.CONFIG,
    parity.params(),
    'prefill',
    encoded,
    prompts,
    num_samples=1,
    length=inputs.shape[1],
  )
  kernel = parity.params()['decoder']['logits_dense']['kernel']

  def step(cache, column):
    hidden, cache = t5.apply(
      parity.CONFIG, parity.params(), 'decode_step', cache, *column
    )
    return cache, hidden[:, 0] @ kernel

  columns = (inputs.T[:, :, None], jnp.arange(inputs.shape[1]))
  return jnp.moveaxis(jax.lax.scan(step, cache, columns)[1], 0, 1)


def test_cached_decoding_gives_t5x_s_logits_and_those_of_teacher_forcing():
  prompts, inputs, _ = parity.batch()
  logits = stepwise_logits(inputs, prompts)
  close('decode/stepwise_cached_logits', logits)
  taught = parity.logits(parity.CONFIG, parity.params(), *parity.batch())
  np.testing.assert_allclose(logits[REAL], taught[REAL], rtol=0, atol=1e-5)


@functools.partial(jax.jit, static_argnums=1)
def greedy(prompts, eos_id):
  parameters = parity.params()
  encoded = t5.apply(parity.CONFIG, parameters, 'encode', prompts)
  cache = t5.apply(
    parity.CONFIG,
    parameters,
    'prefill',
    encoded,
    prompts,
    num_samples=1,
    length=10,
  )

  def step(cache, tokens, index):
    hidden, cache = t5.apply(
      parity.CONFIG, parameters, 'decode_step', cache, tokens, index
    )
    return hidden @ parameters['decoder']['logits_dense']['kernel'], cache

  keys = jax.random.split(jax.random.key(0), len(prompts))
  return decode.sample(
    step,
    cache,
    keys,
    num_samples=1,
    length=10,
    choose=Greedy(),
    eos_id=eos_id,
  )


@pytest.mark.parametrize('name', ['greedy', 'greedy_eos_override'])
def test_greedy_decoding_gives_t5x_s_tokens_and_scores(name):
  override = int(parity.outputs()['decode/eos_override'])
  eos_id = override if name.endswith('override') else 1
  responses = greedy(parity.batch()[0], eos_id)
  np.testing.assert_array_equal(
    responses.tokens, parity.outputs()[f'decode/{name}/tokens']
  )
  close(f'decode/{name}/scores', responses.log_probs.sum(-1))


def test_a_policy_decodes_greedily_as_t5x_does():
  prompts = parity.batch()[0]
  keys = jax.random.split(jax.random.key(0), len(prompts))
  sample = jax.jit(
    POLICY.sample, static_argnames=('num_samples', 'length', 'choose')
  )
  responses = sample(
    parity.params(), prompts, keys, num_samples=1, length=10, choose=Greedy()
  )
  np.testing.assert_array_equal(
    responses.tokens, parity.outputs()['decode/greedy/tokens']
  )
  close('decode/greedy/scores', responses.log_probs.sum(-1))


def test_pair_and_single_scores_agree():
  prompts, _, targets = parity.batch()
  pair = jax.jit(POLICY.pair_log_probs)(
    parity.params(), prompts, Pair(targets, targets[::-1])
  )
  close('score/token_logprob', pair.chosen)


SAMPLES = sorted(
  name.split('/')[1]
  for name in parity.outputs()
  if name.startswith('decode/sample') and name.endswith('/tokens')
)


@jax.jit
def _states(params, prompts, tokens):
  encoded = t5.apply(parity.CONFIG, params, 'encode', prompts)
  return t5.apply(
    parity.CONFIG, params, 'decode_hidden', encoded, prompts, tokens
  )


@pytest.mark.parametrize('name', SAMPLES)
def test_stored_samples_have_the_log_probs_that_t5x_stored(name):
  outputs = parity.outputs()
  tokens = jnp.asarray(outputs[f'decode/{name}/tokens'])
  prompts = parity.batch()[0]
  hidden = _states(parity.params(), prompts, tokens)
  # T5X scores under the model, but where it rescaled by its temperature; and
  # it can sample padding, which is then a token like any other.
  temperature = 0.7 if name.endswith('rescaled') else 1.0
  kernel = parity.params()['decoder']['logits_dense']['kernel'] / temperature
  each = heads.head_log_probs(
    hidden.reshape(-1, hidden.shape[-1]), kernel, tokens.reshape(-1), None
  ).reshape(tokens.shape)
  end = int(outputs['decode/eos_override']) if 'eos_override' in name else 1
  is_end = tokens == end
  is_before = jnp.cumsum(is_end, axis=-1) - is_end == 0
  close(f'decode/{name}/scores', jnp.sum(each * is_before, axis=-1))


def test_log_probs_of_a_policy_are_those_of_t5x_s_samples():
  name = 'sample_t1_topk5_key7'  # no padding was sampled in it
  tokens = jnp.asarray(parity.outputs()[f'decode/{name}/tokens'])
  scores = jax.jit(POLICY.log_probs)(parity.params(), parity.batch()[0], tokens)
  close(f'decode/{name}/scores', scores.sum(-1))
