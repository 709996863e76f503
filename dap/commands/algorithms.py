"""Layer 8. `dap algorithms`: what there is, and what sets each apart."""

import json as encoder

from dap import errors
from dap.commands import (
  described,
  experiments,
  nearest,
  pages,
  survey,
)


def tell(name: str = '', json: bool = False, dry_run: bool = False) -> None:
  """Prints the table of all algorithms, or the page of one.

  Args:
    name: of an experiment of configs/embedded; all when empty.
    json: one document for programs, instead of text.
    dry_run: the same: nothing is written.

  Raises:
    errors.InputError: there is no algorithm of that name.
  """
  del dry_run
  known = experiments.names()
  if name and name not in known:
    raise errors.InputError(
      f'there is no algorithm `{name}`.{nearest.hint(name, known)} All: dap'
      ' algorithms'
    )
  read = [experiments.read(each) for each in ([name] if name else known)]
  artefacts = [each.name for each in read if each.from_nothing]
  if name and artefacts:
    raise errors.InputError(
      f'`{name}` is no algorithm but what algorithms start from. Train it: dap'
      f' train --gin_file={experiments.FOLDER}/{name}.gin'
    )
  found = [described.of(each) for each in read if not each.from_nothing]
  if json:
    print(encoder.dumps(_document(found, artefacts, name), indent=2))
  else:
    print(pages.page(found[0]) if name else pages.overview(found, artefacts))


def _document(
  found: list[described.Description], artefacts: list[str], name: str
) -> dict[str, object]:
  told = [described.as_json(each) for each in found]
  if name:
    return told[0]
  return {
    'algorithms': told,
    'artefacts': artefacts,
    'survey': {
      'columns': survey.COLUMNS,
      'rows': [row._asdict() for row in survey.ROWS],
    },
  }
