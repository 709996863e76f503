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

# 'module.name' or 'module.name.argument' that is gone, as gin files said it:
# what to write now, a sentence or two.
OBJECTS: dict[str, str] = {}


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
