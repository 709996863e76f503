import pytest
from report_parts import results

from dap.study.reading import evidence
from dap.study.report import care, findings, fitness
from dap.study.report.pages import blocks, markdown


def rate(value):
  return {'value': value, 'count': 1000}


def seed(**changes):
  """Of a judge that is fit, on data that are whole."""
  own = {
    'golden': {**rate(0.85), 'train_agreement': rate(0.9)},
    'baselines': {'choose_longer': rate(0.6), 'bag_of_bigrams': rate(0.7)},
    'judging_prompts': 512,
    'data_counts': {'test': {'responses': 100, 'cut_responses': 9}},
  }
  return {**own, **changes}


def of(*seeds):
  return {'by_seed': {str(n): own for n, own in enumerate(seeds)}}


def test_a_fit_judge_on_whole_data_warns_of_nothing():
  for study in (of(seed()), of(seed(), seed()), {}, {'golden': None}):
    assert fitness.of_judge(study) == fitness.of_data(study) == []


@pytest.mark.parametrize(
  ('changes', 'words'),
  [
    ({'golden': rate(0.6)}, 'no better than choosing the longer response'),
    ({'golden': rate(0.7)}, 'no better than a bag of bigrams'),
    ({'golden': rate(0.72)}, 'not surely better than a bag of bigrams'),
    (
      {'golden': {**rate(0.75), 'train_agreement': rate(0.99)}},
      '0.990 of their labels, and with 0.750 of those held out',
    ),
    ({'judging_prompts': 63}, 'Win rates are of 63 prompts, fewer than 64'),
  ],
)
def test_what_makes_a_judge_unfit_is_said(changes, words):
  notes = fitness.of_judge(of(seed(**changes)))
  assert any(words in note for note in notes)
  assert fitness.of_data(of(seed(**changes))) == []


@pytest.mark.parametrize(
  ('counts', 'words'),
  [
    ({'responses': 100, 'cut_responses': 11}, '11% of the responses of the'),
    ({'examples': 10, 'cut_prompts': 10}, '100% of the prompts of the split'),
  ],
)
def test_what_makes_data_unfit_is_said(counts, words):
  (note,) = fitness.of_data(of(seed(data_counts={'test': counts})))
  assert words in note


def test_an_unfit_judge_has_no_verdicts_and_one_of_few_prompts_has():
  for changes, refused in (
    ({'golden': rate(0.6)}, True),
    ({'golden': rate(0.72)}, True),
    ({'golden': rate(0.74)}, False),
    ({'judging_prompts': 63}, False),
  ):
    study = of(seed(**changes))
    assert bool(fitness.refusals(study)) == refused
    study = {**results().study, **study}
    for told, plain in zip(
      results(study=study).predicates, results().predicates, strict=True
    ):
      kept = plain.of_truth or plain.estimate is None or not refused
      assert told.verdict == (plain.verdict if kept else evidence.REFUSED)
      assert told.estimate == plain.estimate


def test_seeds_of_one_data_set_tell_no_more_of_its_test_pairs():
  weak = seed(golden=rate(0.72))
  other = {'choose_longer': rate(0.6), 'bag_of_bigrams': rate(0.702)}
  assert fitness.refusals(of(weak, weak, weak, weak))
  assert not fitness.refusals(
    of(weak, {**weak, 'baselines': other}, weak, weak)
  )


def test_spoilt_pairs_are_counted_and_warn_of_nothing():
  cut = {'stress': {'responses': 100, 'cut_responses': 22}}
  study = of(seed(data_counts=cut))
  assert fitness.of_data(study) == []
  (note,) = care.of_data(study)
  assert note.startswith('Stress data: 22% of the responses, spoilt on purpose')


def test_what_holds_of_some_seeds_names_them():
  weak = seed(golden=rate(0.6))
  notes = fitness.of_judge(of(seed(), weak, weak))
  notes = [note for note in notes if 'No verdicts' not in note]
  assert notes and all(note.startswith('Seed 1, 2: ') for note in notes)
  assert fitness.of_judge(of(weak, weak))[-1].startswith('The golden model')


def test_a_report_warns_first_and_beside_each_verdict():
  study = {**results().study, **of(seed(golden=rate(0.5)))}
  weak = results(study=study)
  first, second, *others = findings.report(weak, [])
  assert first == blocks.Heading('Warnings')
  assert isinstance(second, blocks.Bullets)
  assert 'better than choosing the longer' in second.items[0]
  assert findings.caveats(weak)[0] == second.items[0]
  told = [p for p in weak.predicates if p.estimate is not None]
  told = [p for p in told if not p.of_truth]
  assert told and all(p.detail.startswith(fitness.UNFIT) for p in told)
  assert {p.verdict for p in told} == {evidence.REFUSED}
  assert '(unfit judge)' in findings.lines(weak)[1]
  text = markdown.text('t', [first, second, *others])
  assert text.count(fitness.UNFIT) >= len(told)
  whole = findings.report(results(), [])
  assert blocks.Heading('Warnings') not in whole
