"""Layer 1. Sampling of whole responses: one loop over a decoder's cache."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, PyTree

from dap.records import END, PADDING, Responses

Step = Callable[
  [PyTree[Array], Int[Array, 'batch n'], Int[Array, '']],
  tuple[Float[Array, 'batch n vocab'], PyTree[Array]],
]
Choose = Callable[
  [Float[Array, 'rows vocab'], Float[Array, ' rows']],
  tuple[Int[Array, ' rows'], Float[Array, ' rows']],
]


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
  batch = keys.shape[0]
  draw = lambda key: jax.random.uniform(key, (num_samples, length))
  uniforms = jnp.moveaxis(jax.vmap(draw)(keys), -1, 0)

  def unfinished(state):
    position, _, _, done, _, _, _ = state
    return (position < length) & ~jnp.all(done)

  def advance(state):
    position, cache, previous, done, tokens, mask, log_probs = state
    logits, cache = step(cache, previous, position)
    chosen, chosen_log_probs = choose(
      logits.reshape(batch * num_samples, -1), uniforms[position].reshape(-1)
    )
    chosen = jnp.where(done, PADDING, chosen.reshape(done.shape))
    new = jnp.where(done, 0, chosen_log_probs.reshape(done.shape))
    return (
      position + 1,
      cache,
      chosen,
      done | (chosen == eos_id),
      tokens.at[position].set(chosen),
      mask.at[position].set((~done).astype(mask.dtype)),
      log_probs.at[position].set(new),
    )

  first = jnp.full((batch, num_samples), PADDING, jnp.int32)
  zeros = jnp.zeros((length, batch, num_samples), jnp.float32)
  state = (
    jnp.zeros((), jnp.int32),
    cache,
    first,
    first != PADDING,
    zeros.astype(jnp.int32),
    zeros,
    zeros,
  )
  *_, tokens, mask, log_probs = jax.lax.while_loop(unfinished, advance, state)
  return Responses(*(jnp.moveaxis(x, 0, -1) for x in (tokens, mask, log_probs)))
