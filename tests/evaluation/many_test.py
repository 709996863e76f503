"""Many responses to a prompt are drawn and judged as single ones are."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from dap import partitioning
from dap.evaluation import many, points
from dap.models import heads

MESH = partitioning.mesh((1, 1))
PARAMS = tiny.POLICY.init(jax.random.key(1))
ASKED = points.questions(tiny.pairs(6), 6, seed=0)
COUNT = 32  # two rows of a call to each prompt


class OfOne(heads.PointwisePreferenceModel):
  """Scores the sum of a response's ids times that of its prompt's."""

  def scores(self, params, prompts, responses):
    return jnp.sum(responses, -1) * jnp.sum(prompts, -1)[:, None] * 0.01


class OfPairs(heads.JointPreferenceModel):
  """The same of two responses, and a liking for what is shown first."""

  def log_odds(self, params, prompts, first, second):
    sums = (jnp.sum(each, -1) for each in (first, second, prompts))
    one, other, prompt = sums
    margin = (one - other) * prompt * 0.01
    return margin + 0.3, 0.3 - margin


JUDGES = (
  OfOne(tiny.T5, tiny.JUDGE.head),
  OfPairs(tiny.T5, 20, (3,), (4,), 5, 6),
)


def test_samples_depend_on_their_prompt_alone_and_differ():
  def answers(asked):
    settings = points.Evaluation(batch_size=32)  # two rows of sixteen
    return many.answers(
      tiny.POLICY, PARAMS, asked, COUNT, tiny.LENGTH, settings, MESH, slot=7
    )

  drawn = answers(ASKED)
  assert drawn.shape == (6, COUNT, tiny.LENGTH)
  last = points.Questions(*(column[[5]] for column in ASKED))
  np.testing.assert_array_equal(answers(last), drawn[5:])
  each = {row.tobytes() for row in drawn[0]}
  assert len(each) > COUNT // 2  # none is drawn with another one's key


@pytest.mark.parametrize('model', JUDGES, ids=('scores', 'pairs'))
@pytest.mark.parametrize('count', [5, COUNT])
def test_margins_are_of_each_response_against_its_prompts_other(model, count):
  rng = np.random.default_rng(0)
  ours = rng.integers(0, tiny.VOCAB, (6, count, tiny.LENGTH), np.int32)
  theirs = tiny.pairs(6).chosen
  judge = points.Judge(model, model.init(jax.random.key(2)))
  found = many.margins(judge, ASKED.prompts, ours, theirs, 32, MESH)
  prompts = np.sum(ASKED.prompts, axis=-1)[:, None] * 0.01
  further = np.sum(ours, axis=-1) - np.sum(theirs, axis=-1)[:, None]
  np.testing.assert_allclose(found, further * prompts, atol=1e-4)
