import pytest
import report_parts
from report_parts import predicates, results

from dap.study.reading import evidence
from dap.study.reading.evidence import (
  NOT_REACHED,
  SAME_WAY,
  UNDECIDED,
  Evidence,
)
from dap.study.report import findings
from dap.study.report.pages import blocks


def texts(found):
  return [part.text for part in found if isinstance(part, blocks.Text)]


def tables(found):
  return [part for part in found if isinstance(part, blocks.Table)]


def said(**changes):
  """The headlines where the primary endpoint is changed so."""
  first, *others = predicates()
  answer = results().answers[0]
  changed = answer._replace(predicates=[first._replace(**changes), *others])
  return texts(findings.headlines(results(answers=[changed])))


def test_the_title_names_data_and_seeds():
  assert findings.title(results()) == (
    'Online against offline: EmbeddedCorpus, seeds 0, 1'
  )
  bare = results(study={})
  assert findings.title(bare) == 'KL budget against win rate: seeds 0, 1'


def test_the_first_finding_is_the_primary_endpoint():
  assert said() == [
    'Two seeds show which way an effect points, not that other seeds have it:'
    ' that takes 4 at least; the whole study has eight.',
    'P1d reproduced: Online is ahead at equal KL. 0.085 win rate, 95 % interval'
    ' [0.050, 0.112]; mean over 2 seeds (0.070, 0.100). This holds for these'
    ' seeds.',
    '4 claims tested: 1 reproduced, 1 contradicted, 1 undecided, 1 not'
    ' reached.',
  ]


def test_few_seeds_have_weaker_words():
  weak = evidence.of_few_seeds(predicates()[0])
  assert weak.verdict == SAME_WAY
  limit, first, counts = said(verdict=weak.verdict)
  assert first.startswith('P1d points the same way on both seeds: Online')
  assert '1 pointing the same way' in counts


def test_seeds_that_differ_say_nothing_and_more_seeds_are_left_alone():
  first = predicates()[0]
  mixed = first._replace(by_seed={0: 0.2, 1: -0.1})
  assert evidence.of_few_seeds(mixed).verdict == UNDECIDED
  enough = first._replace(conditional=False)
  assert evidence.of_few_seeds(enough) == enough


def test_a_primary_endpoint_that_was_not_reached_says_why():
  assert said(verdict=NOT_REACHED, estimate=None, detail='No KL is shared.')[
    1
  ] == ('P1d not reached: Online is ahead at equal KL. No KL is shared.')


def test_a_terminal_has_a_line_for_each_claim():
  limit, first, *_, last = findings.lines(results())
  assert limit.startswith('Two seeds show which way an effect points')
  assert first.split()[:3] == ['P1d', 'reproduced', '0.085']
  assert first.endswith('0.085 [0.050, 0.112] win rate (these seeds only)')
  assert last.split()[1:] == ['not', 'reached', '–']


def test_without_analyses_the_points_are_counted():
  (text,) = texts(findings.headlines(results(answers=[])))
  assert text == '28 points, no analysis.'


def test_few_seeds_and_cut_responses_are_caveats():
  own = [p._replace(truncated_fraction=0.1) for p in report_parts.points()]
  whole = results()
  cut = results(evidence=Evidence(own, whole.evidence.folder, {}))
  notes = findings.caveats(cut)
  assert notes[0] == 'Tuned on seed 0.'
  assert any(note.startswith('2 of the 4 seeds') for note in notes)
  assert any('10% of the responses' in note for note in notes)
  assert not any('cut at' in note for note in findings.caveats(whole))


def test_costs_go_to_the_first_experiment_that_needs_them():
  by_experiment, by_stage, *_ = tables(findings.report(results(), []))[1:]
  assert [row[:3] for row in by_experiment.rows] == [
    ('shared', '1', '1:01'),
    ('Gap', '2', '0:12'),  # 10 s of training and 2 s of evaluation
    ('Coverage', '1', '0:05'),  # the measure alone: its arm is Gap's
  ]
  assert [row[0] for row in by_stage.rows] == [
    'golden',
    'train online',
    'measure_replay',
    'evaluate online',
  ]
  assert by_stage.folded == 'By stage'


def test_models_have_a_column_for_each_seed():
  measured = report_parts.STUDY['golden']
  by_seed = {'0': {'golden': measured}, '1': {'sft': {'loss': 1.2}}}
  whole = results(study={**report_parts.STUDY, 'by_seed': by_seed})
  table = tables(findings.report(whole, []))[0]
  assert list(table.header) == ['held out', 'seed 0', 'seed 1']
  assert table.rows == [
    ['golden model: accuracy', '0.880 [0.860, 0.900]', '–'],
    ['SFT policy: loss', '–', '1.200'],
  ]


@pytest.mark.parametrize(
  ('changes', 'heading'),
  [
    ({'samples': {}}, 'Samples'),
    ({'costs': []}, 'Costs'),
    ({'study': {}}, 'Configuration'),
    ({'study': {}}, 'Preference models and SFT policy'),
    ({'answers': []}, 'Verdicts'),
  ],
)
def test_what_a_study_lacks_is_left_out(changes, heading):
  def headings(**given):
    found = findings.report(results(**given), [])
    return [part.text for part in found if isinstance(part, blocks.Heading)]

  assert heading in headings()
  assert heading not in headings(**changes)


def test_samples_in_markdown_are_those_of_the_first_seed():
  found = findings.report(results(), [])
  (browser,) = [part for part in found if isinstance(part, blocks.Browser)]
  first = browser.few[0]
  assert first.prompt == 'prompt 0-0'
  assert [name for name, _ in first.answers] == [
    'sft',
    'online',
    'offline',
    'golden policy',
  ]


def test_what_the_data_make_careful_of_is_said_once_or_by_seed():
  repeated = {'prompts': 8, 'prompts_in_train': 2}
  cut = {'rows': 20, 'same_cut': 1}
  by_seed = {
    '0': {'data_counts': {'train': cut, 'test': repeated}},
    '1': {'data_counts': {'train': cut, 'test': {'prompts': 8}}},
  }
  notes = findings.caveats(results(study={'by_seed': by_seed}))
  assert notes[:2] == [
    'Training data: 1 of 20 pairs (5.0 %) were left out, as their responses are'
    ' the same ids once they are cut.',
    'Test data: 2 of 8 test prompts (25.0 %) stand in train too. (seed 0)',
  ]
