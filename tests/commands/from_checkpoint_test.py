import jax
import pytest
import t5x_parity as parity

from dap import main
from dap.checkpoints import layouts, state
from dap.models import t5

SFT = [
  'train',
  '--gin_file=configs/embedded/sft.gin',
  '--gin_file=gin/models/from_checkpoint.gin',
  '--gin.DTYPE="float32"',
]
CONFIG = t5.T5Config(
  160, 16, 2, 8, 32, 1, 1, ('relu',), logits_via_embedding=True
)


def test_a_model_has_the_sizes_of_the_checkpoint_it_starts_from(tmp_path):
  params = t5.init_params(CONFIG, jax.random.key(0))
  state.save(tmp_path / 'public', 7, params, {}, 'digest')
  main.main(
    [
      *SFT,
      f'--gin.INITIAL_CHECKPOINT_PATH="{tmp_path / "public"}"',
      f'--gin.MODEL_DIR="{tmp_path / "sft"}"',
      '--gin.corpus.EmbeddedCorpus.num_train=40',
      '--gin.corpus.EmbeddedCorpus.num_stress=4',
      '--gin.corpus.EmbeddedCorpus.num_test=8',
      '--gin.sft/train.Run.num_steps=2',
    ]
  )
  found = layouts.open_checkpoint(tmp_path / 'sft')
  assert (found.layout, found.step) == ('dap', 2)
  assert found.t5_config() == CONFIG


@pytest.mark.parametrize('more', [[], ['--dry_run']])
def test_a_vocabulary_larger_than_the_embedding_is_refused(
  tmp_path, capsys, more
):
  # The fixture has 128 rows; the corpus has 140 words.
  words = [*SFT, *more, f'--gin.INITIAL_CHECKPOINT_PATH="{parity.NATIVE}"']
  with pytest.raises(SystemExit):
    main.main([*words, f'--gin.MODEL_DIR="{tmp_path / "sft"}"'])
  assert '140 ids, but the model has room for 128' in capsys.readouterr().err
  assert not (tmp_path / 'sft' / 'checkpoints').exists()
