"""Layer 8. `python -m dap` is `dap`, with the current folder importable."""

from dap import main

if __name__ == '__main__':
  main.main()
