import dataclasses

from dap import files
from dap.stages import artefacts, differences, pool
from dap.stages.artefacts import Stage


@dataclasses.dataclass(frozen=True)
class Text:
  text: str
  parts: tuple[int, ...] = (1, 2)
  seed: int = 0


def write(config, inputs, work_dir):
  files.write_atomically(work_dir / 'text', config.text)


A = Stage('a', write, Text('old'))
B = Stage('b', write, Text('b'), {'from': A})
NEW = dataclasses.replace(A, config=Text('new'))


def lines(tmp_path, *targets):
  jobs = artefacts.plan(list(targets), tmp_path, artefacts.runtime())
  return differences.notices(artefacts.missing(jobs, jobs), jobs)


def test_a_study_of_its_own_has_nothing_to_say(tmp_path):
  assert lines(tmp_path, B) == []
  artefacts.run_stage(B, tmp_path)
  assert lines(tmp_path, B) == []


def test_a_changed_binding_is_named_with_both_values(tmp_path):
  artefacts.run_stage(B, tmp_path)
  after = dataclasses.replace(B, inputs={'from': NEW})
  # `b` differs by what it reads alone: `a` says why.
  (line,) = lines(tmp_path, after)
  assert line.startswith('a is there with other bindings')
  assert "config.text: 'old' there, 'new' here" in line


def jobs_under(tmp_path, *targets, libraries):
  where = artefacts.runtime()._replace(libraries=tuple(libraries.items()))
  return artefacts.plan(list(targets), tmp_path, where)


def test_stages_of_another_library_are_counted_and_may_be_used(tmp_path):
  there, here = {'optax': '1', 'flax': '1'}, {'optax': '2', 'flax': '1'}
  for job in jobs_under(tmp_path, B, libraries=there):
    artefacts.run_job(job)
  planned = jobs_under(tmp_path, B, libraries=here)
  (line,) = differences.of_code(artefacts.missing(planned, planned))
  assert line.startswith('2 finished stages were made by other code')
  assert '(optax 1 there, 2 here)' in line and '--accept_code' in line
  assert differences.notices(planned, planned) == []  # said once
  where = artefacts.runtime()._replace(libraries=tuple(here.items()))
  accepted = artefacts.plan([B], tmp_path, where, accept_code=True)
  assert artefacts.missing(accepted, accepted) == []
  changed = differences.accepted(accepted)
  assert changed == {
    'a': ['optax 1 there, 2 here'],
    'b': ['optax 1 there, 2 here'],
  }


def test_what_is_accepted_differs_in_nothing_else(tmp_path):
  for job in jobs_under(tmp_path, B, libraries={'optax': '1'}):
    artefacts.run_job(job)
  other = dataclasses.replace(B, inputs={'from': NEW})
  accepted = artefacts.plan(
    [other], tmp_path, artefacts.runtime(), accept_code=True
  )
  assert len(artefacts.missing(accepted, accepted)) == 2


def test_a_change_within_a_list_has_its_place(tmp_path):
  artefacts.run_stage(A, tmp_path)
  other = dataclasses.replace(A, config=Text('old', (1, 3)))
  (line,) = lines(tmp_path, other)
  assert 'config.parts' in line and '2 there, 3 here' in line


def test_another_seed_and_a_stage_of_the_same_study_are_no_surprise(tmp_path):
  artefacts.run_stage(A, tmp_path)
  other_seed = dataclasses.replace(A, config=Text('old', seed=1))
  assert lines(tmp_path, other_seed) == []
  assert lines(tmp_path, A, NEW) == []


def test_names_that_only_begin_alike_are_other_stages(tmp_path):
  artefacts.run_stage(dataclasses.replace(A, name='a-longer'), tmp_path)
  assert lines(tmp_path, NEW) == []


def test_a_study_says_it_before_it_works_and_keeps_the_old_one(
  tmp_path, capsys
):
  before = artefacts.run_stage(A, tmp_path)
  (after,) = pool.run_stages([NEW], root=tmp_path)
  assert 'other bindings' in capsys.readouterr().out
  assert before.exists() and after.exists() and before != after


def test_what_differs_is_told_in_the_words_of_configuration():
  there = {
    'loss': {'$function': 'ipo', 'source': 'a', 'reads': {'beta': 1}},
    'data': {'$type': 'Rows', 'fingerprint': 'f', 'splits': [1, 2]},
    'scalars': [['beta', 0.05]],
    'rule': {'$function': 'trim', 'source': 'b'},
  }
  here = {
    'loss': {'$function': 'ipo', 'source': 'a', 'reads': {'beta': 2}},
    'data': {'$type': 'Rows', 'fingerprint': 'g', 'splits': [1, 2]},
    'scalars': [['beta', 0.07]],
    'rule': {'$function': 'drop', 'source': 'c'},
  }
  assert list(differences.changes(there, there)) == []
  assert list(differences.changes(there, here)) == [
    'loss.reads.beta: 1 there, 2 here',  # and its code is the same
    'data: other content (files, or how they are read)',
    'scalars.beta: 0.05 there, 0.07 here',
    'rule: trim there, drop here',
  ]
