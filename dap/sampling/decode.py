"""Layer 1. Sampling of whole responses: one loop over a decoder's cache."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from dap.records import END, PADDING, Responses

Step = Callable[
  [PyTree[Array], Int[Array, 'batch n'], Int[Array, '']],
  tuple[Float[Array, 'batch n vocab'], PyTree[Array]],
]
Choose = Callable[
  [Float[Array, 'rows vocab'], Float[Array, ' rows']],
  tuple[Int[Array, ' rows'], Float[Array, ' rows']],
]


class _Drawing(NamedTuple):
  """Where the loop stands: `position` tokens of each response are drawn."""

  position: Int[Array, '']
  cache: PyTree[Array]
  previous: Int[Array, 'batch n']
  done: Bool[Array, 'batch n']
  tokens: Int[Array, 'length batch n']
  mask: Float[Array, 'length batch n']
  log_probs: Float[Array, 'length batch n']


def sample(
  step: Step,
  cache: PyTree[Array],
  keys: Key[Array, ' batch'],
  *,
  num_samples: int,
  length: int,
  choose: Choose,
  eos_id: int = END,
) -> Responses:
  """Sample `num_samples` responses of at most `length` tokens to each prompt.

  The loop ends as soon as all responses have. A response that reaches `length`
  first has no end-of-sequence token; the others count theirs in the mask once.

  Args:
    step: from the cache, the tokens before this position (padding at first) and
      the position to the logits of the next token and the new cache. It may
      close over parameters.
    cache: what `step` needs first, arrays of a fixed shape.
    keys: one per prompt, made from the prompt's own number, so that what is
      drawn does not depend on the other rows or on how rows lie on devices.
    num_samples: responses to each prompt.
    length: of the longest response, and of the arrays returned.
    choose: `InverseCdf` or `Greedy`. It must not choose padding.
    eos_id: the token that ends a response.
  """
  draw = lambda key: jax.random.uniform(key, (num_samples, length))
  uniforms = jnp.moveaxis(jax.vmap(draw)(keys), -1, 0)

  def unfinished(state: _Drawing):
    return (state.position < length) & ~jnp.all(state.done)

  def advance(state: _Drawing):
    at, done = state.position, state.done
    logits, cache = step(state.cache, state.previous, at)
    chosen, log_probs = choose(
      logits.reshape(done.size, -1), uniforms[at].reshape(-1)
    )
    chosen = jnp.where(done, PADDING, chosen.reshape(done.shape))
    new = jnp.where(done, 0, log_probs.reshape(done.shape))
    return _Drawing(
      at + 1,
      cache,
      chosen,
      done | (chosen == eos_id),
      state.tokens.at[at].set(chosen),
      state.mask.at[at].set((~done).astype(state.mask.dtype)),
      state.log_probs.at[at].set(new),
    )

  first = _before(cache, keys.shape[0], num_samples, length)
  last = jax.lax.while_loop(unfinished, advance, first)
  drawn = last.tokens, last.mask, last.log_probs
  return Responses(*(jnp.moveaxis(x, 0, -1) for x in drawn))


def _before(
  cache: PyTree[Array], batch: int, num_samples: int, length: int
) -> _Drawing:
  """Nothing is drawn yet: padding stands before the first token."""
  first = jnp.full((batch, num_samples), PADDING, jnp.int32)
  zeros = jnp.zeros((length, batch, num_samples), jnp.float32)
  return _Drawing(
    jnp.zeros((), jnp.int32),
    cache,
    first,
    first != PADDING,
    zeros.astype(jnp.int32),
    zeros,
    zeros,
  )
