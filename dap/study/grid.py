"""Layer 6. Arms of a study: one algorithm over a grid of rates and betas."""

import dataclasses
from collections.abc import Iterator

from dap import errors
from dap.train import Run


@dataclasses.dataclass(frozen=True)
class Arm:
  """Runs that differ in learning rate and beta alone.

  Attributes:
    run: what all runs share.
    settings: (learning rate, beta) of each run; a beta of None leaves the
      loss's scalars as they are.
    record_stream: keep every on-policy batch of each run.
  """

  run: Run
  settings: tuple[tuple[float, float | None], ...]
  record_stream: bool = False

  def __post_init__(self):
    settings = tuple((rate, beta) for rate, beta in self.settings)
    object.__setattr__(self, 'settings', settings)
    if not settings:
      raise errors.InputError(
        'An arm needs at least one setting (learning rate, beta), got none.'
      )
    for rate, beta in settings:
      if not rate > 0 or (beta is not None and not beta > 0):
        raise errors.InputError(
          'Settings of an arm need a learning rate and a beta > 0, got'
          f' {(rate, beta)}.'
        )

  def runs(self, seed: int) -> Iterator[tuple[float, float | None, Run]]:
    """(learning rate, beta, run) of each setting, in order."""
    for rate, beta in self.settings:
      algorithm = self.run.algorithm
      if beta is not None:
        loss = algorithm.loss
        scalars = {**dict(loss.scalars), 'beta': beta}
        loss = dataclasses.replace(loss, scalars=scalars)
        algorithm = dataclasses.replace(algorithm, loss=loss)
      yield (
        rate,
        beta,
        dataclasses.replace(
          self.run, algorithm=algorithm, learning_rate=rate, seed=seed
        ),
      )
