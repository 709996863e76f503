from report_parts import figure, points, predicates

from dap.study.report.pages import blocks, markdown

PARTS = [
  blocks.Text('Online < offline', strong=True),
  blocks.Heading('Verdicts'),
  blocks.Verdicts([('Gap', predicates())]),
  blocks.Chart(figure(points()), 'figures/fig1'),
  blocks.Table(['run', 'KL'], [['a|b', '1.0'], ['c', '2.0']]),
  blocks.Table(['run'], [['hidden']], folded='By stage'),
  blocks.Bullets(['one', 'two']),
  blocks.Browser([blocks.Sample('the\nprompt', [('sft', 'a\nb')])]),
  blocks.AllPoints(7),
  blocks.Configurations(),
]
TEXT = markdown.text('Title', PARTS)


def test_every_part_is_there_in_its_order():
  expected = (
    '# Title\n\n**Online < offline**\n\n## Verdicts\n\n',
    '| **Gap** |',
    '![Online against offline](figures/fig1.png)\n\nWhat a dot is.',
    '| run | KL |\n| --- | --- |\n| a\\|b | 1.0 |\n| c | 2.0 |',
    '<details><summary>By stage</summary>',
    '- one\n- two',
    '    prompt the prompt\n    sft    a b\n',
    'All 7 points are in [runs.jsonl](runs.jsonl).',
    '[study.json](study.json)',
  )
  places = [TEXT.index(part) for part in expected]
  assert places == sorted(places)


def test_verdicts_have_a_sign_a_word_and_what_limits_them():
  for expected in (
    '| P1d | Online is ahead at equal KL. (Fig. 1) **Primary endpoint.** These'
    ' seeds only. In 10 windows. | ✓ reproduced | 0.085 [0.050, 0.112] win rate'
    ' | seed 0: 0.070, seed 1: 0.100 |',
    '| P2a | Coverage \\| does not (Fig. 4) | ✗ contradicted |',
    '| ? undecided | 0.200 [−0.200, 0.500] rank |',
    '| P6a | Larger is better (Fig. 10) None. | – not reached | – |  |',
  ):
    assert expected in TEXT
