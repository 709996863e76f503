"""Layer 0. The caller's mistakes, told apart from our own."""


class InputError(ValueError):
  """Bad input: the message says what is needed, what came, and what to do.

  The command line prints the message alone and exits with code 2.
  """
