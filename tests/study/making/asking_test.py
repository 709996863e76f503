"""Pairs of scouts in the panel's order."""

import dataclasses

import numpy as np
import pytest

from dap import errors
from dap.commands import COMMANDS, run
from dap.study.making import asking


def test_scouts_that_write_alike_are_refused():
  tokens = np.ones((4, 3), np.int32)
  asked = asking.points.Questions(
    np.arange(4), np.zeros(4, np.int32), np.ones((4, 5), np.int32)
  )
  with pytest.raises(errors.InputError, match='differ; the scouts wrote equal'):
    asking._in_order(asked, (tokens, tokens), np.full(4, 0.6))


def test_a_vote_for_the_second_puts_it_first():
  first = np.array([[1, 2], [1, 2], [3, 1]])
  second = np.array([[2, 1], [2, 1], [3, 1]])
  asked = asking.points.Questions(
    np.arange(3), np.zeros(3, np.int32), np.ones((3, 5), np.int32)
  )
  made, equal = asking._in_order(
    asked, (first, second), np.array([0.2, 0.8, 0.6])
  )
  np.testing.assert_array_equal(made.chosen, [second[0], first[1]])
  np.testing.assert_allclose(made.shares, [0.8, 0.8])
  assert equal == 1


def _study(*overrides, others=()):
  return run.configure(
    COMMANDS['study'],
    ['configs/studies/gap.gin', *others],
    [('STUDY_DIR', '"unused"'), *overrides],
    COMMANDS,
  )['study']


def test_data_without_people_are_told():
  study = _study()
  assert study.panel is not None
  assert not asking.left_out(study)
  files = ('TRAIN_FILE', '"a.jsonl"'), ('TEST_FILE', '"b.jsonl"')
  plain = _study(*files, others=['gin/data/jsonl.gin'])
  said = asking.left_out(plain)
  assert said.startswith('No panel: there is nobody to ask')
  assert 'Formatted' in said and 'first 7,600' in said
  assert not asking.left_out(dataclasses.replace(plain, panel=None))
