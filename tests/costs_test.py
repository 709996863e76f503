import dataclasses

import jax
import pytest
import tiny

from dap import costs, losses, partitioning
from dap.algorithms import algorithm
from dap.algorithms.objectives import Loss
from dap.commands import bindings, resolve
from dap.errors import InputError
from dap.models import counts, heads, t5
from dap.models.policy import Policy

ONE_DEVICE = partitioning.mesh((1, 1))
OFFLINE = tiny.run()
COMPILED = costs.compiled_update(OFFLINE, ONE_DEVICE, tiny.PROMPT, tiny.LENGTH)


def bytes_of(tree):
  return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize(
  ('size', 'millions'),
  [('small', 77), ('base', 248), ('large', 783), ('xl', 2850), ('xxl', 11135)],
)
def test_the_sizes_of_t5_1_1_have_their_published_parameters(
  tmp_path, size, millions
):
  path = tmp_path / 'count.gin'
  path.write_text(
    'from __gin__ import dynamic_registration\n'
    'from dap import costs\n'
    f"include 'gin/models/t5_1_1_{size}.gin'\n"
    'VOCABULARY_SIZE = 32128\n'
    'costs.num_parameters.model = %MODEL\n'
  )
  read = bindings.read([str(path)])
  model = resolve.resolve(read, costs.num_parameters)['model']
  assert costs.num_parameters(model) == pytest.approx(millions * 1e6, rel=0.01)


def test_parameters_are_counted_by_hand():
  # Of 16 x 16 attention, a layer has 4 (8 with cross-attention); a gated MLP
  # of width 32 has 3 kernels; norms 2 (3) and one behind each stack; 32 buckets
  # of 2 heads; embedding and untied head of 24 ids.
  attention, mlp, norm = 4 * 16 * 16, 3 * 16 * 32, 16
  encoder = attention + mlp + 2 * norm + norm + 32 * 2
  decoder = 2 * attention + mlp + 3 * norm + norm + 32 * 2
  by_hand = encoder + decoder + 2 * 24 * 16
  assert costs.num_parameters(tiny.POLICY) == by_hand


def test_memory_is_what_xla_says_and_holds_the_state_once():
  analysis = COMPILED.memory_analysis()
  parts = (
    analysis.argument_size_in_bytes,
    analysis.output_size_in_bytes - analysis.alias_size_in_bytes,
    analysis.temp_size_in_bytes,
  )
  needed = costs.memory(COMPILED)
  assert needed == pytest.approx(sum(parts), rel=0.25)
  state = 3 * bytes_of(jax.eval_shape(tiny.POLICY.init, jax.random.key(0)))
  batch = bytes_of(costs.abstract_batch(OFFLINE, 8, tiny.PROMPT, tiny.LENGTH))
  # Parameters, two moments and the batch: the donated state is not held twice.
  assert parts[0] == pytest.approx(state + batch, rel=0.01)
  assert parts[1] < 0.02 * state


def test_memory_that_nobody_tells_is_none():
  class Silent:
    def memory_analysis(self):
      return None

  assert costs.memory(Silent()) is None


def test_operations_are_counted_by_hand():
  # Multiply-adds of one prompt of 6 and one response of 5 tokens, times 2.
  projections = 4 * 16 * 16 + 3 * 16 * 32
  encoder = 2 * (6 * projections + 2 * 6 * 6 * 16)
  cross = 2 * (6 * 2 * 16 * 16)
  decoder = 2 * (5 * (projections + 2 * 16 * 16) + 2 * 5 * (5 + 6) * 16)
  head = 2 * (5 * 16 * 24)
  counted = tiny.T5.operations(tiny.PROMPT, tiny.LENGTH)
  assert counted == counts.Operations(encoder, cross, decoder, head)
  # Forward and backward passes are three; a prompt is read once for two.
  one_step = 8 * 3 * (encoder + cross + 2 * (decoder + head))
  assert costs.step_operations(OFFLINE, tiny.PROMPT, tiny.LENGTH) == one_step


def test_operations_of_a_step_are_near_those_that_xla_counts():
  counted = costs.step_operations(OFFLINE, tiny.PROMPT, tiny.LENGTH)
  flops = COMPILED.cost_analysis()['flops']
  # XLA adds norms, softmax and the optimizer, a third of so small a model.
  assert 1.0 <= flops / counted < 1.35


def test_a_preference_model_has_no_vocabulary_head():
  run = tiny.run(tiny.COMPARED, tiny.JUDGE)
  one = tiny.T5.operations(tiny.PROMPT, tiny.LENGTH)
  counted = costs.step_operations(run, tiny.PROMPT, tiny.LENGTH)
  forward = one.encoder + one.cross + 2 * one.decoder
  assert counted == 8 * 3 * forward


def test_an_online_step_costs_more_by_its_rollout():
  offline = costs.step_operations(OFFLINE, tiny.PROMPT, tiny.LENGTH)
  online = costs.step_operations(
    tiny.run(tiny.ONLINE), tiny.PROMPT, tiny.LENGTH
  )
  # Sampling and reference are a forward pass each; the judge has no head.
  assert 1 + 2 / 3 < online / offline < 2


def test_longer_runs_and_larger_models_take_longer():
  def seconds(run):
    return costs.seconds(run, tiny.PROMPT, tiny.LENGTH, rate=1e9)

  wide = Policy(t5.T5(dataclasses.replace(tiny.CONFIG, mlp_dim=4096)))
  assert seconds(tiny.run(num_steps=24)) == 2 * seconds(OFFLINE)
  assert seconds(tiny.run(model=wide)) > 5 * seconds(OFFLINE)


def test_the_matmul_rate_is_measured():
  assert 1e8 < costs.matmul_rate(256) < 1e15


def test_a_joint_preference_model_reads_both_orders_and_answers_one_token():
  judge = heads.JointPreferenceModel(tiny.T5, 20, (1,), (2,), 3, 4)
  one = tiny.T5.operations(20, 1)
  by_hand = 2 * (one.encoder + one.cross + one.decoder + one.head)
  assert judge.pair_operations(tiny.PROMPT, tiny.LENGTH) == by_hand
  program = jax.jit(judge.log_odds)
  tokens = jax.ShapeDtypeStruct((1, tiny.LENGTH), 'int32')
  prompts = jax.ShapeDtypeStruct((1, tiny.PROMPT), 'int32')
  params = jax.eval_shape(judge.init, jax.random.key(0))
  compiled = program.lower(params, prompts, tokens, tokens).compile()
  analysis = compiled.cost_analysis()
  assert analysis and 0.9 <= analysis['flops'] / by_hand < 1.5


def test_tokens_are_sampled_online_alone():
  assert costs.sampled_tokens(OFFLINE) == 0
  # Two responses of 5 tokens to each of 8 prompts, at 12 steps.
  assert costs.sampled_tokens(tiny.run(tiny.ONLINE)) == 2 * 5 * 8 * 12


def test_runs_of_a_grid_have_one_program_and_other_losses_another():
  same = tiny.run(
    algorithm.Algorithm(tiny.ipo(0.5)),
    learning_rate=1e-4,
    num_steps=3,
    save_steps=(1,),
    seed=4,
  )
  assert costs.program(same) == costs.program(OFFLINE)
  for other in (
    tiny.run(tiny.ONLINE),
    tiny.run(algorithm.Algorithm(Loss(losses.dpo_loss, {'beta': 0.1}))),
    tiny.run(batch_size=4),
  ):
    assert costs.program(other) != costs.program(OFFLINE)


DEVICE = costs.Device('made up', peak=1e12, bandwidth=1e9, memory=1e9)


def step_seconds(run, mesh=(1, 1), device=DEVICE):
  return device.step_seconds(run, mesh, tiny.PROMPT, tiny.LENGTH)


def test_a_step_on_a_device_takes_its_operations_at_the_expected_rate():
  work = costs.step_operations(OFFLINE, tiny.PROMPT, tiny.LENGTH)
  overhead = costs.OVERHEAD
  assert step_seconds(OFFLINE) - overhead == pytest.approx(work / 0.4e12)
  four = step_seconds(OFFLINE, (2, 2)) - overhead
  assert four == pytest.approx(work / 0.4e12 / 4)


def test_drawing_tokens_is_bounded_by_memory():
  # A layer has 6 x 16 x 16 of attention and 3 x 16 x 32; the head 16 x 24; at
  # each of 5 tokens they are read once and keys and values of 16 for the 6
  # tokens of each prompt and the 5 of each response; 4 bytes a number.
  read = costs.decoding_bytes(tiny.T5, tiny.PROMPT, tiny.LENGTH)
  assert read.weights == 5 * 4 * (6 * 16 * 16 + 3 * 16 * 32 + 16 * 24)
  assert read.prompt == 5 * 4 * 6 * 2 * 16
  assert read.response == 5 * 4 * 5 * 2 * 16
  run = tiny.run(tiny.ONLINE)
  work = costs.step_operations(run, tiny.PROMPT, tiny.LENGTH) / 0.4e12
  drawn = read.weights + 8 * (read.prompt + 2 * read.response)
  expected = work + drawn / 0.5e9 + costs.OVERHEAD
  assert step_seconds(run) == pytest.approx(expected)
  # More data groups do not read fewer weights, a model axis does.
  assert DEVICE.drawing_seconds(read, 8, (8, 1)) > read.weights / 0.5e9
  halved = DEVICE.drawing_seconds(read, 8, (1, 2))
  assert halved == pytest.approx(DEVICE.drawing_seconds(read, 8, (1, 1)) / 2)


def test_a_device_without_a_rate_is_refused():
  with pytest.raises(InputError, match='device needs peak > 0, got 0'):
    costs.Device('none', peak=0, bandwidth=1, memory=1)
