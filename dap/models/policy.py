"""Layer 2. A language model as the losses see it: log-probs, KL and samples."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from dap.losses import heads
from dap.models import t5, trained
from dap.records import Outputs, Pair, Prompts, Responses
from dap.sampling import decode


@dataclasses.dataclass(frozen=True)
class Policy(trained.Whole):
  """A T5 that answers prompts; parameters are always an argument.

  Token ids from `vocabulary_size` on, and padding, have no probability: in
  samples, log-probs and KL alike. None allows every id, as T5X does.
  """

  config: t5.T5Config
  vocabulary_size: int | None = None

  @property
  def allowed(self) -> Bool[Array, ' vocab'] | None:
    """Ids that can be generated; None for all."""
    if self.vocabulary_size is None:
      return None
    ids = jnp.arange(self.config.vocab_size)
    return (ids > 0) & (ids < self.vocabulary_size)

  @property
  def gives(self) -> tuple[str, ...]:
    """The fields of `Outputs` that it fills."""
    return ('log_probs',)

  def outputs(
    self, params: PyTree, prompts: Prompts, responses: Responses
  ) -> Outputs:
    """Log-probs of the responses."""
    return Outputs(self.log_probs(params, prompts.tokens, responses.tokens))

  def init(self, key: Key[Array, '']) -> dict[str, Any]:
    """Initial parameters under T5X's names."""
    return t5.init_params(self.config, key)

  def logical_axes(self) -> dict[str, Any]:
    """T5X's logical axis names of each parameter."""
    return t5.logical_axes(self.config)

  def encode(
    self, params: PyTree, prompts: Int[Array, 'batch prompt'], **arguments
  ) -> Float[Array, 'batch prompt emb']:
    """States of the prompts; to be shared by all that needs them."""
    return t5.apply(self.config, params, 'encode', prompts, **arguments)

  def log_probs(
    self,
    params: PyTree,
    prompts: Int[Array, 'batch prompt'],
    responses: Int[Array, 'batch n length'],
    *,
    dropout_key: Key[Array, ''] | None = None,
  ) -> Float[Array, 'batch n length']:
    """Nats of each token of n responses to each prompt; 0 on padding.

    Dropout, if the model has any, acts only where a key is given.
    """
    hidden = self._hidden(params, prompts, responses, dropout_key)
    scores = heads.head_log_probs(
      hidden.reshape(-1, hidden.shape[-1]),
      self._kernel(params),
      responses.reshape(-1),
      self.allowed,
    )
    return jnp.where(responses > 0, scores.reshape(responses.shape), 0)

  def pair_log_probs(
    self,
    params: PyTree,
    prompts: Int[Array, 'batch prompt'],
    pair: Pair[Int[Array, 'batch length']],
    *,
    dropout_key: Key[Array, ''] | None = None,
  ) -> Pair[Float[Array, 'batch length']]:
    """`log_probs` of the chosen and the rejected response, encoding once."""
    both = jnp.stack(pair, axis=1)
    both = self.log_probs(params, prompts, both, dropout_key=dropout_key)
    return Pair(both[:, 0], both[:, 1])

  def kl(
    self,
    params: PyTree,
    reference_params: PyTree,
    prompts: Int[Array, 'batch prompt'],
    responses: Int[Array, 'batch n length'],
  ) -> Float[Array, 'batch n length']:
    """Exact KL to the reference at each token of the responses, nats.

    Of the distributions that predict the token; 0 on padding.
    """
    hidden = self._hidden(params, prompts, responses)
    reference = self._hidden(reference_params, prompts, responses)
    kl = heads.head_kl(
      hidden.reshape(-1, hidden.shape[-1]),
      self._kernel(params),
      reference.reshape(-1, hidden.shape[-1]),
      self._kernel(reference_params),
      self.allowed,
    )
    return jnp.where(responses > 0, kl.reshape(responses.shape), 0)

  def sample(
    self,
    params: PyTree,
    prompts: Int[Array, 'batch prompt'],
    keys: Key[Array, ' batch'],
    *,
    num_samples: int,
    length: int,
    choose: Callable,
  ) -> Responses:
    """Responses to each prompt, drawn as `choose` does, one key a prompt."""
    encoded = self.encode(params, prompts)
    cache = t5.apply(
      self.config,
      params,
      'prefill',
      encoded,
      prompts,
      num_samples=num_samples,
      length=length,
    )
    kernel = self._kernel(params)

    def step(cache, tokens, index):
      hidden, cache = t5.apply(
        self.config, params, 'decode_step', cache, tokens, index
      )
      rows = hidden.reshape(-1, hidden.shape[-1])
      logits = heads.head_logits(rows, kernel, self.allowed)
      return logits.reshape(*tokens.shape, -1), cache

    return decode.sample(
      step,
      cache,
      keys,
      num_samples=num_samples,
      length=length,
      choose=choose,
    )

  def _hidden(self, params, prompts, responses, dropout_key=None):
    keys = {} if dropout_key is None else {'dropout': dropout_key}
    arguments = {'rngs': keys, 'deterministic': dropout_key is None}
    encoded = self.encode(params, prompts, **arguments)
    return t5.apply(
      self.config,
      params,
      'decode_hidden',
      encoded,
      prompts,
      responses,
      **arguments,
    )

  def _kernel(self, params):
    return t5.apply(self.config, params, 'output_kernel')
