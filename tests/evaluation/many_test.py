"""Many responses to a prompt are drawn and judged as single ones are."""

import jax
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


OF_PAIRS = heads.JointPreferenceModel(tiny.T5, 20, (3,), (4,), 5, 6)
JUDGES = (
  points.Judge(tiny.JUDGE, tiny.JUDGE.init(jax.random.key(2))),
  points.Judge(OF_PAIRS, OF_PAIRS.init(jax.random.key(3))),
)


def answers(asked=ASKED):
  settings = points.Evaluation(batch_size=32)  # two rows of sixteen
  return many.answers(
    tiny.POLICY, PARAMS, asked, COUNT, tiny.LENGTH, settings, MESH, slot=7
  )


def test_samples_depend_on_their_prompt_alone_and_differ():
  drawn = answers()
  assert drawn.shape == (6, COUNT, tiny.LENGTH)
  last = points.Questions(*(column[[5]] for column in ASKED))
  np.testing.assert_array_equal(answers(last), drawn[5:])
  each = {row.tobytes() for row in drawn[0]}
  assert len(each) > COUNT // 2  # none is drawn with another one's key


@pytest.mark.parametrize('judge', JUDGES, ids=('scores', 'pairs'))
def test_margins_are_the_log_odds_of_pairs(judge):
  ours, theirs = answers(), tiny.pairs(6).chosen
  found = many.margins(judge, ASKED.prompts, ours, theirs, 32, MESH)
  p_ab, p_ba = points.preferences(
    judge,
    np.repeat(ASKED.prompts, COUNT, axis=0),
    ours.reshape(-1, tiny.LENGTH),
    np.repeat(theirs, COUNT, axis=0),
    32,
    MESH,
  )
  odds = 0.5 * (np.log(p_ab / (1 - p_ab)) - np.log(p_ba / (1 - p_ba)))
  np.testing.assert_allclose(found.ravel(), odds, atol=1e-4)
