import io
import json

import jax
import pytest
from refusals import refused

from dap.checkpoints import convert, hf_tokenizer, hf_vouch, layouts, state
from dap.data.vocabulary import SentencePiece, TrainedSentencePiece
from dap.errors import InputError
from dap.models import t5

PROSE = [
  'The harbour was quiet, and nobody answered the bell twice.',
  '  def harbour(bell):\n    return bell[0] // 2  # twice',
  'Écoute: ça va? Grüße! 12,345.67 km',
  'HUMAN: why <b>now</b>? ASSISTANT: because, well...',
] * 12
LETTERS = ['the quiet harbour answered twice because nobody rang'] * 30
TEXTS = (
  *('', ' ', '   ', 'bell', '  two  blanks ', '\n\nHuman: hi\n\n  x\t', '\r\n'),
  *('é😀 ﬀ Ⅳ', '</s>', 'x</s>y', '</s></s> <pad><unk>', '<extra_id_0> a'),
  *('<0x0A>', 'a<0xFF>b', 'é<unk>{}', '\u2581bell', '<sep>the</s>', '<s', 's>'),
  *('return bell[0]', 'Grüße  ÉCOUTE', '111222333', '\u3000wide', '{<|x|>}'),
)


def trained(texts=PROSE, **changes):
  """A model of SentencePiece's own trainer, of other kinds than dap's."""
  import sentencepiece

  choices = {
    'vocab_size': 420,
    'pad_id': 0,
    'eos_id': 1,
    'unk_id': 2,
    'bos_id': -1,
    'hard_vocab_limit': False,
    'num_threads': 1,
    'minloglevel': 2,
    **changes,
  }
  model = io.BytesIO()
  sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter(line for text in texts for line in text.split('\n')),
    model_writer=model,
    **choices,
  )
  return model.getvalue()


IDENTITY = {
  'normalization_rule_name': 'identity',
  'remove_extra_whitespaces': False,
}
BYTES = {**IDENTITY, 'byte_fallback': True}
KINDS = {
  'as t5 has it': lambda: trained(vocab_size=150),
  'nfkc with bytes': lambda: trained(byte_fallback=True),
  'few letters, bytes': lambda: trained(LETTERS, vocab_size=290, **BYTES),
  'few letters': lambda: trained(LETTERS, vocab_size=40, **IDENTITY),
  'symbols': lambda: trained(
    user_defined_symbols=['<sep>', '<extra_id_0>'],
    control_symbols=['<s>'],
    **BYTES,
  ),
  'bpe': lambda: trained(model_type='bpe', **BYTES),
  'bpe without bytes': lambda: trained(model_type='bpe', vocab_size=120),
  'characters': lambda: trained(model_type='char'),
  'no dummy prefix': lambda: trained(add_dummy_prefix=False, **BYTES),
}

NORMALISED = ('as t5 has it', 'nfkc with bytes', 'bpe without bytes')
NORMALISED += ('characters',)


@pytest.fixture(scope='module')
def vocabularies(tmp_path_factory):
  """Paths of models, by what they are."""
  folder = tmp_path_factory.mktemp('vocabularies')
  own = folder / 'own.model'
  TrainedSentencePiece(500).train(PROSE, str(own))
  found = {'of dap': str(own)}
  for number, (name, make) in enumerate(KINDS.items()):
    path = folder / f'{number}.model'
    path.write_bytes(make())
    found[name] = str(path)
  return found


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  """Runs that tell whether their prompts ended."""
  folder = tmp_path_factory.mktemp('runs')
  params = t5.init_params(t5.T5Config(600, 8, 2, 4, 8, 1, 1), jax.random.key(0))
  for name, ends in {'open': False, 'ended': True}.items():
    facts = {'prompts_end': ends}
    state.save(folder / name, 1, params, {}, '', facts=facts)
  return folder


@pytest.mark.parametrize('ends', [False, True])
@pytest.mark.parametrize('name', ['of dap', *KINDS])
def test_transformers_gives_the_ids_of_the_training(
  name, ends, vocabularies, run, tmp_path
):
  transformers = pytest.importorskip(
    'transformers', reason='needs transformers, the extra [parity]'
  )
  path = vocabularies[name]
  source = str(run / ('ended' if ends else 'open'))
  target = convert.Target(vocabulary=path)
  convert.convert(source, str(tmp_path / 'hf'), 'hf', target)
  tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / 'hf')
  known = SentencePiece(path)
  for text in TEXTS:
    wanted = known.encode(text) + [1] * ends
    assert tokenizer(text).input_ids == wanted, text
  both = tokenizer(list(TEXTS[3:5]), padding=True).input_ids
  assert both[0][-1] == 0 and tokenizer.eos_token_id == 1
  for text in ('the quiet harbour', 'answered twice'):
    ids = tokenizer(text).input_ids
    decoded = tokenizer.decode(ids, skip_special_tokens=True)
    assert decoded == known.decode(ids) == text


@pytest.mark.parametrize('name', ['of dap', *KINDS])
def test_the_check_of_the_ids_says_what_it_could_do(name, vocabularies):
  said = hf_vouch.vouch(vocabularies[name])
  try:
    import tokenizers  # noqa: F401
  except ModuleNotFoundError:
    assert 'were not checked' in said and 'pip install tokenizers' in said
  else:
    assert 'are those of SentencePiece on' in said
    assert ('NFC' in said) == (name in NORMALISED)


@pytest.mark.parametrize('ends', [False, True])
def test_the_end_of_prompts_is_carried_to_the_tokenizer(
  ends, vocabularies, run, tmp_path, capsys
):
  source = str(run / ('ended' if ends else 'open'))
  target = convert.Target(vocabulary=vocabularies['of dap'])
  contents = convert.convert(source, str(tmp_path / 'hf'), 'hf', target)
  written = json.loads((tmp_path / 'hf' / 'tokenizer.json').read_text())
  template = written['post_processor']['single']
  assert ('SpecialToken' in template[-1]) is ends
  habit, _ = convert.notes(contents, 'hf', target)
  assert ('put it behind them' if ends else 'no end id') in habit


def test_no_special_piece_is_likelier_than_what_spells_it(vocabularies):
  spec = hf_tokenizer.read(vocabularies['of dap'])
  rows = hf_tokenizer.tokenizer(spec, prompts_end=True)['model']['vocab']
  scores = dict(map(tuple, rows))
  least = min(score for piece, score in scores.items() if piece[0] != '<')
  for piece in ('</s>', '<pad>', '<unk>', '<0x00>', '<0xFF>'):
    assert scores[piece] < least * len(piece)


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'model_type': 'word'}, 'it is of words'),
    ({'treat_whitespace_as_suffix': True}, 'writes blanks in another way'),
    (
      {'model_type': 'bpe', 'user_defined_symbols': ['<sep>']},
      'symbols of its user',
    ),
  ],
)
def test_what_transformers_cannot_do_is_refused(
  changes, message, run, tmp_path, capsys
):
  path = tmp_path / 'odd.model'
  path.write_bytes(trained(**{'vocab_size': 120, **changes}))
  words = ['convert', str(run / 'open'), str(tmp_path / 'hf'), '--to=hf']
  said = refused(capsys, [*words, f'--vocabulary={path}'])
  assert message in said and 'Convert without --vocabulary' in said
  assert not (tmp_path / 'hf').exists()


def test_a_tokenizer_that_differs_is_refused(vocabularies, monkeypatch):
  pytest.importorskip('tokenizers', reason='comes with transformers')
  monkeypatch.setattr(hf_tokenizer, '_normalizers', lambda spec: iter(()))
  hf_vouch.vouch.cache_clear()
  with pytest.raises(InputError, match='must give the ids of .*would give'):
    hf_vouch.vouch(vocabularies['of dap'])
  hf_vouch.vouch.cache_clear()


@pytest.mark.parametrize('to', convert.WRITERS)
def test_facts_go_from_layout_to_layout(to, run, tmp_path):
  facts = {'prompts_end': False, 'mlp_activations': ['silu', 'linear']}
  params = t5.init_params(t5.T5Config(40, 8, 2, 4, 8, 1, 1), jax.random.key(0))
  state.save(tmp_path / 'run', 1, params, {}, '', facts=facts)
  convert.convert(str(tmp_path / 'run'), str(tmp_path / 'one'), to)
  convert.convert(str(tmp_path / 'one'), str(tmp_path / 'two'), 't5x')
  for name in ('one', 'two'):
    found = layouts.open_checkpoint(tmp_path / name)
    assert found.prompts_end is False
    assert found.t5_config().mlp_activations == ('silu', 'linear')
