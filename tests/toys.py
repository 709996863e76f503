"""A toy policy and a toy judge, for laws that ask nothing of a T5.

Programs compile in a quarter of its time, and a checkpoint has a few arrays.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import tiny
import toy_decoder

from dap.algorithms import refresh, samplers
from dap.commands import experiments
from dap.models import heads
from dap.models.policy import Policy
from dap.records import END


class Bigrams(toy_decoder.Decoder):
  """A token depends on the one before it, the first on the prompt."""

  def init(self, key):
    table = np.zeros((self.vocab_size, self.emb_dim), np.float32)
    table[:, END] = 2  # three of four responses end within their length
    return {'table': jnp.asarray(table)}

  def logical_axes(self):
    return {'table': ('vocab', 'embed')}

  def encode(self, params, prompts):
    return prompts[:, :1]

  def read(self, params, memory, prompts, inputs):
    return params['table'][inputs]

  def decode_hidden(self, params, memory, prompts, responses):
    first = jnp.broadcast_to(memory[..., None], (*responses.shape[:2], 1))
    before = jnp.concatenate([first, responses[..., :-1]], axis=2)
    return params['table'][before]

  def prefill(self, params, memory, prompts, *, num_samples, length):
    return memory

  def decode_step(self, params, cache, tokens, index):
    return params['table'][jnp.where(index == 0, cache, tokens)], cache

  def output_kernel(self, params):
    return jnp.eye(self.vocab_size)


class Summed(heads.LastTokenScore):
  """Every token has a worth: responses that differ have other scores."""

  def __call__(self, params, hidden, mask):
    return jnp.sum(mask * (hidden @ params['kernel'])[..., 0], axis=-1)


TOY = Bigrams(tiny.VOCAB, tiny.VOCAB)
POLICY = Policy(TOY, tiny.VOCAB)
JUDGE = heads.PointwisePreferenceModel(TOY, Summed())


def of_toy(run, shorter=None):
  """The same run of the toy, judged by a toy.

  Args:
    run: of an experiment.
    shorter: a `FromPolicy` to the one that writes for the toy; the same of
      short responses when None.
  """
  algorithm, changes = run.algorithm, {}
  if algorithm.sampler is not None:
    changes['sampler'] = _short(algorithm.sampler, shorter or _same)
  if algorithm.annotator is not None:
    changes['annotator'] = dataclasses.replace(algorithm.annotator, model=JUDGE)
  return dataclasses.replace(
    run,
    model=run.model.with_shared(POLICY),
    algorithm=dataclasses.replace(algorithm, **changes),
  )


def of_experiment(name, every):
  """One of configs/embedded, its roles that follow doing so that often."""
  run = of_toy(experiments.read(name).run)
  roles = {
    role: refresh.Every(every)
    for role in ('behaviour', 'reference')
    if isinstance(getattr(run.algorithm, role), refresh.Every)
  }
  algorithm = dataclasses.replace(run.algorithm, **roles)
  return dataclasses.replace(run, algorithm=algorithm)


def _same(sampler):
  return dataclasses.replace(sampler, length=tiny.LENGTH)


def _short(sampler, shorter):
  if isinstance(sampler, samplers.BesideData):
    drawn = _short(sampler.sampler, shorter)
    return dataclasses.replace(sampler, sampler=drawn)
  return shorter(sampler)


def moved(model, number):
  """Parameters away from where they begin, a critic's too."""
  rng = np.random.default_rng(number)
  away = lambda x: x + rng.normal(0, 0.5, x.shape).astype(np.float32)
  return jax.tree.map(away, model.init(jax.random.key(0)))


# Of the judge's scores some are above 0 and some below.
START, OTHER, WORTH = moved(POLICY, 0), moved(POLICY, 1), moved(JUDGE, 6)
