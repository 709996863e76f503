"""What small runs compute, as named arrays: the golden bytes of the project.

  python tests/golden.py OUTPUT.npz [trainings study text]

Names are those of version 0.3.0, which wrote tests/fixtures/golden: `observe`
maps what today's records call them. `benchmarks/golden.py` calls this file in
two checkouts and compares.
"""

import contextlib
import dataclasses
import hashlib
import io
import json
import os
import pathlib
import re
import sys
import tempfile

import jax
import jaxlib
import numpy as np
import tiny
import tiny_commands
import tiny_study

from dap import files, losses, train
from dap.algorithms import algorithm, refresh, sources, views
from dap.algorithms.objectives import Loss
from dap.data import arrays, corpus_text, vocabulary
from dap.training import stacks, stream

XLA_FLAGS = '--xla_force_host_platform_device_count=4'  # as it was recorded
STALE = dataclasses.replace(tiny.ONLINE, behaviour=refresh.Every(4))
REPLAY = dataclasses.replace(
  tiny.OFFLINE, source=sources.FromDataset(arrays.in_order)
)
SUPERVISED = algorithm.Algorithm(
  Loss(losses.supervised_loss, view=views.Tokens())
)
PREFERENCE_MODEL = algorithm.Algorithm(
  Loss(losses.pairwise_preference_loss, view=views.comparisons)
)
COLUMNS = (
  'step', 'row', 'prompt_id', 'policy_step', 'seed', 'prompt', 'chosen',
  'rejected', 'reference_chosen', 'reference_rejected', 'p_ab', 'p_ba',
  'first_is_chosen', 'tie', 'weight',
)  # fmt: skip
# Of runs.jsonl: all that a study finds out, no names of files.
POINT = (
  'run', 'algorithm', 'seed', 'step', 'lr', 'beta', 'kl_nats', 'kl_sem',
  'win_rate', 'win_rate_low', 'win_rate_high', 'proxy_win_rate',
  'hidden_utility', 'classification_accuracy', 'held_out_accuracy',
  'chosen_log_ratio', 'rejected_log_ratio', 'response_length',
  'truncated_fraction', 'train_flops', 'sampled_tokens',
)  # fmt: skip


def machine(xla_flags: str | None = None) -> str:
  """What decides the bits of a float: jaxlib, processor, threads, flags."""
  if xla_flags is None:
    xla_flags = os.environ.get('XLA_FLAGS', '')
  info = pathlib.Path('/proc/cpuinfo')
  flags = ''
  if info.exists():
    lines = info.read_text().splitlines()
    flags = next((x for x in lines if x.startswith(('flags', 'Features'))), '')
  features = ' '.join(sorted(flags.partition(':')[2].split()))
  threads = len(os.sched_getaffinity(0)) if flags else os.cpu_count()
  name = hashlib.sha256(features.encode()).hexdigest()[:12]
  xla = ' '.join(sorted(xla_flags.split()))
  return f'jaxlib {jaxlib.__version__}, {name}, {threads} threads, {xla}'


def observe(folder: pathlib.Path, parts=()) -> dict[str, np.ndarray]:
  """Parameters, metrics, streams, points, verdicts and text, by name."""
  found = {}
  for part in parts or PARTS:
    found |= PARTS[part](folder / part)
  return found


def trainings(folder: pathlib.Path) -> dict[str, np.ndarray]:
  start = tiny.POLICY.init(jax.random.key(1))
  params = train.Params(start, start, tiny.JUDGE.init(jax.random.key(2)))
  pairs = tiny.pairs()
  found = {}
  for name, model, which in (
    ('offline', tiny.POLICY, tiny.OFFLINE),
    ('online', tiny.POLICY, tiny.ONLINE),
    ('stale', tiny.POLICY, STALE),
    ('supervised', tiny.POLICY, SUPERVISED),
    ('preference_model', tiny.JUDGE, PREFERENCE_MODEL),
  ):
    run = tiny.run(which, model, log_every=1)
    given = params if model == tiny.POLICY else train.Params(params.annotator)
    state = train.fit(run, pairs, given, folder / name, record_stream=True)
    found |= _run(name, folder / name, state.params)
  replay = tiny.run(REPLAY, log_every=1)
  recorded = stream.read(folder / 'online' / 'stream')
  state = train.fit(replay, recorded, params, folder / 'replay')
  found |= _run('replay', folder / 'replay', state.params)
  for kind, which in (('offline', tiny.OFFLINE), ('online', tiny.ONLINE)):
    runs = {
      f'{rate}_{beta}': tiny.run(
        dataclasses.replace(which, loss=tiny.ipo(beta)),
        learning_rate=rate, num_steps=8, log_every=1,
      )
      for rate, beta in ((1e-3, 0.1), (2e-3, 0.7))
    }  # fmt: skip
    place = folder / f'group_{kind}'
    stack = stacks.fit(runs, pairs, params, place, record_stream=True)
    for index, member in enumerate(runs):
      own = jax.tree.map(lambda leaf, index=index: leaf[index], stack.params)
      found |= _run(f'group_{kind}/{member}', place / member, own)
  return found


def _run(name: str, folder: pathlib.Path, params) -> dict[str, np.ndarray]:
  found = {
    f'{name}/params{jax.tree_util.keystr(path)}': np.asarray(leaf)
    for path, leaf in jax.tree_util.tree_leaves_with_path(params)
  }
  lines = files.read_json_lines(folder / 'metrics.jsonl')
  for key in sorted(lines[0]):
    found[f'{name}/metrics/{key}'] = np.array([line[key] for line in lines])
  if (folder / 'stream').exists():
    rows = stream.read_rows(folder / 'stream')
    old = of_0_3_0(rows)
    found |= {f'{name}/stream/{key}': old[key] for key in COLUMNS}
  return found


def of_0_3_0(rows: np.ndarray) -> dict[str, np.ndarray]:
  """The columns of a stream of pairs as version 0.3.0 had them.

  Its annotator's answers lay in the order of drawing. Its `policy_step` was the
  step itself, even under a refresh every K steps, which was wrong.
  """
  first = rows['candidates'][:, 0] == 0
  chosen, rejected = rows['scores'].T
  p_ab = np.where(first, chosen, rejected)
  p_ba = np.where(first, rejected, chosen)
  return {
    **{key: rows[key] for key in rows.dtype.names},
    'policy_step': rows['step'],
    'p_ab': p_ab,
    'p_ba': p_ba,
    'first_is_chosen': first.astype(np.float32),
    'tie': (p_ab == p_ba).astype(np.float32),
  }


def study(folder: pathlib.Path) -> dict[str, np.ndarray]:
  with contextlib.redirect_stdout(io.StringIO()):
    from dap import main

    # 0.3.0 let a policy say all 300 rows: here each of them is a word.
    words = f'--gin.vocabulary.Words.words={padded_words(300)!r}'
    part = '--gin_file=tests/fixtures/golden/words.gin'
    main.main(tiny_study.argv(folder, part, words))
  lines = tiny_study.lines(folder)
  for line in lines:  # 0.3.0 knew one number of a loss
    line['beta'] = line.pop('scalars').get('beta')
  found = {
    f'points/{name}': np.array(
      [np.nan if line[name] is None else line[name] for line in lines]
    )
    for name in POINT
  }
  verdicts = json.loads((folder / 'verdicts.json').read_text())
  found |= {
    f'verdicts/{place}': np.array(value)
    for place, value in _leaves(verdicts)
    if isinstance(value, str | float | int)
  }
  return found


def padded_words(num_ids: int) -> tuple[str, ...]:
  """The words of the embedded corpus and, up to `num_ids`, some of no text."""
  words = corpus_text.WORDS
  count = num_ids - vocabulary.NUM_SPECIAL - len(words)
  return (*words, *(f'unused{i}' for i in range(count)))


def _leaves(tree, place=''):
  """The numbers and words of JSON, by where they stand."""
  if isinstance(tree, dict):
    for key in sorted(tree):
      yield from _leaves(tree[key], f'{place}.{key}')
  elif isinstance(tree, list):
    for index, item in enumerate(tree):
      yield from _leaves(item, f'{place}[{index}]')
  else:
    yield place, tree


def text(folder: pathlib.Path) -> dict[str, np.ndarray]:
  told = io.StringIO()
  with contextlib.redirect_stdout(io.StringIO()):
    tiny_commands.dap('train', 'sft', folder / 'sft')
    tiny_commands.dap('train', 'preference_model', folder / 'judge')
    tiny_commands.dap(
      'train', 'online_ipo', folder / 'ipo', *tiny_commands.starts(folder)
    )
  with contextlib.redirect_stdout(told):
    tiny_commands.dap('sample', 'online_ipo', folder / 'ipo')
  return {'sample/text': np.array(told.getvalue())}


PARTS = {'trainings': trainings, 'study': study, 'text': text}


def sha256(array: np.ndarray) -> str:
  """Of dtype, shape and bytes."""
  head = f'{array.dtype.str} {array.shape}'.encode()
  return hashlib.sha256(
    head + np.ascontiguousarray(array).tobytes()
  ).hexdigest()


def hashes(found: dict[str, np.ndarray]) -> dict[str, str]:
  """One SHA-256 for the arrays of a run's parameters, metrics, stream, ..."""
  groups: dict[str, list[str]] = {}
  for name in sorted(found):
    group = re.match(r'(.*?/(?:params|metrics|stream)|[^/]*)', name).group()
    groups.setdefault(group, []).append(f'{name} {sha256(found[name])}')
  return {
    group: hashlib.sha256('\n'.join(each).encode()).hexdigest()
    for group, each in groups.items()
  }


# Sentences, with numbers that another machine may round otherwise.
_DETAIL = re.compile(r'^verdicts/.*\.detail$')


def differences(
  before: dict[str, np.ndarray], after: dict[str, np.ndarray], exact: bool
) -> list[str]:
  """A line for each array that is not what it was.

  Args:
    before: as of `observe`.
    after: the same, of other code.
    exact: bytes must be equal; else integers and words are, and floats to
      5e-5 (relative beyond 1), but for accuracies: a policy that is still its
      reference prefers by rounding, so that they may differ by an example.
  """
  before, after = ({n: v for n, v in each.items() if not _DETAIL.search(n)}
                   for each in (before, after))  # fmt: skip
  told = [f'{name}: only in one' for name in sorted({*before} ^ {*after})]
  for name in sorted({*before} & {*after}):
    old, new = before[name], after[name]
    of_verdict = name.startswith('verdicts/')  # recorded anew on one machine
    if old.dtype != new.dtype or old.shape != new.shape:
      told.append(f'{name}: {old.dtype}{old.shape} to {new.dtype}{new.shape}')
    elif (exact and not of_verdict) or old.dtype.kind != 'f':
      if sha256(old) != sha256(new):
        told.append(f'{name}: other bytes{_farthest(old, new)}')
    elif not np.allclose(new, old, 5e-5, _allowed(name), equal_nan=True):
      told.append(f'{name}: beyond {_allowed(name):g}{_farthest(old, new)}')
  return told


def _allowed(name: str) -> float:
  """How far machines may lie from each other; a batch has 8 examples."""
  return 1 / 8 if name.endswith('metrics/accuracy') else 5e-5


def _farthest(old: np.ndarray, new: np.ndarray) -> str:
  if old.dtype.kind not in 'fiu' or not old.size:
    return f', {str(old)[:80]!r} to {str(new)[:80]!r}'
  far = np.nanmax(np.abs(old.astype(float) - new.astype(float)))
  return f', farthest {far:.3g}'


def write(path: pathlib.Path, found: dict[str, np.ndarray]) -> None:
  """One .npz and beside it hashes.json, under this machine's name."""
  np.savez_compressed(path, **found)
  place = path.with_suffix('.json')
  known = json.loads(place.read_text()) if place.exists() else {}
  known[machine()] = hashes(found)
  place.write_text(json.dumps(known, indent=1, sort_keys=True) + '\n')


if __name__ == '__main__':
  with tempfile.TemporaryDirectory() as scratch:
    found = observe(pathlib.Path(scratch), sys.argv[2:])
    write(pathlib.Path(sys.argv[1]), found)
