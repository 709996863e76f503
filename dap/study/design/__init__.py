"""Layer 7. What a study is: its fixed models, experiments, arms and grids."""

from dap.study.design.study import Study, check_seeds, evaluated_steps

__all__ = ['Study', 'check_seeds', 'evaluated_steps']
