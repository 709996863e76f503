"""Layer 5. Training, as scripts and notebooks call it: `train.fit(run, …)`.

The names that gin files and users bind; what they do is in `dap/training`.
"""

from dap.algorithms.run import Run
from dap.training.loop import fit
from dap.training.programs import Params

__all__ = ['Params', 'Run', 'fit']
