"""Layer 5. Recorded streams as a script or a notebook reads them.

What writes and checks them is in `dap/training/stream.py`.
"""

from dap.training.stream import read, read_rows

__all__ = ['read', 'read_rows']
