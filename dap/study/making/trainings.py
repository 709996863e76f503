"""Layer 7. The stages of the study that train (spec 4.1), one function each.

A stage function takes its configuration, the folders of the stages it reads,
and a folder to work in; it leaves files there and nothing anywhere else.
"""

import dataclasses
from pathlib import Path

import jax
import numpy as np

from dap import errors, estimators, files, partitioning
from dap.algorithms.run import Run
from dap.checkpoints import load
from dap.data import datasets, sources
from dap.data import pairs as pairs_lib
from dap.data import vocabulary as vocabulary_lib
from dap.data.prepared import Prepared
from dap.evaluation import points
from dap.models.protocols import Comparer
from dap.models.trained import (
  Policy,
  Trained,
  comparer_of,
  policy_of,
)
from dap.records import PADDING
from dap.stages import values
from dap.study.making import baselines
from dap.study.making.stage_folders import (
  TEST_PROMPTS,
  Folders,
  load_params,
  load_splits,
  policy_inputs,
)
from dap.training import collectors, loop
from dap.training.programs import Params

_ORDER = 29  # of the random numbers that mix D_golden


@dataclasses.dataclass(frozen=True)
class Preparing:
  """The data of a seed, and the size that every model's embedding has."""

  data: datasets.PairData
  vocab_size: int


@dataclasses.dataclass(frozen=True)
class Training:
  """A training stage: the run, and what it is trained on.

  Attributes:
    run: all choices that change numbers.
    splits: of the data stage, joined; or names of a relabelled set.
    record_stream: keep every on-policy batch.
    start: parameters that a supervised training starts from; drawn anew when
      None.
    num_pairs: from the start of a supervised training's pairs; all when None.
    from_step: checkpoint of the policy that it starts from; the newest when
      None.
    mesh: devices along (data, model), as of all stages.
  """

  run: Run
  splits: tuple[str, ...] = ('train',)
  record_stream: bool = False
  start: load.Checkpoint | None = None
  num_pairs: int | None = None
  from_step: int | None = None
  mesh: tuple[int, int] = (1, 1)


@dataclasses.dataclass(frozen=True)
class Relabelling:
  """D_golden: the first pairs of `train` under the golden model's labels.

  And of a panel's, in one random order with them.

  Attributes:
    model: the golden preference model; where others relabel nothing, theirs.
    num_pairs: taken from the start of `train`; all of them when there are
      fewer.
    num_panel_pairs: likewise of the panel's.
    batch_size: rows of one program call.
    mesh: of devices.
  """

  model: Trained
  num_pairs: int
  num_panel_pairs: int = 0
  batch_size: int = 128
  mesh: tuple[int, int] = (1, 1)


@dataclasses.dataclass(frozen=True)
class Sampling:
  """Pairs of responses that two checkpoints write.

  Attributes:
    policy: the model of both.
    golden: the golden preference model.
    evaluation: batch size, seed and how tokens are drawn.
    length: most tokens of a response.
    sides: for each side the input with its run, and the checkpoint's step; the
      newest when None.
    mesh: of devices.
  """

  policy: Policy
  golden: Comparer
  evaluation: points.Evaluation
  length: int
  sides: tuple[tuple[str, int | None], ...]
  mesh: tuple[int, int] = (1, 1)


def prepare(config: Preparing, inputs: Folders, work: Path) -> None:
  """Tokenises all splits, and measures the data by simple baselines."""
  del inputs
  data = config.data
  vocabulary = data.trained_vocabulary(work)
  vocabulary_lib.fits(vocabulary, config.vocab_size)
  asked = data.vocabulary.size
  if vocabulary.size < asked:
    raise errors.InputError(
      f'The policies of a study say all of {asked} ids, and the training texts'
      f' give a vocabulary of {vocabulary.size}: the others would stand in no'
      f' text. Bind VOCABULARY_SIZE={vocabulary.size}.'
    )
  reports, counts, splits = {}, {}, {}
  for split in sources.SPLITS:
    prepared = data.prepare(split, vocabulary, work / 'arrays')
    reports[split], counts[split] = prepared.report, prepared.counts
    if not len(prepared):
      continue
    splits[split] = prepared.pairs(TEST_PROMPTS if split == 'test' else 0)
    splits[split].save(work / f'{split}.npz')
    _keep_truth(prepared, split, work)
  missing = [split for split in ('train', 'test') if split not in splits]
  if missing:
    raise errors.InputError(
      f'A study needs pairs to train on and held-out pairs; there are none for'
      f' {" and ".join(missing)}. Give the files TRAIN_FILE and TEST_FILE.'
    )
  summary = {
    'reports': reports,
    'counts': counts,
    'baselines': baselines.measure(splits['train'], splits['test']),
  }
  files.write_json(work / 'summary.json', summary)


def _keep_truth(split: Prepared, name: str, work: Path) -> None:
  """Of rows that say how good responses are: the gaps, and the prompts."""
  rows = list(split.rows())
  if 'chosen_utility' not in rows[0]:
    return
  truth = [r['chosen_utility'] - r['rejected_utility'] for r in rows]
  np.save(work / f'{name}_truth.npy', truth)
  texts = dict(zip(split.prompt_ids.tolist(), (r['prompt'] for r in rows)))
  prompts = [texts[number] for number in range(len(texts))]
  files.write_json(work / f'{name}_prompts.json', prompts)


def supervised(config: Training, inputs: Folders, work: Path) -> None:
  """Trains without a reference: golden model, SFT policy, proxy model."""
  run, mesh = config.run, partitioning.mesh(config.mesh)
  pairs = load_splits(inputs['data'], config.splits)
  pairs = pairs.take(slice(0, config.num_pairs))
  if 'panel' in inputs:
    more = load_splits(inputs['panel'], ('train',))
    pairs = pairs_lib.concatenate(pairs, more)
  if config.start is None:
    initial = run.model.shared.init(jax.random.key(run.seed))
  else:
    initial = config.start.load(run.model, mesh, seed=run.seed)
  loop.fit(
    run,
    pairs,
    Params(initial),
    work,
    mesh=mesh,
    digest=values.digest(config),
    label=work.name.split('-')[0],
  )


def relabel(config: Relabelling, inputs: Folders, work: Path) -> None:
  """B: pairs under the golden model's labels, ties dropped and counted."""
  params = load_params(config.model, inputs['golden'], mesh=config.mesh)
  judge = points.Judge(comparer_of(config.model), params)
  summary = {}
  for split in ('train', 'test'):
    pairs = load_splits(inputs['data'], (split,))
    if split == 'train':
      pairs = pairs.take(slice(0, config.num_pairs))
    own = len(pairs)
    if split == 'train' and config.num_panel_pairs:
      more = load_splits(inputs['panel'], ('train',))
      more = more.take(slice(0, config.num_panel_pairs))
      pairs = pairs_lib.concatenate(pairs, more)
    asked = points.preferences(
      judge,
      pairs.prompts,
      pairs.chosen,
      pairs.rejected,
      config.batch_size,
      partitioning.mesh(config.mesh),
    )
    labelled = points.golden_pairs(pairs, asked, f'pairs of the {split} split')
    if len(pairs) > own:
      order = np.random.default_rng([own, _ORDER]).permutation(len(labelled))
      labelled = labelled.take(order)
    wins = estimators.sign_rule_wins(*asked)
    summary[split] = {
      'pairs': len(pairs),
      'ties': int(np.sum(wins == 0.5)),
      'agrees_with_labels': baselines.proportion(wins),
      'choose_longer': baselines.proportion(baselines.longer(pairs)),
    }
    truth = inputs['data'] / f'{split}_truth.npy'
    if truth.exists():
      prefers = np.load(truth)[:own]
      right = estimators.margin_wins(prefers * (wins[:own] - 0.5))
      summary[split]['agrees_with_truth'] = baselines.proportion(right)
    labelled.save(work / f'{split}.npz')
  files.write_json(work / 'summary.json', summary)


def preference_accuracy(
  config: Relabelling, inputs: Folders, work: Path
) -> None:
  """Held-out accuracy of a preference model on a data folder's test split."""
  params = load_params(config.model, inputs['model'], mesh=config.mesh)
  pairs = load_splits(inputs['data'], ('test',))
  wins = estimators.sign_rule_wins(
    *points.preferences(
      points.Judge(comparer_of(config.model), params),
      pairs.prompts,
      pairs.chosen,
      pairs.rejected,
      config.batch_size,
      partitioning.mesh(config.mesh),
    )
  )
  files.write_json(work / 'summary.json', baselines.proportion(wins))


def held_out_loss(config: Relabelling, inputs: Folders, work: Path) -> None:
  """Nats per token of the held-out responses under a policy."""
  mesh = partitioning.mesh(config.mesh)
  params = load_params(config.model, inputs['model'], mesh=config.mesh)
  pairs = load_splits(inputs['data'], ('test',))
  scored = collectors.with_reference(
    policy_of(config.model), pairs, params, mesh, config.batch_size
  )
  total = -sum(np.sum(side) for side in scored.reference)
  tokens = np.sum(pairs.chosen > PADDING) + np.sum(pairs.rejected > PADDING)
  summary = {'loss': float(total / tokens), 'tokens': int(tokens)}
  files.write_json(work / 'summary.json', summary)


def policy_run(config: Training, inputs: Folders, work: Path) -> None:
  """E, F, G, H: a policy from the SFT policy, which stays its reference."""
  pairs, params = policy_inputs(config, inputs)
  loop.fit(
    config.run,
    pairs,
    params,
    work,
    mesh=partitioning.mesh(config.mesh),
    digest=values.digest(config),
    record_stream=config.record_stream,
    label=work.name.split('-')[0],
  )


def sample_pairs(config: Sampling, inputs: Folders, work: Path) -> None:
  """Two policies' responses to the prompts of D_golden, golden labels.

  Both sides are fresh samples, also where one policy writes both; pairs that
  the golden model calls equal are dropped and counted.
  """
  settings = config.evaluation
  mesh = partitioning.mesh(config.mesh)
  pairs = load_splits(inputs['pairs'], ('train',))
  asked = points.Questions(
    pairs.prompt_ids.astype(np.int32),
    np.arange(len(pairs), dtype=np.int32),
    pairs.prompts,
  )
  sides = []
  for slot, (name, step) in enumerate(config.sides, start=3):
    params = load_params(config.policy, inputs[name], step, config.mesh)
    sides.append(
      points.answers(
        config.policy, params, asked, config.length, settings, mesh, slot=slot
      )
    )
  golden = load_params(config.golden, inputs['golden'], mesh=config.mesh)
  first, second = sides
  asked = points.preferences(
    points.Judge(config.golden, golden),
    pairs.prompts,
    first,
    second,
    settings.batch_size,
    mesh,
  )
  wins = estimators.sign_rule_wins(*asked)
  sampled = dataclasses.replace(
    pairs, chosen=first, rejected=second, weight=None
  )
  labelled = points.golden_pairs(sampled, asked, 'pairs of two policies')
  labelled.save(work / 'train.npz')
  summary = {
    'pairs': len(pairs),
    'ties': int(np.sum(wins == 0.5)),
    'first_wins': baselines.proportion(wins),
  }
  files.write_json(work / 'summary.json', summary)
