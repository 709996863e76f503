"""Packaging of `dap`; versions that work together are in requirements.lock."""

import pathlib

from setuptools import find_packages, setup

HERE = pathlib.Path(__file__).parent
VERSION = next(
  line.split("'")[1]
  for line in (HERE / 'dap' / '__init__.py').read_text().splitlines()
  if line.startswith('__version__')
)

# gin/ and configs/ are data. They are installed inside dap, because a top-level
# `gin` would hide the gin library; for the same reason no gin/__init__.py.
README = HERE / 'README.md'

setup(
  name='dap',
  version=VERSION,
  description='Direct alignment from preferences: a controlled study, in JAX.',
  long_description=README.read_text() if README.exists() else '',
  long_description_content_type='text/markdown',
  license='Apache-2.0',
  python_requires='>=3.11',
  packages=[
    *find_packages(include=['dap', 'dap.*']),
    'dap.gin',
    'dap.configs',
  ],
  package_dir={'dap.gin': 'gin', 'dap.configs': 'configs'},
  package_data={
    'dap.gin': ['**/*.gin'],
    'dap.configs': ['**/*.gin'],
    'dap.study.report.pages': ['*.css', '*.html', '*.js'],
  },
  install_requires=[
    'etils[epath]>=1.13',
    'flax>=0.12,<0.13',
    'gin-config>=0.5,<0.6',
    'jax>=0.10,<0.13',
    'jaxtyping>=0.3',
    'matplotlib>=3.9',
    'numpy>=2.1',
    'optax>=0.2.6,<0.3',
    'orbax-checkpoint>=0.12,<0.13',
    'plotly>=7,<8',
    'rich>=13.7',
    'safetensors>=0.6.1',
    'scipy>=1.14',
    'sentencepiece>=0.2',
    'tensorstore>=0.1.71',
    'tensorboardX>=2.6.2',
  ],
  extras_require={
    'gpu': ['jax[cuda12]'],
    'tpu': ['jax[tpu]; sys_platform == "linux"'],
    # The only way to tensorflow (2 GB): seqio Tasks and TFDS builders.
    'seqio': [
      'seqio>=0.0.19',
      'tensorflow-datasets>=4.9.7',
      'importlib_resources>=6',  # TFDS imports it and does not ask for it
    ],
    # What T5X, airio and jestimator import; launch/install_t5x.sh adds those
    # three, which are not on the package registry (its t5x is a dummy).
    't5x': [
      'seqio>=0.0.19',
      'tensorflow-datasets>=4.9.7',
      'importlib_resources>=6',
      'absl-py>=2',
      'cached-property>=1.5',
      'clu>=0.0.12',
      'fiddle>=0.3',
      'grain>=0.2.12',
      'tensorboard>=2.18',
    ],
    'huggingface': ['datasets>=4', 'huggingface-hub>=1'],
    'gcs': ['gcsfs>=2025.1'],  # gs:// where tensorflow is not installed
    # What tests of parity compare with; they are skipped without it.
    'parity': ['torch>=2.6', 'transformers>=5'],
    'test': [
      'beartype>=0.19',
      'gcsfs>=2025.1',
      'hypothesis>=6.100',
      'ipykernel>=6.29',  # these three execute notebooks/
      'nbclient>=0.10',
      'nbformat>=5.10',
      'playwright>=1.50',  # drives a browser; browsers it does not bring
      'pyright[nodejs]>=1.1.390',
      'pytest>=8',
      'pytest-xdist>=3.6',
      'ruff>=0.9',
    ],
  },
  entry_points={'console_scripts': ['dap = dap.main:main']},
)
