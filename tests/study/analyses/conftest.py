"""Fewer draws: these tests ask on which side a verdict falls."""

import pytest

from dap.study.analyses import comparisons
from dap.study.reading import frontiers


@pytest.fixture(autouse=True)
def few_draws(monkeypatch):
  monkeypatch.setattr(comparisons, 'RESAMPLES', 1000)
  monkeypatch.setattr(comparisons, 'FEWER', 200)
  monkeypatch.setattr(frontiers, 'RESAMPLES', 200)
