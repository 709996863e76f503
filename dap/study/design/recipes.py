"""Layer 7. Recipes: rounds of arms, each from where another ended."""

from collections.abc import Callable

from dap import errors
from dap.algorithms.run import Run
from dap.study.design.choices import Above, BestAndWorst, Choice
from dap.study.design.grid import Arm, Judge, RankedPairs, RunOf
from dap.study.reading.settings import Setting

_SFT = RunOf('sft')
_BEST = BestAndWorst()
# (number of the round from 1, checkpoints of all rounds before it) -> its arm.
MakeRound = Callable[[int, tuple[RunOf, ...]], Arm]
# Of the checkpoints of the rounds so far, those that answer the prompts.
Writers = Callable[[tuple[RunOf, ...]], tuple[RunOf, ...]]


def rounds(count: int, make_round: MakeRound) -> tuple[Arm, ...]:
  """Arms of `count` rounds; each is a stage, so a study goes on where it was.

  Args:
    count: at least 1.
    make_round: of the number of a round, from 1, and the last checkpoints of
      those before it, the SFT policy first.
  """
  if count < 1:
    raise errors.InputError(f'A recipe needs at least one round, got {count}.')
  made: list[Arm] = []
  ends = [_SFT]
  for number in range(1, count + 1):
    arm = make_round(number, tuple(ends))
    made.append(arm)
    ends.append(end_of(arm))
  return tuple(made)


def end_of(arm: Arm) -> RunOf:
  """The last checkpoint of an arm of one run."""
  if len(arm.settings) != 1:
    raise errors.InputError(
      f'A round goes on from one run, got {len(arm.settings)} settings of'
      f' {arm.name}.'
    )
  return RunOf(arm.name, arm.settings[0])


def newest(ends: tuple[RunOf, ...]) -> tuple[RunOf, ...]:
  """The checkpoint before this round writes alone."""
  return ends[-1:]


def newest_two(ends: tuple[RunOf, ...]) -> tuple[RunOf, ...]:
  """The checkpoint before this round and the one before that write, if any."""
  return ends[-2:]


def all_so_far(ends: tuple[RunOf, ...]) -> tuple[RunOf, ...]:
  """All earlier rounds write: what one of them wrote best is kept."""
  return ends


def ranked(
  name: str,
  run: Run,
  setting: Setting,
  num_rounds: int = 3,
  num_samples: int = 4,
  num_prompts: int | None = None,
  writers: Writers = newest,
  judge: Judge | None = None,
  choice: Choice = _BEST,
) -> tuple[Arm, ...]:
  """Each round is trained on pairs that are chosen of what was written.

  It starts from the round before it, which anchors it too. With a loss of pairs
  and the newest writer it is iterative DPO (spec 2.15); with one that reads the
  chosen responses alone it is rejection-sampling fine-tuning, and with all
  writers that of Llama 2, where it cures forgetting. With `DataOverSamples` and
  the newest two it is SPIN.

  Args:
    name: of the arms, before the number of the round.
    run: of each round.
    setting: of each round.
    num_rounds: of them.
    num_samples: of each writer to a prompt.
    num_prompts: the first of D_golden; all when None.
    writers: `newest`, `newest_two` or `all_so_far`.
    judge: that ranks; the proxy when None.
    choice: of the pairs.

  Source: Xu et al. 2023, https://arxiv.org/abs/2312.16682; Touvron et al. 2023,
  section 3.2.3, https://arxiv.org/abs/2307.09288, of which it is our reading
  that a round starts from the one before.
  """

  def make(number: int, ends: tuple[RunOf, ...]) -> Arm:
    pairs = RankedPairs(writers(ends), num_samples, num_prompts, choice)
    start = ends[-1] if number > 1 else None
    return Arm(
      f'{name}_{number}', run, (setting,), pairs, judge=judge, start=start
    )

  return rounds(num_rounds, make)


def grow_improve(
  name: str,
  run: Run,
  settings: tuple[Setting, ...],
  shares: tuple[float, ...],
  num_grows: int = 2,
  num_samples: int = 4,
  num_prompts: int | None = None,
  judge: Judge | None = None,
) -> tuple[Arm, ...]:
  """ReST: what one checkpoint wrote is filtered more strictly step by step.

  A grow samples; each of its improve steps is trained, from where the one
  before ended, on what scores above a greater share of the range of scores.

  Args:
    name: of the arms, before the numbers of the grow and of the step.
    run: of each step, with a loss that reads the chosen responses alone.
    settings: of each step of a grow.
    shares: of each step, ascending, see `choices.Above`.
    num_grows: of them.
    num_samples: of a grow, to a prompt.
    num_prompts: the first of D_golden; all when None.
    judge: that scores; the proxy when None.

  Source: Gulcehre et al. 2023, algorithm 1, https://arxiv.org/abs/2308.08998.
  """
  ascending = list(shares) == sorted(set(shares))
  if not shares or not ascending or len(settings) != len(shares):
    raise errors.InputError(
      'Improve steps need ascending shares and a setting of each, got shares'
      f' {shares} and settings {settings}.'
    )
  made: list[Arm] = []
  writer, start = _SFT, None
  for grow in range(1, num_grows + 1):
    for step, (share, setting) in enumerate(zip(shares, settings), start=1):
      pairs = RankedPairs((writer,), num_samples, num_prompts, Above(share))
      arm = Arm(
        f'{name}_{grow}_{step}',
        run,
        (setting,),
        pairs,
        judge=judge,
        start=start,
      )
      made.append(arm)
      start = end_of(arm)
    writer = start or _SFT
  return tuple(made)


def together(parts: tuple[Arm | tuple[Arm, ...], ...]) -> tuple[Arm, ...]:
  """Arms and recipes' arms, one after another."""
  return tuple(
    arm
    for part in parts
    for arm in ((part,) if isinstance(part, Arm) else part)
  )


def after(
  name: str,
  arms: tuple[Arm, ...],
  run: Run,
  setting: Setting,
  judge: Judge | None = None,
) -> tuple[Arm, ...]:
  """The arms of a recipe, and one from their end, such as PPO."""
  last = Arm(name, run, (setting,), judge=judge, start=end_of(arms[-1]))
  return (*arms, last)
