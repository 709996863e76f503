"""A tiny model and data set for many tests, so that programs compile once."""

import jax
import jax.numpy as jnp
import numpy as np

from dap import losses, optimizers, train
from dap.algorithms import algorithm, samplers, views
from dap.algorithms.objectives import Loss
from dap.annotators import models as annotators
from dap.data.pairs import Pairs
from dap.models import heads, t5
from dap.models.policy import Policy

VOCAB, PROMPT, LENGTH = 24, 6, 5
CONFIG = t5.T5Config(
  vocab_size=VOCAB,
  emb_dim=16,
  num_heads=2,
  head_dim=8,
  mlp_dim=32,
  num_encoder_layers=1,
  num_decoder_layers=1,
)
T5 = t5.T5(CONFIG)
POLICY = Policy(T5, VOCAB)
JUDGE = heads.PointwisePreferenceModel(T5, heads.PooledScore(width=8))
ADAM = optimizers.AdamW()
OFFLINE = algorithm.Algorithm(Loss(losses.ipo_loss, {'beta': 0.1}))
ONLINE = algorithm.Algorithm(
  Loss(losses.ipo_loss, {'beta': 0.1}),
  sampler=samplers.FromPolicy(LENGTH),
  annotator=annotators.PreferenceAnnotator(JUDGE),
)


SUPERVISED = algorithm.Algorithm(
  Loss(losses.supervised_loss, view=views.Tokens())
)
COMPARED = algorithm.Algorithm(
  Loss(losses.pairwise_preference_loss, view=views.comparisons)
)


def ipo(beta: float) -> Loss:
  """IPO at a beta."""
  return Loss(losses.ipo_loss, {'beta': beta})


def pairs(count: int = 64, seed: int = 0) -> Pairs:
  """Random pairs of varied length; most responses end, some are cut."""
  rng = np.random.default_rng(seed)

  def side():
    tokens = rng.integers(3, VOCAB, (count, LENGTH)).astype(np.int32)
    ends = rng.integers(1, LENGTH + 1, count)
    position = np.arange(LENGTH)[None]
    tokens = np.where(position < ends[:, None], tokens, 0)
    return np.where(position == ends[:, None], 1, tokens).astype(np.int32)

  prompts = rng.integers(3, VOCAB, (count, PROMPT)).astype(np.int32)
  return Pairs(np.arange(count), prompts, side(), side())


def run(which=OFFLINE, model=POLICY, **changes) -> train.Run:
  """A run of a few small steps."""
  settings = {
    'optimizer': ADAM,
    'learning_rate': 1e-2,
    'num_steps': 12,
    'batch_size': 8,
    'log_every': 2,
    **changes,
  }
  return train.Run(model, which, **settings)


def on_device(tree):
  """The same with arrays of jax."""
  return jax.tree.map(jnp.asarray, tree)
