"""Layer 3. From a checkpoint of one layout to one of another."""

import glob
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
from etils import epath

from dap import disks, files
from dap.checkpoints import (
  hf_reader,
  hf_tokenizer,
  hf_vouch,
  hf_writer,
  layouts,
  metadata,
  state,
  stored,
  t5x_native,
  t5x_orbax,
)
from dap.checkpoints.layouts import Contents
from dap.data import vocabulary as vocabulary_lib
from dap.errors import InputError
from dap.models import dtypes, t5


class Target(NamedTuple):
  """What is to be written, beside the parameters.

  Attributes:
    dtype: of the stored parameters, see `dtypes.name_of`.
    vocabulary: path of a SentencePiece model for the tokenizer of `hf`, or ''.
  """

  dtype: dtypes.Spelling = 'float32'
  vocabulary: str = ''


DEFAULT = Target()


def _write_dap(folder: epath.Path, contents: Contents, target: Target) -> None:
  del target
  cpu = jax.sharding.SingleDeviceSharding(jax.devices('cpu')[0])
  placed = stored.place(contents.parts, dict.fromkeys(contents.parts, cpu))
  tree = stored.nested(placed)
  state.save(
    Path(folder),
    contents.step,
    tree,
    {},
    digest='converted',
    facts=facts_of(contents),
  )


def _write_t5x(folder: epath.Path, contents: Contents, target: Target) -> None:
  t5x_native.write(folder, contents.parts, contents.step, target.dtype)


def _write_orbax(
  folder: epath.Path, contents: Contents, target: Target
) -> None:
  t5x_orbax.write(folder, contents.parts, contents.step, target.dtype)


def _write_hf(folder: epath.Path, contents: Contents, target: Target) -> None:
  tokenizer = _tokenizer(contents, target) if target.vocabulary else {}
  hf_writer.write(
    folder, contents.parts, contents.t5_config(), target.dtype, tokenizer
  )


def _tokenizer(contents: Contents, target: Target) -> dict[str, bytes]:
  return hf_tokenizer.files(
    target.vocabulary, prompts_end=bool(contents.prompts_end)
  )


def facts_of(contents: Contents) -> dict[str, metadata.Json]:
  """What a reader of the written checkpoint must know, see `training.facts`.

  Where `contents` does not say, of the family what is so of it.
  """
  found = dict(contents.facts)
  if 'prompts_end' not in found and contents.prompts_end is not None:
    found['family_prompts_end'] = contents.prompts_end
  if _is_bare(contents):
    found['mlp_activations'] = list(contents.t5_config().mlp_activations)
  return found


Writer = Callable[[epath.Path, Contents, Target], None]
WRITERS: dict[str, Writer] = {
  'dap': _write_dap,
  't5x': _write_t5x,
  't5x_orbax': _write_orbax,
  'hf': _write_hf,
}


def convert(
  source: str, destination: str, to: str, target: Target = DEFAULT
) -> Contents:
  """Writes the parameters of `source` to `destination`, whole or not at all.

  Args:
    source: see `layouts.open_checkpoint`.
    destination: folder that does not exist yet; for `dap` it is the folder of
      a run, in which `checkpoint_<step>` appears.
    to: a key of `WRITERS`.
    target: dtype and vocabulary.

  Returns:
    What `source` holds.

  Raises:
    InputError: the source cannot be read, the target cannot be written, or the
      one does not fit the other.
  """
  contents = layouts.open_checkpoint(source)
  target = target._replace(dtype=_dtype(target))
  folder = check(contents, destination, to, target)
  if '://' in destination:  # what makes it whole is written last
    _write(to, folder, contents, target)
  else:
    _write_aside(Path(folder), to, contents, target)
  return contents


def _write(
  to: str, folder: epath.Path, contents: Contents, target: Target
) -> None:
  if to != 'dap':  # whose metadata has them
    text = json.dumps(facts_of(contents), indent=2) + '\n'
    (folder / layouts.FACTS).write_text(text)
  WRITERS[to](folder, contents, target)


def _write_aside(
  folder: Path, to: str, contents: Contents, target: Target
) -> None:
  aside = folder.with_name(f'.{folder.name}.{os.getpid()}.aside')
  with disks.explained(folder), disks.as_os_error(folder):
    _remove_abandoned(folder)
    try:
      aside.mkdir(parents=True)
      _write(to, epath.Path(aside), contents, target)
      files.publish_folder(aside, folder)
    finally:
      files.remove_folder(aside)


def _remove_abandoned(folder: Path) -> None:
  """What processes left that were killed while they wrote the same folder."""
  for aside in folder.parent.glob(f'.{glob.escape(folder.name)}.*.aside'):
    number = aside.name.split('.')[-2]
    if number.isdecimal() and not _is_running(int(number)):
      files.remove_folder(aside)


def _is_running(process: int) -> bool:
  try:
    os.kill(process, 0)  # sends nothing
  except ProcessLookupError:
    return False
  except PermissionError:
    return True
  return True


def check(
  contents: Contents, destination: str, to: str, target: Target
) -> epath.Path:
  """Refuses before any work what `convert` could not finish.

  Returns:
    The folder that `destination` means.

  Raises:
    InputError: what does not fit.
  """
  if to not in WRITERS:
    raise InputError(f'Layouts are {", ".join(WRITERS)}; got {to}.')
  if _dtype(target) != 'float32' and to == 'dap':
    raise InputError(
      'Checkpoints of dap hold float32, got bfloat16: bind the dtype of the'
      ' model to compute in bfloat16.'
    )
  if target.vocabulary:
    _check_vocabulary(contents, to, target.vocabulary)
  if to == 'hf' and not _is_bare(contents):
    raise InputError(
      f'{contents.path} has parameters beside a T5, such as'
      f' {sorted(contents.parts)[0]}: transformers has no such model. Convert'
      ' a policy, or choose t5x, t5x_orbax or dap.'
    )
  if _is_bare(contents):
    config = contents.t5_config()
    init = lambda key: t5.init_params(config, key)
    shapes = state.names(jax.eval_shape(init, jax.random.key(0)))
    shapes = {name: x.shape for name, x in shapes.items()}
    found = {name: part.shape for name, part in contents.parts.items()}
    stored.check_shapes(found, shapes, contents.path)
  folder = _free(destination, to, contents.path)
  if to in ('t5x', 't5x_orbax'):
    _check_step(folder.name, contents)
  return folder


def _check_step(name: str, contents: Contents) -> None:
  """T5X takes the step from the name of the folder."""
  named = re.fullmatch(r'checkpoint_(\d+)', name)
  if named and int(named.group(1)) != contents.step:
    raise InputError(
      f'{contents.path} is of step {contents.step}, and T5X would take it for'
      f' step {named.group(1)}, by the name of its folder. Name the folder'
      f' checkpoint_{contents.step}.'
    )


def _dtype(target: Target) -> str:
  return dtypes.name_of(target.dtype, 'The dtype of a checkpoint')


def _free(destination: str, to: str, source: epath.Path) -> epath.Path:
  """The folder to write, which is not there yet and not in the source."""
  if destination.startswith(hf_reader.SCHEME):
    raise InputError(
      f'Nothing is written to the hub, got {destination}. Convert to a local'
      ' folder and upload that: hf upload OWNER/NAME FOLDER.'
    )
  folder = layouts.place(destination)
  is_local = '://' not in destination
  if is_local:
    folder = epath.Path(Path(folder).resolve())
  elif to == 'dap':
    raise InputError(
      f'Checkpoints of dap are written to local folders, got {destination}.'
      ' Convert to one and copy it, or convert to t5x.'
    )
  if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
    raise InputError(
      f'{destination} exists already. Give a folder that does not, or remove'
      ' this one.'
    )
  inside = Path(folder).parents if is_local else []
  if is_local and Path(source).resolve() in inside:
    raise InputError(
      f'{destination} lies in the checkpoint {source} itself, which is to stay'
      ' as it is. Give another folder.'
    )
  return folder


def _is_bare(contents: Contents) -> bool:
  """Whether the parameters are those of a T5 and nothing else."""
  roots = {name.partition('/')[0] for name in contents.parts}
  return roots <= {'token_embedder', 'encoder', 'decoder'}


def _check_vocabulary(contents: Contents, to: str, path: str) -> None:
  if to != 'hf':
    raise InputError(
      f'A vocabulary belongs to hf alone, got {path} for {to}. Leave it out.'
    )
  pieces = vocabulary_lib.SentencePiece(path).size
  hf_vouch.vouch(path)
  rows = contents.t5_config().vocab_size
  if pieces > rows:
    raise InputError(
      f'The vocabulary {path} has {pieces} pieces, and the embedding of'
      f' {contents.path} only {rows} rows. Give the vocabulary that the model'
      ' was trained with.'
    )


def layout_of(contents: Contents, to: str, target: Target) -> list[str]:
  """Names of what `convert` would write."""
  if to == 'dap':
    own = 'metadata.json', 'params'
    return [f'checkpoint_{contents.step}/{name}' for name in own]
  if to == 't5x':
    names = t5x_native.layout(contents.parts)
  elif to == 't5x_orbax':
    names = t5x_orbax.layout(contents.parts)
  else:
    tokenizer = hf_tokenizer.FILES if target.vocabulary else ()
    names = hf_writer.layout(contents.parts, target.dtype, tokenizer)
  return [layouts.FACTS, *names]


def notes(contents: Contents, to: str, target: Target) -> list[str]:
  """What a reader of `hf` must know of its tokenizer, in sentences."""
  if to != 'hf':
    return []
  if contents.prompts_end:
    habit = 'ended with the end id, </s>: put it behind them'
  else:
    habit = 'had no end id: put no </s> behind them'
  said = [f'prompts of its training {habit}']
  if not target.vocabulary:
    tokenizer = 'no tokenizer is written: --vocabulary=FILE.model puts one'
    return [*said, f'{tokenizer} beside the weights']
  return [
    f'{said[0]}, as its tokenizer does',
    hf_vouch.vouch(target.vocabulary),
  ]
