import json
import re
import shutil

import numpy as np
import pytest
import tiny_study

from dap import files, main
from dap.commands import COMMANDS, run
from dap.data import corpus, datasets, vocabulary
from dap.errors import InputError
from dap.study import design
from dap.study import run as study
from dap.study.making import trainings
from dap.study.reading import runs


def dap_study(folder, *others, **changes):
  main.main(tiny_study.argv(folder, *others, **changes))


def stages_run(folder):
  return [
    line['stage'] for line in files.read_json_lines(folder / 'costs.jsonl')
  ]


def planned(folder, *others, **changes):
  """The jobs of a study by the names of their stages, without running."""
  words = tiny_study.argv(folder, *others, **changes)
  files_given, overrides = main._take_overrides(words[1:])
  files_given = [word.removeprefix('--gin_file=') for word in files_given]
  given = run.configure(COMMANDS['study'], files_given, overrides, COMMANDS)
  seeds = design.check_seeds(given['seeds'])
  jobs = study.planned(given['study'], seeds, folder, 0)
  return {job.stage.name: job for job in jobs}


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
  folder = tmp_path_factory.mktemp('study')
  dap_study(folder)
  return folder


ONE, OTHER = 'lr0.01_beta0.1', 'lr0.01_beta0.03'


def test_points_of_an_evaluation_that_was_cut_off_have_the_same_bytes(
  whole, tmp_path
):
  # Checkpoints that are judged together differ in rounding from one judged
  # alone, so that a cut must not decide who is judged with whom.
  folder = tmp_path / 'study'
  shutil.copytree(whole, folder, symlinks=True)
  (done,) = folder.glob(f'stages/evaluate_online_ipo_{ONE}-*')
  expected = {path.name: path.read_bytes() for path in done.glob('step_*')}
  partial = done.with_name(f'{done.name}.partial')
  partial.mkdir()
  for path in done.glob('step_3.*'):
    path.rename(partial / path.name)
  shutil.rmtree(done)
  dap_study(folder)
  found = {path.name: path.read_bytes() for path in done.glob('step_*')}
  assert len(expected) == 4
  assert found == expected


def test_policies_of_a_study_say_the_ids_of_its_vocabulary(tmp_path):
  jobs = planned(tmp_path)
  policies = [
    config.run.model
    for config in (job.stage.config for job in jobs.values())
    if hasattr(getattr(config, 'run', None), 'model')
    and hasattr(config.run.model, 'vocabulary_size')
  ]
  assert len(policies) > 5
  assert {policy.vocabulary_size for policy in policies} == {140}
  rows = {policy.language_model.vocab_size for policy in policies}
  assert rows == {tiny_study.SIZES['VOCABULARY_SIZE']}


def test_a_study_refuses_a_vocabulary_of_fewer_pieces_than_asked(tmp_path):
  source = corpus.EmbeddedCorpus(num_train=8, num_test=4, num_stress=0)
  trained = vocabulary.TrainedSentencePiece(4000)
  data = datasets.PairData(source, trained, 20, 20)
  config = trainings.Preparing(data, 4000)
  with pytest.raises(InputError, match='say all of 4000 ids.* Bind VOCAB'):
    trainings.prepare(config, {}, tmp_path)


def test_both_arms_are_in_the_results_with_all_their_checkpoints(whole):
  found = runs.read(whole / 'runs.jsonl')
  steps = {
    'sft': [0],
    'golden_policy': [4],
    f'online_ipo_{ONE}': [3, 6],
    f'online_ipo_{OTHER}': [3, 6],
    f'offline_ipo_{ONE}': [2, 4, 6],
    f'offline_ipo_{OTHER}': [2, 4, 6],
  }
  by_run = {
    name: [point.step for point in found if point.run == name] for name in steps
  }
  assert by_run == steps and len(found) == 12
  assert {point.algorithm for point in found} == {
    'online_ipo', 'offline_ipo', 'sft', 'golden_policy',
  }  # fmt: skip
  settings = {
    (p.run, p.lr, p.scalars['beta'])
    for p in found
    if p.algorithm == 'online_ipo'
  }
  assert settings == {
    (f'online_ipo_{ONE}', 1e-2, 0.1), (f'online_ipo_{OTHER}', 1e-2, 0.03),
  }  # fmt: skip


def test_training_is_counted_in_operations_and_sampled_tokens(whole):
  found = {(p.run, p.step): p for p in runs.read(whole / 'runs.jsonl')}
  online = [found[f'online_ipo_{ONE}', step] for step in (3, 6)]
  offline = [found[f'offline_ipo_{ONE}', step] for step in (2, 4, 6)]
  # Each of 8 prompts has two samples of 1 to 6 tokens, 6 steps long.
  assert 3 * 16 <= online[0].sampled_tokens <= 3 * 16 * 6
  assert online[0].sampled_tokens < online[1].sampled_tokens
  assert {point.sampled_tokens for point in offline} == {0}
  first, second, third = (point.train_flops for point in offline)
  assert second == 2 * first and third == 3 * first
  assert online[1].train_flops > third  # the same steps, and rollouts


def test_every_line_has_the_schema(whole):
  for line in tiny_study.lines(whole):
    assert list(line) == ['schema', *runs.Point._fields]
    assert line['schema'] == 3 and line['seed'] == 3
    empty = {name for name, value in line.items() if value is None}
    spent = {  # of single runs alone
      'sampled_tokens', 'annotator_calls', 'parameter_sets', 'train_flops',
    }  # fmt: skip
    expected = {'sft': spent, 'golden_policy': spent}
    assert empty == expected.get(line['run'], set())
    assert line['scalars'].keys() == (
      {'beta'} if line['run'] != 'sft' else set()
    )
    arrays = runs.read_arrays(
      whole / line['per_prompt'],
      ('prompt_ids', 'golden_p_ab', 'golden_p_ba', 'kl', 'tokens'),
    )
    assert arrays['tokens'].shape == (32, 6) and arrays['kl'].shape == (16,)
    np.testing.assert_allclose(
      arrays['golden_p_ab'] + arrays['golden_p_ba'], 1, atol=1e-6
    )


def test_the_start_is_the_reference_and_training_leaves_it(whole):
  lines = {
    (line['run'], line['step']): line for line in tiny_study.lines(whole)
  }
  sft = lines['sft', 0]
  assert sft['kl_nats'] == 0 and sft['classification_accuracy'] == 0.5
  for name in (f'online_ipo_{ONE}', f'offline_ipo_{ONE}'):
    assert lines[name, 6]['kl_nats'] > 0


def test_all_checkpoints_answer_the_same_prompts(whole):
  asked = [
    runs.read_arrays(whole / line['per_prompt'], ('prompt_ids', 'samples'))
    for line in tiny_study.lines(whole)
  ]
  for name in ('prompt_ids', 'samples'):
    for arrays in asked[1:]:
      np.testing.assert_array_equal(arrays[name], asked[0][name])
  assert min(asked[0]['prompt_ids']) >= 10_000_000  # held out
  assert max(asked[0]['samples']) == 1  # 24 prompts for 32 questions


def test_the_report_is_written(whole):
  for name in ('report.html', 'report.md', 'frontier.png', 'frontier.svg'):
    assert (whole / name).stat().st_size > 1000
  summary = json.loads((whole / 'study.json').read_text())
  assert summary['seeds'] == [3]
  assert 0 <= summary['golden']['value'] <= 1
  assert summary['sft']['loss'] > 0 and summary['sft']['unigram_loss'] > 0
  assert summary['golden_pairs']['train']['pairs'] == 48
  assert summary['runs'].keys() >= {'sft', f'online_ipo_{ONE}'}
  samples = json.loads((whole / 'samples.json').read_text())
  texts = samples['points'][f'online_ipo_{ONE}/3/6']
  assert len(texts['texts']) == len(samples['seeds']['3']['prompts']) == 12
  assert all(0 <= p <= 1 for p in texts['prefers'])


def test_a_second_start_runs_nothing(whole):
  before = stages_run(whole), (whole / 'runs.jsonl').read_bytes()
  dap_study(whole)
  assert (stages_run(whole), (whole / 'runs.jsonl').read_bytes()) == before
  assert not list((whole / 'stages').glob('*.partial'))


def test_a_relative_folder_will_do(whole, monkeypatch):
  monkeypatch.chdir(whole.parent)
  before = stages_run(whole)
  dap_study(whole.name)
  assert stages_run(whole) == before


# By stage name: what a change of one binding does again.
SFT_ON = 'sft|sft_loss|golden_policy|opponent|on.*|off.*|evaluate_.*'
AGAIN = {
  'TITLE': ('other', ''),
  'SETTINGS': (
    ((1e-2, 0.5), (1e-2, 0.03)), '(evaluate_)?o(n|ff)line_ipo_lr0.01_beta0.1',
  ),
  'OFFLINE_STEPS': (7, '(evaluate_)?offline_ipo_.*'),
  'OFFLINE_SAVE_STEPS': ((3,), '(evaluate_)?offline_ipo_.*'),
  'PROXY_STEPS': (9, 'proxy|proxy_accuracy|online_.*|evaluate_.*'),
  'SFT_STEPS': (11, SFT_ON),
  'golden_policy/train.Run.num_steps': (
    5, 'golden_policy|opponent|evaluate_.*',
  ),
  'points.Evaluation.num_pairs': (8, 'opponent|evaluate_.*'),
  'design.Study.num_golden_pairs': (
    40, 'relabel|proxy.*|golden_policy|opponent|o(n|ff)line.*|evaluate_.*',
  ),
  'BATCH_SIZE': (4, '(?!data).*'),
  'RESPONSE_LENGTH': (5, '.*'),
  'SEEDS': ((4,), '.*'),
}  # fmt: skip


@pytest.mark.parametrize('name', AGAIN)
def test_a_changed_binding_does_again_what_depends_on_it(tmp_path, name):
  value, expected = AGAIN[name]
  before, after = planned(tmp_path), planned(tmp_path, **{name: value})
  kept = {job.key for job in after.values()}
  changed = {n for n in before if before[n].key not in kept}
  assert changed == {n for n in before if re.fullmatch(expected, n)}


def test_the_names_of_stages_do_not_depend_on_where_things_are(tmp_path):
  here, there = planned(tmp_path / 'a'), planned(tmp_path / 'b')
  assert {n: job.key for n, job in here.items()} == {
    n: job.key for n, job in there.items()
  }


def test_a_changed_binding_runs_only_that(whole):
  before = stages_run(whole)
  settings = ((1e-2, 0.1), (1e-2, 0.3))
  dap_study(whole, SETTINGS=settings)
  assert sorted(stages_run(whole)[len(before) :]) == [
    f'{what}{arm}_ipo_lr0.01_beta0.3'
    for what in ('evaluate_', '')
    for arm in ('offline', 'online')
  ]
  betas = {line['scalars'].get('beta') for line in tiny_study.lines(whole)}
  assert 0.3 in betas and 0.03 not in betas
  dap_study(whole)  # all of the first study is still there
  assert len(stages_run(whole)) == len(before) + 4


def test_a_dry_run_lists_the_stages_and_their_costs(whole, capsys, tmp_path):
  dap_study(tmp_path / 'new', '--dry_run', SETTINGS=((1e-2, 0.1),))
  printed = capsys.readouterr().out
  assert '15 of 15 stages to run on 1 processes' in printed
  assert re.search(
    r'golden: [\d,]+ parameters; about \d.* KiB\); 12 steps', printed
  )
  assert not (tmp_path / 'new').exists()


def test_a_stage_that_was_changed_by_hand_is_refused(whole, capsys):
  (folder,) = (whole / 'stages').glob('sft_loss-*')
  path = folder / 'summary.json'
  text = path.read_text()
  try:
    path.write_text(text + ' ')
    with pytest.raises(SystemExit, match='2'):
      dap_study(whole)
    assert 'was changed after it was finished' in capsys.readouterr().err
  finally:
    path.write_text(text)


def test_too_few_prompts_still_give_a_report(tmp_path, whole):
  """One prompt, repeated: no half of it can judge the other's choice."""
  for line in tiny_study.lines(whole):
    arrays = dict(np.load(whole / line['per_prompt']))
    arrays['prompt_ids'][:] = 7
    (tmp_path / line['per_prompt']).parent.mkdir(parents=True, exist_ok=True)
    np.savez(tmp_path / line['per_prompt'], **arrays)
  (tmp_path / 'runs.jsonl').write_bytes((whole / 'runs.jsonl').read_bytes())
  main.main(tiny_study.report_argv(tmp_path))
  assert (tmp_path / 'report.md').exists()


# Data of the user's own


def rows(split, count):
  return corpus.EmbeddedCorpus(7, count, 0, count).load(split)


def dialogue(row):
  start = f'\n\nHuman: {row["prompt"]}\n\nAssistant: '
  return {key: start + row[key] for key in ('chosen', 'rejected')}


def test_the_same_study_runs_on_files(tmp_path):
  sizes = {'train': 80, 'test': 24}
  for split, count in sizes.items():
    files.append_json_lines(
      tmp_path / f'{split}.jsonl', [dialogue(row) for row in rows(split, count)]
    )
  folder = tmp_path / 'study'
  words = tiny_study.argv(
    folder,
    '--gin_file=gin/data/hh.gin',
    without=[name for name in tiny_study.SIZES if 'Corpus' in name],
    TRAIN_FILE=str(tmp_path / 'train.jsonl'),
    TEST_FILE=str(tmp_path / 'test.jsonl'),
    SETTINGS=((1e-2, 0.1),),
  )
  main.main(words)
  found = runs.read(folder / 'runs.jsonl')
  assert {point.algorithm for point in found} == {
    'online_ipo', 'offline_ipo', 'sft', 'golden_policy',
  }  # fmt: skip
  assert all(point.hidden_utility is None for point in found)
  summary = json.loads((folder / 'study.json').read_text())
  assert summary['baselines'].keys() >= {'choose_longer', 'bag_of_bigrams'}
  counts = summary['data_counts']['test']
  assert counts['examples'] + counts['same_cut'] == 24
  assert summary['golden']['count'] == counts['examples']
  assert 'examples' in summary['data_reports']['train']
  said = (folder / 'report.md').read_text().partition('Read with care')[2]
  assert (
    f'{counts["prompts_in_train"]} of {counts["prompts"]} test prom' in said
  )
  (data,) = (folder / 'stages').glob('data-*')
  assert (data / 'vocabulary.model').exists()
