import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from dap.checkpoints import convert, load, state
from dap.data import arrays, formats, sources
from dap.data.array_writer import Encoded
from dap.data.datasets import PairData
from dap.data.readers import JsonlFiles
from dap.data.vocabulary import Words
from dap.errors import InputError
from dap.models import heads, t5
from dap.training import facts

WORDS = Words(('a', 'b', 'c', 'd', 'e'))  # a is 3, e is 7
PROMPTS = ('a b', 'a b c d', 'e')


@dataclasses.dataclass(frozen=True)
class Ended:
  """A source with ids of its own, whose prompts end."""

  def load(self, split):
    return [each.row for each in self.encoded(split, WORDS, (3, 3))]

  def encoded(self, split, vocabulary, lengths):
    row = {'prompt': 'a b', 'chosen': 'c', 'rejected': 'd'}
    row |= {'source': 'x', 'id': 'x'}
    yield Encoded(row, [3, 4, 1], {'chosen': [5, 1], 'rejected': [6, 1]})

  def fingerprint(self):
    return 'ended'


@pytest.fixture
def source(tmp_path):
  path = tmp_path / 'rows.jsonl'
  rows = [{'prompt': p, 'chosen': 'c', 'rejected': 'd'} for p in PROMPTS]
  path.write_text('\n'.join(map(json.dumps, rows)))
  return sources.Formatted(JsonlFiles(str(path)), formats.pairs)


def prompts(source, folder, **changes):
  data = PairData(source, WORDS, 3, 2, **changes)
  return data.prepare('train', WORDS, folder).prompts.tolist()


def test_prompts_end_where_the_data_say_so_and_lose_their_beginning(
  source, tmp_path
):
  plain = [[3, 4, 0], [4, 5, 6], [7, 0, 0]]
  for form in (None, arrays.as_given, arrays.without_end):
    assert prompts(source, tmp_path / 'a', prompt_form=form) == plain
  ended = prompts(source, tmp_path / 'a', prompt_form=arrays.with_end)
  assert ended == [[3, 4, 1], [5, 6, 1], [7, 1, 0]]


@pytest.mark.parametrize(
  ('form', 'wanted'),
  [
    (None, [3, 4, 1]),
    (arrays.as_given, [3, 4, 1]),
    (arrays.with_end, [3, 4, 1]),  # once
    (arrays.without_end, [3, 4, 0]),
  ],
)
def test_ids_of_a_source_keep_their_ends_unless_asked(form, wanted, tmp_path):
  assert prompts(Ended(), tmp_path, prompt_form=form) == [wanted]


def test_data_without_a_choice_follow_the_start(source):
  data = PairData(source, WORDS, 3, 2)
  assert data.following(None) == data.following(False) == data
  assert data.following(True).prompt_form is arrays.with_end
  own = dataclasses.replace(data, prompt_form=arrays.without_end)
  assert own.following(True) == own
  given = dataclasses.replace(data, source=Ended()).following(False)
  assert given.prompt_form is arrays.without_end


def test_the_family_of_a_start_tells_its_habit(tmp_path):
  params = t5.init_params(tiny.CONFIG, jax.random.key(0))
  state.save(tmp_path / 'old', 1, params, {}, '')  # of an older version
  for ends in (True, False):
    facts = {'prompts_end': ends}
    state.save(tmp_path / str(ends), 1, params, {}, '', facts=facts)
    assert load.prompts_end(tmp_path / str(ends)) is ends
  assert load.prompts_end(tmp_path / 'old') is load.prompts_end('') is None
  convert.convert(str(tmp_path / 'old'), str(tmp_path / 'hf'), 'hf')
  assert load.prompts_end(tmp_path / 'hf') is True
  convert.convert(str(tmp_path / 'hf'), str(tmp_path / 'dap'), 'dap')
  assert load.prompts_end(tmp_path / 'dap') is True
  load.check_prompts(False, [tmp_path / 'dap'])  # of a family: a choice still
  convert.convert(str(tmp_path / 'False'), str(tmp_path / 't5x'), 't5x')
  assert load.prompts_end(tmp_path / 't5x') is False
  load.check_prompts(True, ['', tmp_path / 'True', tmp_path / 'old'])
  with pytest.raises(InputError, match='have no end id, and .*True .*that end'):
    load.check_prompts(False, [tmp_path / 'old', tmp_path / 'True'])


def test_what_was_trained_on_is_told_by_its_first_prompt():
  pairs = tiny.pairs(4)
  assert not facts.prompts_end(pairs)
  ended = pairs.prompts.copy()
  ended[:, 3:] = 0
  assert not facts.prompts_end(dataclasses.replace(pairs, prompts=ended))
  ended[:, 3] = 1
  ended = dataclasses.replace(pairs, prompts=ended)
  assert facts.prompts_end(ended)
  run = tiny.run()
  assert facts.of(run, ended) == {
    'gives': ['log_probs'],
    'prompts_end': True,
    'mlp_activations': ['gelu', 'linear'],
  }


def test_a_judge_that_reads_all_in_one_sees_no_end_inside():
  model = heads.JointPreferenceModel(tiny.T5, 20, (8,), (9,), 5, 6)
  sides = jnp.array([[3, 1, 0]]), jnp.array([[4, 1, 0]])
  plain = model.context(jnp.array([[7, 7, 0]]), *sides)
  np.testing.assert_array_equal(
    model.context(jnp.array([[7, 7, 1]]), *sides), plain
  )
