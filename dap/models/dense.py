"""Layer 2. Dense products: one 2-D matmul over all tokens, fast both ways."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def project(
  x: Float[Array, '*rows width'], *kernels: Float[Array, 'width _']
) -> list[Float[Array, '*rows _']]:
  """`x @ kernel` for each kernel, in the dtype of `x`.

  All leading axes are rows of one matmul.
  """
  rows = x.reshape(-1, x.shape[-1])
  products = _matmuls(rows, [kernel.astype(x.dtype) for kernel in kernels])
  return [y.reshape(*x.shape[:-1], y.shape[-1]) for y in products]


@jax.custom_vjp
def _matmuls(rows, kernels):
  return [rows @ kernel for kernel in kernels]


def _matmuls_forward(rows, kernels):
  return _matmuls(rows, kernels), (rows, kernels)


def _matmuls_backward(residuals, products_bar):
  rows, kernels = residuals
  # XLA's CPU matmul is a third faster on rows that lie transposed in
  # memory; the barrier keeps it from undoing that.
  transposed = jax.lax.platform_dependent(
    rows,
    cpu=lambda x: jax.lax.optimization_barrier(x.T),
    default=lambda x: x.T,
  )
  parts = [bar @ kernel.T for bar, kernel in zip(products_bar, kernels)]
  kernels_bar = [transposed @ bar for bar in products_bar]
  return functools.reduce(jnp.add, parts), kernels_bar


_matmuls.defvjp(_matmuls_forward, _matmuls_backward)
