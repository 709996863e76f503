"""Commands on configs/embedded at a size that tests can afford."""

from dap import main

SIZES = {
  'corpus.EmbeddedCorpus.num_train': 64,
  'corpus.EmbeddedCorpus.num_test': 16,
  'PROMPT_LENGTH': 10,
  'RESPONSE_LENGTH': 6,
  't5.T5Config.emb_dim': 16,
  't5.T5Config.num_heads': 2,
  't5.T5Config.head_dim': 8,
  't5.T5Config.mlp_dim': 32,
  'BATCH_SIZE': 8,
}
OF_RUN = {
  'sft': {'SFT_STEPS': 10, 'sft/train.Run.log_every': 1},
  'preference_model': {
    'PROXY_STEPS': 8,
    'proxy/train.Run.log_every': 1,
    'proxy/optimizers.Cosine.warmup_steps': 2,
  },
  'online_ipo': {
    'ONLINE_STEPS': 6,
    'ONLINE_SAVE_STEPS': (3,),
    'online/train.Run.log_every': 1,
  },
  'offline_ipo': {
    'OFFLINE_STEPS': 6,
    'OFFLINE_SAVE_STEPS': (3,),
    'offline/train.Run.log_every': 1,
  },
}


def argv(command, config, model_dir, *others, without=(), **changes):
  """The words of a command on configs/embedded/CONFIG.gin."""
  bindings = {**SIZES, **OF_RUN[config], **changes}
  return [
    command,
    f'--gin_file=configs/embedded/{config}.gin',
    f'--gin.MODEL_DIR={str(model_dir)!r}',
    *(f'--gin.{k}={v!r}' for k, v in bindings.items() if k not in without),
    *others,
  ]


def starts(folder):
  """Where an online run starts, and who labels its samples."""
  return (
    f'--gin.INITIAL_CHECKPOINT_PATH={str(folder / "sft")!r}',
    f'--gin.ANNOTATOR_CHECKPOINT_PATH={str(folder / "judge")!r}',
  )


def dap(command, config, model_dir, *others, **changes):
  """Runs it in this process."""
  main.main(argv(command, config, model_dir, *others, **changes))
