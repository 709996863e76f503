"""Layer 5. A policy, and a policy under one of our losses, as T5X's models."""

from collections.abc import Mapping
from typing import Any, cast

import clu.metrics
import jax
import jax.numpy as jnp
import seqio
import t5x.metrics as t5x_metrics
import t5x.models as t5x_models
from flax import core, traverse_util
from flax.linen import partitioning
from jaxtyping import Array, Float, Key, PyTree

from dap.algorithms import objectives
from dap.errors import InputError
from dap.losses import heads
from dap.models import t5
from dap.models.policy import Policy
from dap.sampling import Greedy, decode
from dap.t5x import features
from dap.training import steps

# A dataclass of flax's, whose fields type checkers do not see.
_Average = cast(Any, clu.metrics.Average)


class PolicyModel(t5x_models.EncoderDecoderModel):
  """A `Policy` that T5X trains by cross-entropy, scores, and samples from.

  Where the policy has a `vocabulary_size`, scores and samples give other ids
  and padding no probability; without it, scores are T5X's own.
  """

  def __init__(
    self,
    policy: Policy,
    input_vocabulary: seqio.Vocabulary,
    output_vocabulary: seqio.Vocabulary,
    optimizer_def: object = None,
    choose: decode.Choose = Greedy(),  # noqa: B008 (a value)
    **arguments: Any,  # T5X's own
  ):
    """Wraps a policy; its parameters stay with T5X.

    Args:
      policy: sizes, and which ids it may say.
      input_vocabulary: the Task's, of prompts.
      output_vocabulary: the Task's, of responses.
      optimizer_def: T5X's optimizer; None where nothing is trained.
      choose: `Greedy` or `InverseCdf`: from logits to a token.
      **arguments: what T5X's `EncoderDecoderModel` takes besides.

    Raises:
      InputError: the vocabulary does not fit the policy.
    """
    _check_vocabulary(output_vocabulary, policy)
    if arguments.get('label_smoothing') and policy.vocabulary_size is not None:
      raise InputError(
        'label_smoothing gives weight to every id, and this policy gives those'
        f' from {policy.vocabulary_size} on and padding no probability. Bind'
        ' label_smoothing = 0, or Policy.vocabulary_size = None.'
      )
    arguments.setdefault(
      'feature_converter_cls', features.ChosenFeatureConverter
    )
    self.policy = policy
    self._choose = choose
    super().__init__(
      module=t5.Transformer(_t5(policy).config),
      input_vocabulary=input_vocabulary,
      output_vocabulary=output_vocabulary,
      optimizer_def=optimizer_def,
      decode_fn=choose,
      **arguments,
    )

  def get_initial_variables(
    self,
    rng: Array,
    input_shapes: object = None,
    input_types: object = None,
  ) -> core.FrozenDict:
    """Initial parameters and the names of their axes, by which T5X shards."""
    del input_shapes, input_types
    axes = traverse_util.flatten_dict(self.policy.logical_axes())
    named = {
      (*path[:-1], f'{path[-1]}_axes'): partitioning.AxisMetadata(names)
      for path, names in axes.items()
    }
    return core.freeze(
      {
        'params': self.policy.init(_typed(rng)),
        'params_axes': traverse_util.unflatten_dict(named),
      }
    )

  def _compute_logits(
    self, params, batch, dropout_rng=None, mutable=False, other_variables=None
  ):
    outputs = self.module.apply(
      {'params': params, **(other_variables or {})},
      batch['encoder_input_tokens'],
      batch['decoder_input_tokens'],
      batch['decoder_target_tokens'],
      *(
        batch.get(f'{side}_{name}')
        for name in ('segment_ids', 'positions')
        for side in ('encoder', 'decoder')
      ),
      deterministic=dropout_rng is None,
      rngs={} if dropout_rng is None else {'dropout': dropout_rng},
      mutable=mutable,
    )
    if mutable:
      return self._allowed(outputs[0]), outputs[1]
    return self._allowed(outputs)

  def _allowed(self, logits):
    allowed = self.policy.allowed
    if allowed is None:
      return logits
    allowed = jnp.broadcast_to(allowed, logits.shape)
    return jnp.where(allowed, logits, heads.DISALLOWED)

  def predict_batch_with_aux(
    self,
    params: PyTree,
    batch: features.Batch,
    rng: Array | None = None,
    decoder_params: Mapping[str, object] | None = None,
    return_all_decodes: bool | None = None,
    num_decodes: int | None = None,
    prompt_with_targets: bool = False,
  ) -> tuple[Array, dict[str, Array]]:
    """Responses by our sampler, in T5X's shapes and order.

    Args:
      params: of the policy.
      batch: `encoder_input_tokens`; the length of `decoder_input_tokens` is
        that of the responses.
      rng: key of the draws; greedy choices need none.
      decoder_params: may hold `decode_rng`, used where there is no `rng`.
      return_all_decodes: all responses, or the likeliest alone.
      num_decodes: responses to each prompt.
      prompt_with_targets: not supported; must be False.

    Returns:
      Tokens `[batch, length]` and {'scores': [batch]}, or with a second axis of
      responses, scores rising. A score is the sum over tokens of log-probs
      under the distribution that was drawn from, in nats.
    """
    unknown = set(decoder_params or {}) - {'decode_rng'}
    if unknown or prompt_with_targets:
      raise InputError(
        'How to decode is said by the model: bind PolicyModel.choose to Greedy'
        ' or InverseCdf with its transforms; got'
        f' {", ".join(sorted(unknown)) or "prompt_with_targets"}.'
      )
    default = self._default_decoder_params
    if return_all_decodes is None:
      return_all_decodes = default.return_all_decodes
    if rng is None:
      rng = cast(Array | None, (decoder_params or {}).get('decode_rng'))
    prompts = batch['encoder_input_tokens']
    responses = self.policy.sample(
      params,
      prompts,
      steps.row_keys(_typed(rng), prompts.shape[0]),
      num_samples=num_decodes or default.num_decodes,
      length=batch['decoder_input_tokens'].shape[1],
      choose=self._choose,
    )
    scores = jnp.sum(responses.log_probs, axis=-1)
    order = jnp.argsort(scores, axis=1)
    scores = jnp.take_along_axis(scores, order, axis=1)
    tokens = jnp.take_along_axis(responses.tokens, order[..., None], axis=1)
    if return_all_decodes:
      return tokens, {'scores': scores}
    return tokens[:, -1], {'scores': scores[:, -1]}


class DirectAlignmentModel(PolicyModel):
  """A policy that T5X trains on pairs, with one of our losses.

  Its batches are those of `ReferencedPairFeatureConverter`, or of
  `PairFeatureConverter` where the loss reads no reference. There is no dropout,
  as everywhere in preference optimisation here.
  """

  def __init__(
    self,
    policy: Policy,
    loss: objectives.Loss,
    loss_normalizing_factor: float | None = None,
    **arguments: Any,  # as there
  ):
    """Wraps a policy and a loss.

    Args:
      policy: as for `PolicyModel`.
      loss: `objectives.Loss(losses.ipo_loss, {'beta': 0.1})` or another.
      loss_normalizing_factor: what the sum of the losses of a batch is divided
        by; None for the sum of weights, which is dap's mean. T5X adds up the
        gradients of microbatches: with those, give the batch size.
      **arguments: vocabularies, optimizer_def and the rest, as there.
    """
    converters = {
      True: features.ReferencedPairFeatureConverter,
      False: features.PairFeatureConverter,
    }
    arguments.setdefault(
      'feature_converter_cls',
      converters['reference' in objectives.reads(loss.function)],
    )
    super().__init__(
      policy,
      loss_normalizing_factor=loss_normalizing_factor,
      **arguments,
    )
    self._loss = loss
    self._objective = objectives.LossObjective(policy, loss.function, loss.view)

  def loss_fn(
    self,
    params: PyTree,
    batch: features.Batch,
    dropout_rng: Array | None = None,
  ) -> tuple[Float[Array, ''], dict[str, clu.metrics.Metric]]:
    """Weighted loss of a batch of pairs, and its metrics for T5X's trainer.

    Metrics are weighted means over all pairs since they were last written,
    whatever the microbatches: loss, accuracy, margin and log-ratios, as
    `dap train` reports them.
    """
    del dropout_rng
    found = self._objective(
      params, features.preference_batch(batch), self._loss.numbers
    )
    count = jnp.sum(found.weight)
    metrics: dict[str, clu.metrics.Metric] = {
      name: _Average(total=jnp.sum(found.weight * each), count=count)
      for name, each in {'loss': found.each, **found.metrics}.items()
    }
    pairs = found.each.shape[0]
    metrics |= {
      'timing/seqs': t5x_metrics.Sum.from_model_output(pairs),
      'timing/seqs_per_second': t5x_metrics.TimeRate.from_model_output(pairs),
      'timing/steps_per_second': t5x_metrics.StepsPerTime.from_model_output(),
    }
    divisor: Any = self._loss_normalizing_factor  # T5X has names for some
    if divisor is None:
      divisor = jnp.maximum(count, 1e-9)
    return jnp.sum(found.weight * found.each) / divisor, metrics


def _typed(key: Array | None) -> Key[Array, '']:
  """T5X's keys are rows of numbers; ours have a type. None is key 0."""
  if key is None:
    return jax.random.key(0)
  if jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
    return key
  return jax.random.wrap_key_data(key)


def _t5(policy: Policy) -> t5.T5:
  family = policy.language_model
  if not isinstance(family, t5.T5):
    raise InputError(
      f"T5X's programs need a policy of the T5 family, got {family}. Bind"
      ' Policy.language_model = @t5.T5(), or train with `dap train`.'
    )
  return family


def _check_vocabulary(vocabulary: seqio.Vocabulary, policy: Policy) -> None:
  limit = policy.vocabulary_size or policy.language_model.vocab_size
  if vocabulary.vocab_size > limit:
    raise InputError(
      f'The policy must know every id of the Task; it has {limit}, the'
      f' vocabulary {vocabulary.vocab_size}. Bind VOCABULARY_SIZE to that of'
      ' the checkpoint, or take the vocabulary that it was trained with.'
    )
