"""`dap algorithms`: the table, a page each, and what README says of them."""

import dataclasses
import json
import pathlib
import re

import pytest
from refusals import refused

from dap import main
from dap.algorithms import refresh, samplers
from dap.annotators import host
from dap.commands import described, experiments, places, survey, traits

ROOT = pathlib.Path(__file__).resolve().parents[2]
ARTEFACTS = ['preference_model', 'sft']
NAMES = sorted(
  path.stem
  for path in (ROOT / 'configs' / 'embedded').glob('*.gin')
  if path.stem not in ARTEFACTS
)
CONTROLS = ['nothing', 'random_label']


def told(capsys, *words):
  main.main(['algorithms', *words])
  return capsys.readouterr().out


@pytest.fixture(scope='module')
def runs():
  return {name: experiments.read(name).run for name in NAMES}


@pytest.fixture(scope='module')
def descriptions():
  return {name: described.of(experiments.read(name)) for name in NAMES}


def test_every_experiment_but_what_others_start_from_is_listed(capsys):
  text, document = told(capsys), json.loads(told(capsys, '--json'))
  assert [each['name'] for each in document['algorithms']] == NAMES
  assert document['artefacts'] == ARTEFACTS
  slots = text.split('\n\n')[0].splitlines()[3:]
  assert [line.split()[0] for line in slots] == NAMES
  assert max(map(len, text.splitlines())) <= 100


# Whose labels, own samples, online, no API, models; by hand from the papers.
KNOWN = {
  'dpo': ('X', 'X', 'X', 'O', '2'),  # policy, reference
  'simpo': ('X', 'X', 'X', 'O', '1'),  # no reference is read
  'online_ipo': ('X', 'O', 'O', 'O', '3'),  # and the proxy that is asked
  'ppo': ('X', 'O', 'O', 'O', '4'),  # policy, critic, reference, reward
  'rso': ('X', '△', 'X', 'O', '3'),  # the start draws, and is the reference
  'spin': ('O', '△', 'O', 'O', '2'),  # policy; opponent, who is the reference
  'iterative_dpo': ('X', 'O', 'O', 'O', '3'),  # and the reward model
}


@pytest.mark.parametrize('name', KNOWN)
def test_properties_that_are_known_follow_from_the_slots(descriptions, name):
  assert survey.derived(descriptions[name].traits) == KNOWN[name]


def test_roles_are_distinct_where_their_schedules_are(runs):
  run = runs['iterative_dpo']
  slower = dataclasses.replace(run.algorithm, reference=refresh.Every(100))
  one, two = (
    traits.resident(dataclasses.replace(run, algorithm=algorithm))
    for algorithm in (run.algorithm, slower)
  )
  assert (len(one), len(two)) == (3, 4)
  assert 'behaviour and reference (every 50)' in one


def test_who_is_asked_decides_labels_calls_and_what_is_outside(runs):
  class Judge:
    """Asked over a network."""

    def ask(self, prompts, responses):
      raise NotImplementedError

  run = runs['rloo']
  found = [
    traits.of(
      dataclasses.replace(
        run,
        algorithm=dataclasses.replace(
          run.algorithm, annotator=None, host_annotator=asked
        ),
      )
    )
    for asked in (host.Rule(host.shorter), Judge())
  ]
  assert [each.asked for each in found] == [4, 4]
  assert not any(each.human_labels for each in found)
  assert [each.external for each in found] == [False, True]


def test_data_beside_samples_are_scored_and_are_not_the_policys(runs):
  found = traits.of(runs['rrhf'])
  sampler = runs['rrhf'].algorithm.sampler
  assert isinstance(sampler, samplers.BesideData)
  assert (found.data, found.asked, found.own) == ('prompts, pairs', 6, '△')


def test_the_surveys_table_stands_as_printed(capsys):
  rows = {row.name: row.cells for row in survey.ROWS}
  assert len(rows) == 14
  assert rows['self-rewarding'][0] == '△ (works even without it)'
  assert rows['ReST'] == ('X', 'O', 'O', 'O', '4')
  assert rows['OAIF (online DPO)'] == ('O', 'O', 'O', 'X', '2 (1)')
  assert {row.experiment for row in survey.ROWS} <= {'', *NAMES}
  text = ' '.join(told(capsys).split())
  assert 'RLAIF, self-rewarding, OAIF (online DPO): not here' in text
  for row in survey.ROWS:
    assert ' '.join((row.group, row.name, *row.cells)) in text


def test_where_slots_and_survey_differ_there_is_a_mark_and_a_sentence(
  capsys, descriptions
):
  text = ' '.join(told(capsys).split())
  marked = {
    row.name: sorted(survey.differs(row, descriptions[row.experiment].traits))
    for row in survey.ROWS
    if row.experiment
  }
  own, models = 1, 4  # of the columns
  assert {name: x for name, x in marked.items() if x} == {
    'ReST': [models],  # likelihood of what is kept: no reference, no critic
    'RRHF': [models],  # samples are drawn and scored step by step
    'CLICK': [models],
    'RSO': [own],  # drawn by the start for the whole run
  }
  assert 'ReST X O O O 3*' in text and 'RSO X △* X O 3' in text
  assert '* RSO, (2): O in the survey, △ by the slots of rso: every' in text


@pytest.mark.parametrize('name', NAMES)
def test_a_page_has_equation_source_command_and_tests(
  descriptions, name, capsys
):
  found = descriptions[name]
  assert len(found.equation.text) > 10
  cited = ' '.join(found.sources.values())
  assert name in CONTROLS or 'https://' in cited
  assert f'--gin_file=configs/embedded/{name}.gin' in found.command
  assert found.tests and all((ROOT / path).is_file() for path in found.tests)
  assert [*found.slots] == [
    field.name
    for field in dataclasses.fields(experiments.read(name).run.algorithm)
  ]
  text = told(capsys, name)
  assert found.command in text and max(map(len, text.splitlines())) <= 100


def test_defaults_come_with_their_source_and_what_is_set_here(capsys):
  text = told(capsys, 'ppo')
  assert 'KL_WEIGHT = 0.05  # per nat and token; trl v0.11.4, and' in text
  assert '\n      here = 0.15  # of scores with a standard' in text
  must = told(capsys, 'slic')
  assert 'LIKELIHOOD_WEIGHT = must be given  # per nat of the chosen' in must
  assert '\n      here = 0.1\n' in must


def test_an_equation_brings_the_ones_that_it_names(descriptions):
  ptx = descriptions['ppo_ptx'].equation.text
  assert 'max(-A ratio, -A clip(ratio))' in ptx  # of `ppo_loss`
  assert '`advantages`: ' in ptx  # of a signal
  assert 'eq. 7' in descriptions['dpo'].equation.source


def test_one_algorithm_as_json_is_the_documents_entry(capsys):
  whole = json.loads(told(capsys, '--json'))['algorithms']
  one = json.loads(told(capsys, 'rso', '--json'))
  assert one == next(each for each in whole if each['name'] == 'rso')
  assert one['survey'] == 'RSO' and len(one['differs']) == 1


def test_an_unknown_name_is_refused_with_the_nearest(capsys):
  assert 'Nearest: iterative_dpo' in refused(
    capsys, ['algorithms', 'iterative-dop']
  )
  assert 'no algorithm but what algorithms start from' in refused(
    capsys, ['algorithms', 'sft']
  )
  assert 'is not configured by gin' in refused(
    capsys, ['algorithms', '--gin.BETA=1']
  )


def test_without_the_repository_tests_are_told_where_they_stand(
  monkeypatch, tmp_path, capsys
):
  for folder in ('gin', 'configs'):
    (tmp_path / folder).symlink_to(ROOT / folder)
  monkeypatch.setattr(places, 'root', lambda: tmp_path)
  assert 'in the repository: tests/algorithms' in told(capsys, 'dpo')


def test_readme_has_a_line_for_each_as_the_command_has_it(descriptions):
  text = (ROOT / 'README.md').read_text()
  section = text.split('\n## Algorithms\n')[1].split('\n## ')[0]
  lines = re.findall(r'^\| \[.*', section, re.MULTILINE)
  assert lines == [
    f'| [`{each.name}`]({each.config}) | {each.summary} |'
    for each in descriptions.values()
  ]
