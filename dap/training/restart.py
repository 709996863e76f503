"""Layer 5. Where a restart goes on from, and what it reads there.

It goes on from the newest checkpoint that is whole, and reads the parameters
and a tree of arrays. Their names stay the same whatever the algorithm:
`updates`, `optimizer`, `step`, `rest` (parameters that others do not read),
`behaviour`, `reference` and `annotator` where their schedule made them,
`pending` where a draw was dispatched ahead.
"""

import pathlib
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import PyTree

from dap import errors, progress, seals
from dap.algorithms.algorithm import Algorithm
from dap.checkpoints import metadata, points
from dap.checkpoints import state as checkpoints
from dap.models.trained import Trained
from dap.records import (
  Batch,
  Collected,
  Drawn,
  Learner,
  Prompts,
  Responses,
  Role,
  Roles,
  State,
)
from dap.stages import provenance

Tree = dict[str, PyTree]


class Template(NamedTuple):
  """Shapes, dtypes and shardings of what a restart reads.

  Attributes:
    learner: before its first update.
    examples: where rows lie.
    roles: as the run starts; those that the run makes itself are read.
    ahead: whether draws are dispatched ahead of their step.
  """

  learner: Learner
  examples: jax.sharding.Sharding
  roles: Roles
  ahead: bool = False


def go_on(
  root: pathlib.Path, digest: str, read: Callable[[pathlib.Path], State]
) -> tuple[pathlib.Path, State] | None:
  """The newest checkpoint that is whole, and what it holds; None when none.

  One that is not is told and passed over: what follows the older one is trained
  again, with the same bits.

  Args:
    root: folder of the checkpoints.
    digest: names the configuration.
    read: the state of a checkpoint; raises `seals.Broken` where it, or what the
      training had written by then, is damaged.

  Raises:
    errors.InputError: another configuration wrote it, or none is whole.
  """
  points.sweep(root)
  damage: list[str] = []
  for folder in points.restartable(root):
    try:
      _check_digest(folder, digest)
      state = read(folder)
    except seals.Broken as error:
      damage.append(str(error))
      continue
    for each in damage:
      progress.say(f'{each} Going on from {folder.name}.')
    made = metadata.read(folder).get('made', {})
    if changes := provenance.changed(made):
      progress.say(
        f'{folder.name} was written elsewhere ({"; ".join(changes)}): what'
        ' follows may have other last bits than there.'
      )
    return folder, state
  if damage:
    raise errors.InputError(
      'No checkpoint is whole that this training could go on from:\n'
      + '\n'.join(damage)
      + f'\nRemove {root.parent} to train from the start.'
    )
  if points.steps(root):
    progress.say(
      f'{root} has checkpoints without what a restart needs: the training'
      ' begins at step 0.'
    )
  return None


def _check_digest(folder: pathlib.Path, digest: str) -> None:
  written = metadata.read(folder)['digest']
  if written != digest:
    raise errors.InputError(
      f'{folder.parents[1]} holds the run of another configuration (digest'
      f' {written}, this one {digest}). Give another MODEL_DIR, or remove that'
      ' folder.'
    )


def kept_roles(algorithm: Algorithm) -> tuple[str, ...]:
  """The roles that a run makes, which nobody can give it again."""
  schedules = {
    'behaviour': algorithm.behaviour,
    'reference': algorithm.reference,
    'annotator': algorithm.refit,
  }
  kept = [name for name, each in schedules.items() if each.keeps]
  return (*kept, *(['control'] if algorithm.control is not None else []))


def rest_of(state: State, model: Trained, roles: tuple[str, ...]) -> Tree:
  """All but the shared parameters, which a checkpoint has by themselves."""
  learner = state.learner
  found = {
    'updates': learner.updates,
    'optimizer': learner.optimizer,
    'step': np.asarray(state.step, np.int32),
  }
  rest = model.split(learner.params)[1]
  if jax.tree.leaves(rest):
    found['rest'] = rest
  for name in roles:
    role = getattr(state.roles, name)
    if role.params is not None:
      found[name] = _role_tree(role)
  if state.pending is not None:
    found['pending'] = _pending_tree(state.pending)
  return found


def restore(
  folder: pathlib.Path, model: Trained, template: Template, **more: PyTree
) -> tuple[State, Tree]:
  """The state that `rest_of` described, and `more` by its templates.

  The shared parameters are read from the checkpoint, unless `more` has them as
  `params`.

  Raises:
    errors.InputError: the checkpoint is damaged, or version 0.3 wrote it.
  """
  written = metadata.read(folder)['rest']
  _check(folder, written, template.ahead)
  shared = model.split(template.learner.params)[0]
  wanted = {**_wanted(model, template, written), **more}
  found = checkpoints.restore_rest(folder, wanted)
  params = found.get('params')
  if params is None:
    params = checkpoints.restore_params(folder, shared)
  roles = template.roles._replace(
    **{name: _role(found[name]) for name in Roles._fields if name in found}
  )
  state = State(
    int(found['step']),
    Learner(
      found['updates'],
      model.join(params, found.get('rest', {})),
      found['optimizer'],
    ),
    roles,
    _pending(found['pending']) if 'pending' in found else None,
  )
  return state, found


def _check(
  folder: pathlib.Path, written: Mapping[str, object], ahead: bool
) -> None:
  """Refuses a restart that this training cannot go on from."""
  if written and 'updates' not in written:
    raise errors.InputError(
      f'{folder} was written by version 0.3, whose trainings cannot be'
      ' continued. Its parameters can be used: give it as'
      ' INITIAL_CHECKPOINT_PATH of a training with another MODEL_DIR, or'
      ' finish it with dap 0.3.'
    )
  drawn, copied = _has(written, 'pending'), _has(written, 'behaviour')
  if (drawn and not ahead) or (copied and ahead):
    raise errors.InputError(
      f'{folder} was written by a training'
      f' {"with" if drawn else "without"} rollouts ahead of their update. Go on'
      f' {"with" if drawn else "without"} gin/rollouts/ahead.gin.'
    )


def _has(written: Mapping[str, object], name: str) -> bool:
  return any(each.startswith(f'{name}/') for each in written)


def _wanted(
  model: Trained, template: Template, written: Mapping[str, metadata.Entry]
) -> Tree:
  """Templates of all that was written but the shared parameters."""
  learner = template.learner
  shared, rest = model.split(learner.params)
  wanted: Tree = {
    'updates': learner.updates,
    'optimizer': learner.optimizer,
    'step': jax.ShapeDtypeStruct((), np.int32),
  }
  if jax.tree.leaves(rest):
    wanted['rest'] = rest
  for name in Roles._fields:
    if _has(written, name):
      own = template.roles.control.params if name == 'control' else shared
      wanted[name] = _role_template(name, own, written)
  if _has(written, 'pending'):
    wanted['pending'] = _pending_template(written, template.examples)
  return wanted


def _role_tree(role: Role) -> Tree:
  tree = {
    'params': role.params,
    'taken_at': np.asarray(role.taken_at, np.int32),
  }
  if role.later:
    tree['later'] = {
      str(n): _role_tree(one) for n, one in enumerate(role.later)
    }
  return tree


def _role_template(
  name: str, params: PyTree, written: Mapping[str, object]
) -> Tree:
  number = jax.ShapeDtypeStruct((), np.int32)
  one = {'params': params, 'taken_at': number}
  start = f'{name}/later/'
  waiting = {
    each[len(start) :].split('/')[0]
    for each in written
    if each.startswith(start)
  }
  return (
    {**one, 'later': dict.fromkeys(sorted(waiting), one)} if waiting else one
  )


def _role(tree: Tree) -> Role:
  later = tree.get('later', {})
  return Role(
    tree['params'],
    int(tree['taken_at']),
    tuple(_role(later[str(number)]) for number in range(len(later))),
  )


def _pending_tree(pending: Collected) -> Tree:
  batch, drawn = pending.batch, pending.drawn
  assert drawn is not None and not batch.columns
  return {
    'step': np.asarray(pending.step, np.int32),
    'policy_step': np.asarray(pending.policy_step, np.int32),
    'prompts': {
      name: leaf
      for name, leaf in batch.prompts._asdict().items()
      if leaf is not None
    },
    'responses': batch.responses._asdict(),
    'scores': batch.scores,
    'weight': batch.weight,
    'drawn': drawn._asdict(),
  }


def _pending_template(
  written: Mapping[str, metadata.Entry], examples: jax.sharding.Sharding
) -> Tree:
  """From what the checkpoint says of itself: the shapes are those of a step."""
  tree: Tree = {}
  for name, array in written.items():
    first, *path = name.split('/')
    if first != 'pending':
      continue
    place = tree
    for part in path[:-1]:
      place = place.setdefault(part, {})
    shape = tuple(array['shape'])
    place[path[-1]] = jax.ShapeDtypeStruct(
      shape, array['dtype'], sharding=examples if shape else None
    )
  return tree


def _pending(tree: Tree) -> Collected:
  batch = Batch(
    Prompts(**tree['prompts']),
    Responses(**tree['responses']),
    tree['scores'],
    tree['weight'],
    {},
  )
  return Collected(
    int(tree['step']), int(tree['policy_step']), batch, Drawn(**tree['drawn'])
  )
