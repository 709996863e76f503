import pytest
import tiny_commands as tiny

from dap import files

COUNT = 'sample.sample.num_samples'
SEED = 'sample.sample.seed'


def printed(capsys, *words, **changes):
  tiny.dap('sample', *words, **changes)
  return capsys.readouterr().out


def test_samples_are_prompts_with_responses_to_read(runs, capsys):
  text = printed(capsys, 'sft', runs / 'sft', **{COUNT: 3})
  assert text.count('prompt:\n  ') == text.count('response:\n  ') == 3
  assert '--- 3 ---' in text and '--- 4 ---' not in text
  again = printed(capsys, 'sft', runs / 'sft', **{COUNT: 3})
  assert text == again
  other = printed(capsys, 'sft', runs / 'sft', **{COUNT: 3, SEED: 1})
  assert text != other


def test_the_newest_checkpoint_or_a_named_one_answers(runs, capsys):
  folder = runs / 'online'
  newest = printed(capsys, 'online_ipo', folder)
  older, named = (folder / 'checkpoints' / f'checkpoint_{n}' for n in (3, 6))
  assert printed(capsys, 'online_ipo', named) == newest
  assert printed(capsys, 'online_ipo', older) != newest
  assert not (named / 'cache').exists()  # a checkpoint is left as it is


def test_a_dry_run_says_what_would_be_sampled(runs, capsys):
  text = printed(capsys, 'sft', runs / 'sft', '--dry_run', **{COUNT: 7})
  assert f'would write 7 samples of {runs / "sft"}' in text
  assert 'response:' not in text


def test_rows_of_the_model_without_a_word_are_never_said(
  tmp_path, capsys, caplog
):
  rows = {'VOCABULARY_SIZE': 900}  # 140 are words of the corpus
  tiny.dap('train', 'sft', tmp_path, **rows, SFT_STEPS=1)
  kept = files.read_json(tmp_path / 'configuration.json')['model']
  assert kept['vocabulary_size'] == 140
  assert kept['language_model']['config']['vocab_size'] == 900
  caplog.clear()
  assert '<unk>' not in printed(capsys, 'sft', tmp_path, **rows, **{COUNT: 12})
  assert 'stand in train too' in caplog.text  # once they are cut to 10 tokens
  with pytest.raises(SystemExit):
    said = {'policy.Policy.vocabulary_size': 900}
    tiny.dap('sample', 'sft', tmp_path, **rows, **said)
  assert 'VOCABULARY_SIZE is the number of rows' in capsys.readouterr().err
