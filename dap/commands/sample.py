"""Layer 8. `dap sample`: a checkpoint's responses to read."""

from pathlib import Path

from dap import partitioning
from dap.algorithms.run import Run
from dap.checkpoints import load
from dap.commands.train import prepared
from dap.data.datasets import PairData
from dap.evaluation import sample as sampling
from dap.losses.ranges import Seed, Size


def sample(
  *,
  model_dir: str,
  run: Run,
  data: PairData,
  num_samples: Size = 10,
  seed: Seed = 0,
  mesh: tuple[Size, Size] = (1, 1),
) -> None:
  """Prints prompts and responses of the newest checkpoint of a run.

  Args:
    model_dir: folder of a run, or of one checkpoint.
    run: as it was trained.
    data: whose held-out prompts are answered.
    num_samples: prompts, one response each.
    seed: of the choice of prompts and of the samples.
    mesh: devices along (data, model).
  """
  folder = Path(model_dir)
  devices = partitioning.mesh(mesh)
  cache = _run_folder(folder) / 'cache'
  data = data.following(load.prompts_end(folder))
  run, vocabulary = prepared(run, data, cache)
  params = load.load_params(run.model.shared, folder, devices)
  shown = sampling.shown(data, vocabulary, cache, num_samples, seed)
  print(sampling.text(run.model, params, shown, devices))


def _run_folder(folder: Path) -> Path:
  """The folder of a run, also where one of its checkpoints is given."""
  return folder.parents[1] if (folder / 'metadata.json').exists() else folder


def dry_run(*, model_dir: str, num_samples: int = 10, **others: object) -> None:
  """Prints what would be sampled."""
  del others
  print(f'would write {num_samples} samples of {model_dir}')
