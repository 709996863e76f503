"""Layer 5. What a checkpoint says of its training, for who reads it later."""

import numpy as np

from dap.algorithms.run import Run
from dap.checkpoints.metadata import Json
from dap.records import END
from dap.training.collectors import Examples


def of(run: Run, examples: Examples) -> dict[str, Json]:
  """Facts of `state.save`, as `checkpoints.load` and `convert` read them.

  `gives`: what the model was trained to give; `prompts_end`: whether its
  prompts ended with the end id; `mlp_activations` of a T5, which its arrays do
  not tell.
  """
  facts: dict[str, Json] = {'gives': list(run.model.gives)}
  if len(examples):
    facts['prompts_end'] = prompts_end(examples)
  config = getattr(run.model.language_model, 'config', None)
  activations = getattr(config, 'mlp_activations', None)
  if activations:
    facts['mlp_activations'] = list(activations)
  return facts


def prompts_end(examples: Examples) -> bool:
  """Whether the first prompt ends with the end id, and so all of them."""
  prompt = np.asarray(examples.batch(np.arange(1)).prompts.tokens[0])
  real = prompt[prompt > 0]
  return bool(len(real)) and int(real[-1]) == END
