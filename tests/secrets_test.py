"""What messages may not repeat, and letters that a terminal lacks."""

import io
import logging
import os
import subprocess
import sys

import pytest
from refusals import commands_on, refused

from dap import main, progress, secrets

LEAKS = [
  'https://ann:pa55word@host.example/train.jsonl',
  'could not open s3://KEYID:pa55word@bucket/key: denied',
  "file 'gs://x:pa55word@b/c'",
  'https://pa55word@host/x',
  'http://h.example/a.jsonl?X-Amz-Signature=pa55word&X-Amz-Expires=9',
  '(https://acc.blob.core.example/c?sv=1&sig=pa55word)',
  'ftp://u:pa%35@55word:pa55word@host/',
  'token hf_pa55wordpa55wordpa55word',
]


@pytest.mark.parametrize('text', LEAKS)
def test_users_passwords_queries_and_tokens_are_hidden(text):
  hidden = secrets.hidden(text)
  assert 'pa55' not in hidden and secrets.HIDDEN in hidden


@pytest.mark.parametrize(
  'text',
  [
    'hf://google/flan-t5-base@main is no checkpoint',
    'gs://bucket/run/checkpoint_3, line 2: an address ann@host is text',
    'A seed is 0 to 2**32 - 1; is it? http://host/path, or ./a?b',
    '--gin.TRAIN_FILE="out/a@b/train.jsonl"',
  ],
)
def test_the_rest_stays_as_it_is(text):
  assert secrets.hidden(text) == text


ADDRESS = 'https://ann:pa55word@127.0.0.1:9/train.jsonl?sig=pa55word'


@pytest.mark.parametrize('command', ['data', 'train', 'study'])
def test_no_command_repeats_who_one_is_at_an_address(capfd, tmp_path, command):
  pytest.importorskip('fsspec')
  said = refused(capfd, commands_on(ADDRESS, tmp_path / 'out')[command])
  assert 'pa55word' not in said


def test_neither_do_the_configuration_and_progress(capfd, tmp_path):
  words = commands_on(ADDRESS, tmp_path / 'out')['train']
  main.main([*words, '--show_config'])
  progress.say(f'reading {ADDRESS}')
  said = capfd.readouterr().out
  assert 'train.jsonl' in said and 'pa55word' not in said


def test_nor_does_a_warning(capfd):
  with pytest.raises(SystemExit):
    main.main(['--version'])
  assert logging.lastResort is not None
  record = logging.makeLogRecord({'msg': 'Left out: %s', 'args': (ADDRESS,)})
  assert 'pa55word' not in logging.lastResort.format(record)


def test_env_keeps_secrets_and_says_settings(capsys, monkeypatch):
  monkeypatch.setenv('TPU_SECRET', 'pa55word')
  monkeypatch.setenv('JAX_API_TOKEN', 'pa55word')
  monkeypatch.setenv('XLA_DUMP_TO', 'gs://ann:pa55word@bucket/dump')
  monkeypatch.setenv('OMP_PLACES', 'cores')
  main.main(['env'])
  said = capsys.readouterr().out
  assert 'pa55word' not in said and 'TPU_SECRET' in said
  assert 'cores' in said and 'bucket/dump' in said


def test_a_terminal_without_a_letter_shows_another():
  narrow = io.TextIOWrapper(io.BytesIO(), encoding='ascii')
  progress.Lines(narrow).say('1–2 done ✓')
  narrow.seek(0)
  assert narrow.read() == '1?2 done ?\n'


def test_a_locale_without_a_dash_ends_no_command(tmp_path):
  own = tmp_path / 'own.gin'
  own.write_text("TITLE = 'a–b'\n", encoding='utf-8')
  words = [
    'study', '--gin_file=configs/studies/gap.gin', f'--gin_file={own}',
    '--gin.STUDY_DIR="out"', '--show_config',
  ]  # fmt: skip
  done = subprocess.run(
    [sys.executable, '-m', 'dap', *words], capture_output=True,
    env={**os.environ, 'LC_ALL': 'C', 'PYTHONUTF8': '0',
         'PYTHONCOERCECLOCALE': '0'},
  )  # fmt: skip
  assert done.returncode == 0, done.stderr
  assert b"title: 'a?b'" in done.stdout
