"""Layer 8. The commands: each is one run function, bound by gin.

The module of a run function also has `dry_run`, which takes the same arguments,
prints what the run would cost and runs nothing.
"""

from typing import NamedTuple


class Word(NamedTuple):
  """An argument of a command that gin does not configure.

  A `name` without dashes is given by its place, after those that must be.
  `choices` are all that may be given; a `default` of None marks what must be.
  """

  name: str
  help: str
  choices: tuple[str, ...] = ()
  default: str | None = None


class Command(NamedTuple):
  """Where a command's run function is, and what `--help` says of it.

  `dry_run_needs_all` is False where a dry run can do without what is marked
  `%gin.REQUIRED`: such values are texts then, like '<TRAIN_FILE>'. A command
  whose dry run also takes `--measure` says in `measures` what that does. A
  command with `words` takes these, its switches and `--dry_run`, and no gin
  files. A
  switch, (name, help), is an argument that is False unless it is given.
  `writes` is the argument with the folder that it writes; of a command that
  `writes_alone` only one runs there at a time.
  """

  module: str
  function: str
  summary: str
  description: str
  example: str
  dry_run_needs_all: bool = True
  words: tuple[Word, ...] = ()
  measures: str = ''
  switches: tuple[tuple[str, str], ...] = ()
  writes: str = ''
  writes_alone: bool = False


_ONLINE = '--gin_file=configs/embedded/online_ipo.gin'
_STUDY = '--gin_file=configs/studies/gap.gin'

COMMANDS = {
  'data': Command(
    module='dap.commands.data',
    function='prepare_data',
    summary='read, check and tokenise preference pairs, once',
    description="""\
Rows with a mistake, in their texts or in their token ids, are refused with file
and line. How long the texts are is printed, and lengths that cut few of them.
The arrays lie in a cache named by content; training and studies make them too
where they are missing.""",
    example="""dap data --gin_file=gin/data/jsonl.gin \\
    --gin.TRAIN_FILE='"train.jsonl"' --gin.TEST_FILE='"test.jsonl"'""",
  ),
  'train': Command(
    module='dap.commands.train',
    function='train',
    summary='train a policy or a preference model, offline or online',
    description="""\
The gin file chooses the slots of an Algorithm: source, sampler, annotator or
host_annotator, pairing, signals, passes, loss, and the schedules behaviour,
reference, refit; and control. A run that was stopped continues from its last
checkpoint.""",
    example=f"""dap train {_ONLINE} \\
    --gin.MODEL_DIR='"out/ipo"' --gin.BETA=0.1 \\
    --gin.INITIAL_CHECKPOINT_PATH='"out/sft"' \\
    --gin.ANNOTATOR_CHECKPOINT_PATH='"out/preference_model"'""",
    measures="compile the update and say XLA's memory; time matmuls here",
    dry_run_needs_all=False,
    writes='model_dir',
    writes_alone=True,
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
    writes='model_dir',
    writes_alone=True,
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
    measures='make some steps of each training here, in place of counting'
    ' operations: a minute or more',
    writes='study_dir',
    switches=(
      (
        'accept_code',
        'use what other code, or other versions of libraries, have finished'
        ' where nothing else differs; the report says so',
      ),
      (
        'verify',
        'make a sample of the finished stages again, elsewhere, and compare'
        ' their bits; nothing else is run',
      ),
    ),
  ),
  'report': Command(
    module='dap.study.report.report',
    function='report',
    summary='write the report of a study: verdicts, figures, samples',
    description="""\
Reads results and writes report.html, report.md, verdicts.json and figures/:
repeat it as you like.""",
    example=f"""dap report {_STUDY} \\
    --gin.STUDY_DIR='"out/gap"'""",
  ),
  'convert': Command(
    module='dap.commands.convert',
    function='convert',
    summary='turn a checkpoint of T5X, Orbax or Hugging Face into another',
    description="""\
SOURCE may have any of these layouts, which is found out and printed:
  dap        a run of `dap train`, or one of its checkpoint_<step>
  t5x        T5X's own (checkpoint and target.*/), scanned layers or not
  t5x_orbax  T5X's newer one (state/), or a tree that Orbax wrote
  hf         config.json and safetensors; hf://OWNER/NAME[@REVISION] downloads
Paths are local, gs:// or s3://. Optimizer states are left behind. Training and
studies read all of these themselves: INITIAL_CHECKPOINT_PATH.

Prompts of a training end with the end id, </s>, where it started from a T5, and
have none where it started from nothing (PROMPT_FORM chooses). The checkpoint
says which, convert prints it, and the tokenizer of --vocabulary does the same:
its ids are those of the training.""",
    example="""dap convert out/ipo out/ipo_t5x/checkpoint_500 --to=t5x
  dap convert hf://google/flan-t5-base out/flan --to=dap --dry_run
  dap convert out/ipo out/ipo_hf --to=hf --vocabulary=spiece.model""",
    words=(
      Word('source', 'checkpoint, folder of a run, or hf://OWNER/NAME'),
      Word('destination', 'a folder that does not exist yet'),
      Word('--to', 'the layout to write', ('dap', 't5x', 't5x_orbax', 'hf')),
      Word(
        '--dtype',
        'in which parameters are stored: float32 or bfloat16',
        (),
        'float32',
      ),
      Word(
        '--vocabulary',
        "a SentencePiece model: writes hf's tokenizer, ids as in the training",
        (),
        '',
      ),
    ),
  ),
  'algorithms': Command(
    module='dap.commands.algorithms',
    function='tell',
    summary='print all algorithms, their slots, needs and properties, or one',
    description="""\
Every experiment of configs/embedded that starts from a checkpoint, resolved as
`dap train` would: slots of its Algorithm, what it needs of the data, who scores
how many responses, which models are resident; and a survey's table of
properties as printed there, beside the one that follows from the slots.
With NAME: the equation of its loss, defaults with their sources, the command
that trains it, and the tests that hold it.""",
    example="""dap algorithms
  dap algorithms ppo""",
    words=(Word('name', 'such as dpo; all when left out', (), ''),),
    switches=(('json', 'print one JSON document instead of text'),),
  ),
  'check': Command(
    module='dap.commands.check',
    function='check',
    summary='read all that a folder keeps, and name what is damaged',
    description="""\
Reads checkpoints, metrics, streams, stages, prepared data, results and reports
below FOLDER and holds each file against the hash that was kept when it was
written. It changes nothing. What is damaged is named, with what makes it again;
the exit code is 2 then.""",
    example='dap check out/gap',
    words=(Word('folder', 'MODEL_DIR, STUDY_DIR, a cache, or their parent'),),
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
