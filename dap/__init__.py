"""Direct alignment from preferences: a controlled study, in JAX."""

__version__ = '0.5.0'
