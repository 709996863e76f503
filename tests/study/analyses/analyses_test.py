import json

import pytest
from study.analyses.synthetic import SETTING

from dap.errors import InputError
from dap.study import analyses
from dap.study.reading.evidence import Analysis


def kind(analysis):
  return type(analysis).__name__


EVERY = (
  analyses.Gap(),
  analyses.Judge(),
  analyses.Coverage(
    'a', 'b', 'c', (('none', 'd'), ('4', 'e'), ('all', 'c')), SETTING
  ),
  analyses.DataQuality('a', 'b'),
  analyses.Classification('a', 'b', 'c', (1e-3, None)),
  analyses.NonContrastive('a', 'b', 'c', ('d', 'e', 'f')),
  analyses.Scaling((('s', 10, 'a', 'b', 'c'), ('l', 40, 'd', 'e', 'f'))),
  analyses.OnPolicyData('a', 'b', 'c', 'd'),
  analyses.Losses((('hinge', 'a', 'b'),)),
  analyses.Staleness('a', 'b', ((4, 'c'),)),
  analyses.Algorithms((('a', 'A', 'F'),), 'a', ('b',), ('a',)),
  analyses.Contrasts(
    'T', 'n', (('a', 'A'), ('b', 'B')), (('N', 'S', 'P', 'a', 'b'),)
  ),
  analyses.BestOfN('a'),
)


@pytest.mark.parametrize(
  'analysis', EVERY, ids=lambda each: type(each).__name__
)
def test_json_keeps_an_analysis(analysis):
  text = json.dumps(analyses.to_json(analysis), allow_nan=False)
  assert analyses.from_json(json.loads(text)) == analysis
  assert isinstance(analysis, Analysis)


def test_every_kind_is_tried():
  assert list(map(kind, EVERY)) == list(analyses.KINDS)


@pytest.mark.parametrize(
  'analysis', EVERY, ids=lambda each: type(each).__name__
)
def test_arms_are_named_once_and_reserved_names_are_none(analysis):
  assert len(set(analysis.arms)) == len(analysis.arms)
  assert not {'sft', 'golden_policy'} & set(analysis.arms)


@pytest.mark.parametrize(
  ('value', 'message'),
  [
    ({'kind': 'Gapp'}, "one of Gap, .*got 'Gapp'"),
    ({}, 'got None'),
    ({'kind': 'Gap', 'betta': 1}, 'Gap needs online, .*got betta'),
    ({'kind': 'Losses', 'pairs': [['hinge']]}, 'Losses needs pairs'),
    ({'kind': 'Gap', 'online': 'Not A Name'}, 'Gap needs names of arms'),
    (
      {'kind': 'Classification', 'online': 'a', 'shuffled': 'b',
       'offline': 'c', 'setting': 'd'},
      'Classification needs',
    ),
  ],
)  # fmt: skip
def test_what_is_no_analysis_is_refused(value, message):
  with pytest.raises(InputError, match=message):
    analyses.from_json(value)
