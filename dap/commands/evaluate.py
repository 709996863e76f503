"""Layer 8. `dap evaluate`: the points of a training run's checkpoints."""

from pathlib import Path

from jax.sharding import Mesh

from dap import files, partitioning, progress, seals
from dap.algorithms import objectives
from dap.algorithms.run import Run
from dap.checkpoints import load
from dap.checkpoints import points as checkpoints
from dap.commands.train import prepared
from dap.data.datasets import PairData
from dap.data.pairs import Pairs
from dap.evaluation import points
from dap.losses.ranges import Size
from dap.models.protocols import Comparer
from dap.models.trained import Policy, policy_of
from dap.stages import provenance
from dap.study.design import grid
from dap.study.making.stage_folders import TEST_PROMPTS
from dap.study.reading import runs
from dap.study.report import report
from dap.training import collectors, facts


def evaluate(
  *,
  model_dir: str,
  run: Run,
  data: PairData,
  golden: Comparer,
  proxy: Comparer,
  reference_checkpoint_path: str,
  golden_checkpoint_path: str,
  proxy_checkpoint_path: str,
  opponent_checkpoint_path: str,
  evaluation: points.Evaluation = points.DEFAULT,
  name: str | None = None,
  mesh: tuple[Size, Size] = (1, 1),
) -> None:
  """Writes `runs.jsonl` and per-prompt arrays into the run's folder.

  Pairs of the classifications are under the golden model's labels, as in a
  study.

  Args:
    model_dir: folder of the run whose checkpoints are evaluated.
    run: as it was trained.
    data: prompts of the KL are its training ones, all else is held out.
    golden: the preference model that judges.
    proxy: the preference model that labelled the run's samples.
    reference_checkpoint_path: policy that KL is measured from.
    golden_checkpoint_path: parameters of `golden`.
    proxy_checkpoint_path: parameters of `proxy`.
    opponent_checkpoint_path: policy whose responses are the opponent.
    evaluation: how many prompts, and the seed.
    name: of the algorithm in runs.jsonl; of its source and loss if None:
      'online_ipo', 'offline_dpo'.
    mesh: devices along (data, model).
  """
  folder = Path(model_dir)
  cache = folder / 'cache'
  devices = partitioning.mesh(mesh)
  if checkpoints.steps(folder / 'checkpoints'):
    data = data.following(load.prompts_end(folder))
  run, vocabulary = prepared(run, data, cache)
  policy = policy_of(run.model)
  load.require(golden_checkpoint_path, 'a judge', 'GOLDEN_CHECKPOINT_PATH')
  proxy_path = proxy_checkpoint_path or golden_checkpoint_path
  train_pairs = data.prepare('train', vocabulary, cache).pairs()
  others = reference_checkpoint_path, opponent_checkpoint_path
  judges = golden_checkpoint_path, proxy_path
  load.check_prompts(facts.prompts_end(train_pairs), (*others, *judges))
  fixed = _fixed(
    policy,
    train_pairs,
    data.prepare('test', vocabulary, cache).pairs(TEST_PROMPTS),
    reference_checkpoint_path,
    opponent_checkpoint_path,
    _judge(golden, golden_checkpoint_path, devices),
    _judge(proxy, proxy_path, devices),
    data.response_length,
    evaluation,
    devices,
  )
  measured = _measured(policy, folder, fixed, evaluation, devices)
  _write(folder, run, name or _name_of(run), measured)
  progress.say(f'Points are in {folder / "runs.jsonl"}')


def _write(
  folder: Path, run: Run, name: str, measured: list[dict[str, object]]
) -> None:
  """Writes the points of a run as runs.jsonl, and seals them."""
  given = {
    'run': folder.name,
    'algorithm': name,
    'seed': run.seed,
    'lr': run.learning_rate,
    'scalars': grid.scalars(run),
  }
  lines = [runs.make_point({**given, **point}) for point in measured]
  runs.write(folder / 'runs.jsonl', lines)
  _seal(folder)


def _name_of(run: Run) -> str:
  source = 'offline' if run.algorithm.sampler is None else 'online'
  loss = objectives.name_of(run.algorithm.loss.function)
  return f'{source}_{loss.removesuffix("_loss")}'


def _seal(folder: Path) -> None:
  """Seals what was written, for `dap report` and `dap check`."""
  arrays = sorted((folder / 'points').glob('step_*.npz'))
  names = ['runs.jsonl', *(f'points/{path.name}' for path in arrays)]
  sealed = {name: seals.of(folder / name) for name in names}
  made = provenance.of_process()
  seals.write_json(folder / report.SEALED, {'files': sealed, 'made': made})


def _judge(model: Comparer, path: str, mesh: Mesh) -> points.Judge:
  return points.Judge(model, load.load_params(model, path, mesh))


def _measured(
  policy: Policy,
  folder: Path,
  fixed: points.Fixed,
  evaluation: points.Evaluation,
  mesh: Mesh,
) -> list[dict[str, object]]:
  """What is measured of each checkpoint; its arrays are written."""
  root, found = folder / 'checkpoints', []
  with progress.track('evaluate', len(checkpoints.steps(root))) as tick:
    for done, step in enumerate(checkpoints.steps(root), start=1):
      params = load.load_params(policy, root / f'checkpoint_{step}', mesh)
      point, arrays = points.evaluate(policy, params, fixed, evaluation, mesh)
      arrays_name = f'points/step_{step}.npz'
      files.write_arrays(folder / arrays_name, arrays)
      found.append({'step': step, 'per_prompt': arrays_name, **point})
      tick(done, f'win rate {point["win_rate"]:.3f}')
  return found


def _fixed(
  policy: Policy,
  train_pairs: Pairs,
  held_out: Pairs,
  reference_path: str,
  opponent_path: str,
  golden: points.Judge,
  proxy: points.Judge,
  length: int,
  evaluation: points.Evaluation,
  mesh: Mesh,
) -> points.Fixed:
  """What all checkpoints are judged against."""
  asked = points.questions(held_out, evaluation.num_prompts, evaluation.seed)
  size = evaluation.batch_size
  reference = load.load_params(policy, reference_path, mesh)
  opponent = load.load_params(policy, opponent_path, mesh)

  def labelled(pairs, what):
    few = pairs.take(slice(0, evaluation.num_pairs))
    shown = few.prompts, few.chosen, few.rejected
    asked = points.preferences(golden, *shown, size, mesh)
    few = points.golden_pairs(few, asked, what)
    return collectors.with_reference(policy, few, reference, mesh, size)

  return points.Fixed(
    asked,
    points.questions(train_pairs, evaluation.num_kl_prompts, evaluation.seed),
    points.answers(policy, opponent, asked, length, evaluation, mesh, slot=2),
    labelled(train_pairs, 'pairs of the training split'),
    labelled(held_out, 'held-out pairs'),
    golden,
    proxy,
    reference,
  )


def dry_run(*, model_dir: str, **others: object) -> None:
  """Prints which checkpoints would be evaluated."""
  del others
  steps = checkpoints.steps(Path(model_dir) / 'checkpoints')
  print(f'would evaluate {len(steps)} checkpoints of {model_dir}: {steps}')
