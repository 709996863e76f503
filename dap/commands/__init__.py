"""Layer 6. The commands: each is one run function, bound by gin.

The module of a run function also has `dry_run`, which takes the same arguments,
prints what the run would cost and runs nothing.
"""

from typing import NamedTuple


class Command(NamedTuple):
  """Where a command's run function is, and what `--help` says of it.

  `dry_run_needs_all` is False where a dry run can do without what is marked
  `%gin.REQUIRED`: such values are texts then, like '<TRAIN_FILE>'.
  """

  module: str
  function: str
  summary: str
  description: str
  example: str
  dry_run_needs_all: bool = True


_ONLINE = '--gin_file=configs/embedded/online_ipo.gin'
_STUDY = '--gin_file=configs/studies/gap.gin'

COMMANDS = {
  'data': Command(
    module='dap.commands.data',
    function='prepare_data',
    summary='read, check and tokenise preference pairs, once',
    description="""\
Malformed rows are refused with file and line. The arrays lie in a cache named
by content; training and studies make them too where they are missing.""",
    example="""dap data --gin_file=gin/data/jsonl.gin \\
    --gin.TRAIN_FILE='"train.jsonl"' --gin.TEST_FILE='"test.jsonl"'""",
  ),
  'train': Command(
    module='dap.commands.train',
    function='train',
    summary='train a policy or a preference model, offline or online',
    description="""\
The gin file chooses the algorithm: sampler, annotator, pairing, passes, loss,
refresh. A run that was stopped continues from its last checkpoint.""",
    example=f"""dap train {_ONLINE} \\
    --gin.MODEL_DIR='"out/ipo"' --gin.BETA=0.1 \\
    --gin.INITIAL_CHECKPOINT_PATH='"out/sft"' \\
    --gin.ANNOTATOR_CHECKPOINT_PATH='"out/preference_model"'""",
  ),
  'evaluate': Command(
    module='dap.commands.evaluate',
    function='evaluate',
    summary='measure checkpoints: KL, win rate, accuracy as a classifier',
    description="""\
Writes a line for each checkpoint of a training run to its runs.jsonl.""",
    example=f"""dap evaluate {_ONLINE} \\
    --gin_file=gin/commands/evaluate.gin --gin.MODEL_DIR='"out/ipo"' \\
    --gin.REFERENCE_CHECKPOINT_PATH='"out/sft"' \\
    --gin.OPPONENT_CHECKPOINT_PATH='"out/golden_policy"' \\
    --gin.GOLDEN_CHECKPOINT_PATH='"out/golden"' \\
    --gin.PROXY_CHECKPOINT_PATH='"out/preference_model"'""",
  ),
  'sample': Command(
    module='dap.commands.sample',
    function='sample',
    summary='write responses of a checkpoint as readable text',
    description="""\
Samples from a checkpoint of a training run, on prompts of its test split.""",
    example=f"""dap sample {_ONLINE} \\
    --gin.MODEL_DIR='"out/ipo"'""",
  ),
  'study': Command(
    module='dap.study.run',
    function='run',
    summary='run the stages of a study, those that are missing',
    description="""\
Stages are named by what determines them, from prepared data to the report, so
a second start, or a start with other bindings, redoes only what changed.""",
    example=f"""dap study {_STUDY} \\
    --gin.STUDY_DIR='"out/gap"'""",
    dry_run_needs_all=False,
  ),
  'report': Command(
    module='dap.study.report',
    function='report',
    summary='write the report of a study: verdicts, figures, samples',
    description="""\
Reads results and writes report.html, report.md, verdicts.json and figures/:
repeat it as you like.""",
    example=f"""dap report {_STUDY} \\
    --gin.STUDY_DIR='"out/gap"'""",
  ),
  'env': Command(
    module='dap.commands.environment',
    function='describe',
    summary='print versions, devices, memory, disk and settings',
    description="""\
Add what it prints to every report of a bug.""",
    example='dap env',
  ),
}
