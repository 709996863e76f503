"""Layer 7. The setting of a run of a grid: its rate, and numbers of its loss.

`(5e-4, 0.05)` gives them in the order of the arm's names of them, and None
leaves a number as the loss has it; `(5e-4, {'tau': 0.1})` gives them by name.
"""

from collections.abc import Mapping, Sequence

from dap import errors

Named = tuple[tuple[str, float], ...]
# (learning rate, *numbers), or (learning rate, numbers by name), which are
# pairs once the setting is frozen.
Setting = tuple[float | Named | Mapping[str, float] | None, ...]


def frozen(value: object, whose: str) -> Setting:
  """A setting as a value: names come as sorted pairs.

  Raises:
    InputError: it is none; the message begins with `whose`.
  """
  given = tuple(value) if isinstance(value, list | tuple) else ()
  rate, *rest = given or (None,)
  named = _named(rest[0]) if len(rest) == 1 else None
  if _is_number(rate) and named is not None:
    return (rate, named)
  if _is_number(rate) and all(x is None or _is_number(x) for x in rest):
    return given
  raise errors.InputError(
    f'{whose} needs (learning rate, *numbers of the loss) of a run, such as'
    f" (5e-4, 0.05) or (5e-4, {{'beta': 0.05}}), got {value!r}."
  )


def numbers(setting: Setting, names: Sequence[str]) -> dict[str, float]:
  """The numbers that a setting gives, by name.

  Args:
    setting: frozen.
    names: of its numbers, in their order.

  Raises:
    InputError: more numbers than names.
  """
  rest = setting[1:]
  if rest and isinstance(rest[0], tuple):
    return dict(rest[0])
  given = [
    (place, x) for place, x in enumerate(rest) if isinstance(x, int | float)
  ]
  if given and given[-1][0] >= len(names):
    raise errors.InputError(
      f'{len(rest)} numbers beside the learning rate in {setting}, and names of'
      f' {len(names)}: {", ".join(names) or "none"}. Leave the others out, or'
      ' give them by name.'
    )
  return {names[place]: x for place, x in given}


def run_name(arm: str, setting: Setting, names: Sequence[str]) -> str:
  """Such as 'online_ipo_lr0.0005_beta0.03'."""
  given = numbers(setting, names)
  ordered = [name for name in names if name in given]
  ordered += [name for name in given if name not in names]
  parts = ''.join(f'_{name}{given[name]:g}' for name in ordered)
  return f'{arm}_lr{setting[0]:g}{parts}'


def fits(
  setting: Setting, learning_rate: float | None, scalars: Mapping[str, float]
) -> bool:
  """Whether a run may have a setting; None in it fits any number.

  Args:
    setting: frozen.
    learning_rate: of the run.
    scalars: of the run, those of its grid first.
  """
  try:
    given = numbers(setting, list(scalars))
  except errors.InputError:
    return False
  return setting[0] == learning_rate and all(
    scalars.get(name) == value for name, value in given.items()
  )


def _named(value: object) -> Named | None:
  """Sorted pairs, of a mapping or of pairs."""
  if isinstance(value, Mapping):
    value = tuple(value.items())
  if not isinstance(value, tuple | list):
    return None
  pairs = [tuple(pair) for pair in value if isinstance(pair, tuple | list)]
  found = sorted((name, x) for name, x in pairs if isinstance(name, str))
  whole = len(found) == len(value) and all(_is_number(x) for _, x in found)
  return tuple(found) if whole else None


def _is_number(value: object) -> bool:
  return isinstance(value, int | float) and not isinstance(value, bool)
