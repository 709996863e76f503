"""Layer 2. Dropout: a model that drops values is another value, with a key.

Only updates give a key, and of those the ones whose loss compares with nothing
that was said before (`Run.drops`).
"""

from typing import Protocol, TypeVar, cast, runtime_checkable

from jaxtyping import Array, Key

from dap.models.protocols import Reader

T = TypeVar('T')


@runtime_checkable
class Drops(Protocol):
  """A language model that can drop values where responses are scored."""

  @property
  def dropout_rate(self) -> float:
    """The share of values that are dropped."""
    ...

  def dropping(self, key: Key[Array, '']) -> 'Drops':
    """The same model, dropping by this key."""
    ...


def rate_of(model: Reader) -> float:
  """Of its language model; 0 of a family that knows no dropout."""
  return getattr(model.language_model, 'dropout_rate', 0.0)


def dropping(model: T, key: Key[Array, '']) -> T:
  """The model over a language model that drops by this key."""
  reader = cast(Reader, model)
  language_model = cast(Drops, reader.language_model).dropping(key)
  return cast(T, reader.with_language_model(cast(object, language_model)))  # type: ignore[arg-type]
