"""The study of configs/studies at a size that tests can afford."""

from dap import files

SIZES = {
  'corpus.EmbeddedCorpus.num_train': 80,
  'corpus.EmbeddedCorpus.num_stress': 16,
  'corpus.EmbeddedCorpus.num_test': 24,
  'corpus.EmbeddedCorpus.raters': 1,
  'design.Study.num_golden_pairs': 48,
  'design.Study.panel': None,
  'SEEDS': (3,),
  'VOCABULARY_SIZE': 300,  # as of files, so that they share programs
  'PROMPT_LENGTH': 24,
  'RESPONSE_LENGTH': 6,
  'BATCH_SIZE': 8,
  't5.T5Config.emb_dim': 16,
  't5.T5Config.num_heads': 2,
  't5.T5Config.head_dim': 8,
  't5.T5Config.mlp_dim': 32,
  # The golden model has the proxy's size, so that they share programs.
  'golden/t5.T5Config.emb_dim': 16,
  'golden/t5.T5Config.num_heads': 2,
  'golden/t5.T5Config.mlp_dim': 32,
  'golden/optimizers.AdamW.weight_decay': 0.1,
  'golden/optimizers.Cosine.warmup_steps': 2,
  'proxy/optimizers.Cosine.warmup_steps': 2,
  'GOLDEN_STEPS': 12,
  'PROXY_STEPS': 8,
  'SFT_STEPS': 10,
  'golden_policy/train.Run.num_steps': 4,
  'ONLINE_STEPS': 6,
  'ONLINE_SAVE_STEPS': (3,),
  'SETTINGS': ((1e-2, 0.1), (1e-2, 0.03)),
  'OFFLINE_STEPS': 6,
  'OFFLINE_SAVE_STEPS': (2, 4),
  'points.Evaluation.num_prompts': 32,
  'points.Evaluation.num_kl_prompts': 16,
  'points.Evaluation.num_pairs': 16,
  'points.Evaluation.batch_size': 16,
  'study.run.num_workers': 0,
}

# What only studies with the gap have: one of them measures its limit and judge.
MEASURED = {
  'gap': {
    'gap/experiments.Experiment.measures': (),
    'judge/experiments.Experiment.measures': (),
  },
  'default': {
    'limit.Limit.num_samples': 16,
    'agreement.Agreement.num_pairs': 20,
  },
}
GAP_SIZES = {**SIZES, **MEASURED['gap']}


def argv(study_dir, *others, config='gap', without=(), **changes):
  """The words of the command; a change replaces a size by its macro's name."""
  given = {**SIZES, **MEASURED.get(config, {}), **changes}
  if config not in ('gap', 'losses'):  # they add no arms of this grid
    given.setdefault('OTHER_SETTINGS', given['SETTINGS'])
  sizes = {k: v for k, v in given.items() if k not in without}
  return [
    'study',
    f'--gin_file=configs/studies/{config}.gin',
    # The short form has no limit; here it is measured all the same.
    *(['--gin_file=gin/hypotheses/gap.gin'] if config == 'default' else []),
    f'--gin.STUDY_DIR={str(study_dir)!r}',
    *(f'--gin.{name}={value!r}' for name, value in sizes.items()),
    *others,
  ]


def report_argv(study_dir):
  """The words of `dap report`."""
  return [
    'report',
    '--gin_file=configs/studies/gap.gin',
    f'--gin.STUDY_DIR={str(study_dir)!r}',
  ]


def lines(study_dir):
  """The records of runs.jsonl."""
  return files.read_json_lines(study_dir / 'runs.jsonl')
