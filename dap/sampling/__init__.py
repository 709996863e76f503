"""Layer 1. Sampling from logits; the model is passed in as functions."""

from dap.sampling.choose import Greedy, InverseCdf
from dap.sampling.decode import sample
from dap.sampling.logits import AllowedTokens, Temperature, TopK, TopP

__all__ = [
  'AllowedTokens',
  'Greedy',
  'InverseCdf',
  'Temperature',
  'TopK',
  'TopP',
  'sample',
]
