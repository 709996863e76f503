"""Layer 8. Names of older versions that gin files may still say.

A module of `MODULES` is refused with its new name before anything is imported.
`OBJECTS` is asked only when a name is not there (a module, a function, a class,
or an argument of one), so that an entry may stand while both names work.
"""

# Module of an older version: the same module now. Both names in full.
MODULES = {
  'dap.collectors': 'dap.training.collectors',
  'dap.groups': 'dap.training.stacks',
  'dap.journals': 'dap.training.journals',
  'dap.metrics': 'dap.training.metrics',
  'dap.steps': 'dap.training.steps',
  'dap.study.artefacts': 'dap.stages.artefacts',
  'dap.study.baselines': 'dap.study.making.baselines',
  'dap.study.build': 'dap.study.making.build',
  'dap.study.collect': 'dap.study.making.collect',
  'dap.study.differences': 'dap.stages.differences',
  'dap.study.drawing': 'dap.study.report.drawing',
  'dap.study.drawing.legend': 'dap.study.report.drawing.legend',
  'dap.study.drawing.looks': 'dap.study.report.drawing.looks',
  'dap.study.drawing.marks': 'dap.study.report.drawing.marks',
  'dap.study.drawing.static': 'dap.study.report.drawing.static',
  'dap.study.effort': 'dap.study.forecast.effort',
  'dap.study.evaluations': 'dap.study.making.judging',
  'dap.study.evidence': 'dap.study.reading.evidence',
  'dap.study.experiments': 'dap.study.design.experiments',
  'dap.study.findings': 'dap.study.report.findings',
  'dap.study.forecast': 'dap.study.forecast.forecast',
  'dap.study.frontiers': 'dap.study.reading.frontiers',
  'dap.study.grid': 'dap.study.design.grid',
  'dap.study.grouped': 'dap.study.making.grouped',
  'dap.study.machine': 'dap.stages.machine',
  'dap.study.measures': 'dap.study.making.measures',
  'dap.study.pages': 'dap.study.report.pages',
  'dap.study.pages.blocks': 'dap.study.report.pages.blocks',
  'dap.study.pages.data': 'dap.study.report.pages.data',
  'dap.study.pages.html': 'dap.study.report.pages.html',
  'dap.study.pages.markdown': 'dap.study.report.pages.markdown',
  'dap.study.pages.numbers': 'dap.study.report.pages.numbers',
  'dap.study.points': 'dap.study.reading.runs',
  'dap.study.pool': 'dap.stages.pool',
  'dap.study.report': 'dap.study.report.report',
  'dap.study.schedule': 'dap.stages.schedule',
  'dap.study.sources': 'dap.stages.code',
  'dap.study.stages': 'dap.study.making.trainings',
  'dap.study.timing': 'dap.study.forecast.timing',
  'dap.study.values': 'dap.stages.values',
  'dap.study.worker': 'dap.stages.worker',
}

# Builders of losses, and the numbers that each took.
_BUILDERS = {
  'ipo': ('beta',), 'ipo_gpo_one': ('beta',), 'ipo_mean': ('beta',),
  'ipo_azar': ('tau',), 'dpo': ('beta',), 'cdpo': ('beta', 'label_smoothing'),
  'hinge': ('beta',), 'exponential': ('beta',), 'savage': ('beta',),
  'truncated_quadratic': ('beta',), 'best_of_two': (),
}  # fmt: skip


def _loss(name: str, numbers: tuple[str, ...]) -> str:
  given = ', '.join(f"'{number}': 0.1" for number in numbers)
  return (
    f'A loss is its function and its numbers now: @{name}/objectives.Loss(),'
    f' with {name}/objectives.Loss.function = @losses.{name}_loss and'
    f' {name}/objectives.Loss.scalars = {{{given}}}; gin/losses/{name}.gin has'
    ' both.'
  )


# 'module.name' or 'module.name.argument' that is gone, as gin files said it:
# what to write now, a sentence or two.
OBJECTS: dict[str, str] = {
  **{
    f'dap.algorithms.objectives.{name}': _loss(name, numbers)
    for name, numbers in _BUILDERS.items()
  },
  'dap.algorithms.objectives.supervised': 'Write @supervised/objectives.Loss(),'
  ' which gin/losses/supervised.gin binds.',
  'dap.algorithms.objectives.preference_model': 'Write'
  ' @preference_model/objectives.Loss(), which gin/losses/preference_model.gin'
  ' binds.',
  'dap.algorithms.objectives.Loss.objective': 'How a loss sees a batch is its'
  ' view: objectives.Loss.view = @views.pairs, @views.comparisons,'
  ' @views.Tokens(), @views.responses or @views.lists.',
  'dap.algorithms.objectives.Loss.reads_reference': 'Leave it out: a loss that'
  ' has an argument `reference` reads it.',
  'dap.algorithms.samplers.FromDataset': 'Which rows a step has is the source:'
  ' algorithm.Algorithm.source = @sources.FromDataset() with'
  ' `from dap.algorithms import sources`; algorithm.Algorithm.sampler = None'
  ' keeps their responses.',
  'dap.algorithms.samplers.FromPolicy.order': 'Which prompts a step has is the'
  ' source: sources.FromDataset.order.',
  'dap.algorithms.samplers.ShuffledWindows': 'It is'
  ' dap.algorithms.sources.ShuffledWindows now.',
  'dap.algorithms.samplers.ShuffledBatches': 'It is'
  ' dap.algorithms.sources.ShuffledBatches now.',
  'dap.algorithms.algorithm.Algorithm.refresh': 'Each role has a schedule:'
  ' algorithm.Algorithm.behaviour for the policy that is sampled from,'
  ' algorithm.Algorithm.reference, and algorithm.Algorithm.refit for the'
  ' annotator.',
  'dap.algorithms.refresh.EveryStep': 'It is @refresh.Current() now.',
  'dap.models.policy.Policy.config': 'Write policy.Policy.language_model ='
  ' @t5.T5() and t5.T5.config = @t5.T5Config().',
  'dap.models.heads.PointwisePreferenceModel.config': 'Write'
  ' heads.PointwisePreferenceModel.language_model = @t5.T5() and t5.T5.config ='
  ' @t5.T5Config().',
  'dap.models.heads.JointPreferenceModel.config': 'Write'
  ' heads.JointPreferenceModel.language_model = @t5.T5() and t5.T5.config ='
  ' @t5.T5Config().',
}


def words(name: str) -> str:
  """What to write in place of a name that is not there; '' if unknown.

  Args:
    name: in full: module, attributes and perhaps an argument, joined by dots.
      What stands before its dots may be what moved.
  """
  parts = name.split('.')
  for length in range(len(parts), 0, -1):
    known = '.'.join(parts[:length])
    if known in OBJECTS:
      return f' {OBJECTS[known]}'
    if known in MODULES:
      return f' {known} moved to {MODULES[known]}.'
  return ''
