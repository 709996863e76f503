"""Layer 5. The features of pairs, from a seqio Task to a batch of T5X's."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import seqio
import tensorflow as tf
from jaxtyping import Array

from dap import records
from dap.errors import InputError

Batch = Mapping[str, Array]
REFERENCE = records.Pair('reference_chosen', 'reference_rejected')
_PREFIXES = records.Pair('', 'rejected_')
_SPEC = seqio.FeatureConverter.FeatureSpec
Specs = dict[str, seqio.FeatureConverter.FeatureSpec]


class ChosenFeatureConverter(seqio.EncDecFeatureConverter):
  """T5X's own features of prompt and chosen response: inputs and targets.

  What a Task has besides, such as the rejected response, is left out; seqio's
  evaluator asks for the lengths of all of it.
  """

  def __call__(
    self, ds: tf.data.Dataset, task_feature_lengths: Mapping[str, int]
  ) -> tf.data.Dataset:
    """The model's features of a Task's data set."""
    lengths = task_feature_lengths.items()
    kept = {key: n for key, n in lengths if key in self.TASK_FEATURES}
    return super().__call__(ds, kept)


class PairFeatureConverter(seqio.FeatureConverter):
  """A prompt with its chosen and its rejected response, for the model.

  The chosen response has the names that T5X has for targets, so that its own
  scoring reads it; the rejected one has `rejected_` before them. Loss weights
  are 1 on the tokens of a response, its end included, and 0 on padding.
  """

  TASK_FEATURES: Specs = dict.fromkeys(
    ('inputs', 'targets', 'rejected'), _SPEC(dtype=tf.int32)
  )
  MODEL_FEATURES: Specs = dict.fromkeys(
    (
      'encoder_input_tokens',
      *(
        f'{side}decoder_{name}'
        for side in ('', 'rejected_')
        for name in ('input_tokens', 'target_tokens', 'loss_weights')
      ),
    ),
    _SPEC(dtype=tf.int32),
  )
  PACKING_FEATURE_DTYPES: Specs = {}
  EXTRA: tuple[str, ...] = ()

  def __init__(self, pack: bool = False, **arguments: Any):  # seqio's own
    if pack:
      raise InputError(
        'Pairs are not packed: the two responses of a prompt share its'
        ' encoding. Bind DatasetConfig.pack = False.'
      )
    super().__init__(pack=False, **arguments)

  def __call__(
    self, ds: tf.data.Dataset, task_feature_lengths: Mapping[str, int]
  ) -> tf.data.Dataset:
    """The model's features of a Task's data set.

    Raises:
      InputError: a feature or a length is missing, or the two responses have
        lengths that differ.
    """
    found: Any = ds.element_spec  # of any structure, as far as stubs know
    _check_features(found, self.TASK_FEATURES)
    _check_lengths(task_feature_lengths)
    of_extra = dict.fromkeys(self.EXTRA, task_feature_lengths['targets'])
    return super().__call__(ds, {**task_feature_lengths, **of_extra})

  def _convert_features(self, ds, task_feature_lengths):
    ds = self._pack_or_pad(ds, task_feature_lengths)
    return ds.map(self._convert_example, num_parallel_calls=tf.data.AUTOTUNE)

  def _convert_example(self, features):
    converted = {'encoder_input_tokens': features['inputs']}
    for prefix, key in (('', 'targets'), ('rejected_', 'rejected')):
      tokens = features[key]
      converted |= {
        f'{prefix}decoder_input_tokens': seqio.utils.make_autoregressive_inputs(
          tokens, bos_id=self.bos_id
        ),
        f'{prefix}decoder_target_tokens': tokens,
        f'{prefix}decoder_loss_weights': seqio.non_padding_position(tokens),
      }
    return converted | {key: features[key] for key in self.EXTRA}

  def get_model_feature_lengths(
    self, task_feature_lengths: Mapping[str, int]
  ) -> Mapping[str, int]:
    """Length of each of the model's features."""
    lengths = dict.fromkeys(
      self.MODEL_FEATURES, task_feature_lengths['targets']
    )
    return lengths | {'encoder_input_tokens': task_feature_lengths['inputs']}


class ReferencedPairFeatureConverter(PairFeatureConverter):
  """The same with the reference's log-probs of each token, in nats.

  They are float32 features of the Task, `reference_chosen` and
  `reference_rejected`, as `task_with_reference` makes them; their lengths are
  those of the responses and are not asked for.
  """

  EXTRA = REFERENCE
  TASK_FEATURES: Specs = PairFeatureConverter.TASK_FEATURES | dict.fromkeys(
    REFERENCE, _SPEC(dtype=tf.float32)
  )
  MODEL_FEATURES: Specs = PairFeatureConverter.MODEL_FEATURES | dict.fromkeys(
    REFERENCE, _SPEC(dtype=tf.float32)
  )


def _check_features(found: Mapping[str, tf.TensorSpec], wanted: Specs):
  missing = [name for name in wanted if name not in found]
  if missing:
    raise InputError(
      f'Pairs need the features {", ".join(wanted)}; {", ".join(missing)} is'
      f' not among {", ".join(found)}. Make the Task with'
      ' dap.data.tasks.add_task, and what the reference says of it with'
      ' dap.t5x.task_with_reference.'
    )
  for name, spec in wanted.items():
    if found[name].dtype != spec.dtype or len(found[name].shape) != 1:
      raise InputError(
        f'The feature {name} must be a row of {spec.dtype.name}, got'
        f' {found[name].dtype.name} of shape {found[name].shape}. Let the Task'
        ' tokenise its texts first.'
      )


def _check_lengths(lengths: Mapping[str, int]):
  wanted = ('inputs', 'targets', 'rejected')
  if sorted(lengths) != sorted(wanted) or (
    lengths['targets'] != lengths['rejected']
  ):
    raise InputError(
      'Pairs need the lengths of inputs, targets and rejected, the last two'
      f' equal, since both are scored at once; got {dict(lengths)}. Bind'
      " TASK_FEATURE_LENGTHS = {'inputs': 512, 'targets': 128,"
      " 'rejected': 128}, or other numbers."
    )


def preference_batch(batch: Batch) -> records.Batch:
  """The record that our losses take, of a batch of a pair converter.

  A row without any token weighs nothing. The column `reference` is there where
  the batch has the reference's features.
  """

  def both(suffix):
    sides = [batch[f'{prefix}{suffix}'] for prefix in _PREFIXES]
    return jnp.stack(sides, axis=1)

  mask = both('decoder_loss_weights').astype(jnp.float32)
  columns = {}
  if all(name in batch for name in REFERENCE):
    sides = [batch[name] for name in REFERENCE]
    columns = {'reference': jnp.stack(sides, axis=1)}
  prompts = batch['encoder_input_tokens']
  zeros = jnp.zeros_like(mask)
  return records.Batch(
    records.Prompts(jnp.arange(prompts.shape[0]), prompts),
    records.Responses(both('decoder_target_tokens'), mask, zeros),
    zeros[:, :, 0],
    jnp.any(mask > 0, axis=(1, 2)).astype(jnp.float32),
    columns,
  )
