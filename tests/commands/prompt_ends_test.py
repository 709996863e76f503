"""Prompts end as the checkpoint has it that a run starts from."""

import json

import jax
import numpy as np
import pytest
import refusals
import tiny_commands as tiny

from dap.checkpoints import convert, load, state
from dap.evaluation import sample
from dap.models import t5

CONFIG = t5.T5Config(
  vocab_size=140,
  emb_dim=16,
  num_heads=2,
  head_dim=8,
  mlp_dim=32,
  num_encoder_layers=1,
  num_decoder_layers=1,
)


def prompts_of(folder):
  """The prompts that a training prepared."""
  (path,) = (folder / 'cache').glob('train-*/prompts.npy')
  return np.load(path)


def last_of(prompts):
  return {int(row[row > 0][-1]) for row in prompts}


@pytest.fixture(scope='module')
def from_t5(tmp_path_factory):
  """A policy fine-tuned from a T5 in transformers' layout."""
  folder = tmp_path_factory.mktemp('from_t5')
  params = t5.init_params(CONFIG, jax.random.key(0))
  state.save(folder / 'drawn', 1, params, {}, '')
  convert.convert(str(folder / 'drawn'), str(folder / 'hf'), 'hf')
  start = f'--gin.INITIAL_CHECKPOINT_PATH={str(folder / "hf")!r}'
  tiny.dap('train', 'sft', folder / 'sft', start)
  return folder


def test_a_run_from_a_t5_ends_its_prompts_and_says_so(from_t5, capsys):
  assert last_of(prompts_of(from_t5 / 'sft')) == {1}
  assert load.prompts_end(from_t5 / 'sft') is True
  target = from_t5 / 'exported'
  convert.convert(str(from_t5 / 'sft'), str(target), 'hf')
  assert json.loads((target / 'dap.json').read_text())['prompts_end'] is True


def test_a_run_from_nothing_has_no_ends(runs):
  assert 1 not in last_of(prompts_of(runs / 'sft'))
  for name in ('sft', 'judge', 'online'):
    assert load.prompts_end(runs / name) is False


@pytest.mark.parametrize('ends', [False, True])
def test_samples_are_asked_as_the_run_was(
  ends, runs, from_t5, monkeypatch, capsys
):
  seen = []
  monkeypatch.setattr(
    sample, 'text', lambda model, params, shown, mesh: seen.append(shown) or ''
  )
  tiny.dap('sample', 'sft', (from_t5 if ends else runs) / 'sft')
  (shown,) = seen
  assert (last_of(shown.asked.prompts) == {1}) is ends


def test_another_choice_than_the_starts_is_refused(runs, tmp_path, capsys):
  words = tiny.argv(
    'train',
    'online_ipo',
    tmp_path / 'out',
    *tiny.starts(runs),
    '--gin.PROMPT_FORM=@arrays.with_end',
  )
  said = refusals.refused(capsys, words)
  assert 'they end with the end id' in said
  assert 'Leave datasets.PairData.prompt_form unbound' in said
  assert not (tmp_path / 'out' / 'checkpoints').exists()
