"""What README.md prints works as printed."""

import pathlib
import re

import tiny_commands

README = pathlib.Path(__file__).parents[1] / 'README.md'


def test_the_way_to_add_a_loss_works_as_printed(tmp_path, capsys):
  section = (
    README.read_text().split('## How to add a loss')[1].split('\n## ')[0]
  )
  (python,) = re.findall(r'```python\n(.*?)```', section, re.S)
  (gin,) = re.findall(r'```\n(from __gin__.*?)```', section, re.S)
  (tmp_path / 'my_module.py').write_text(python)
  (tmp_path / 'my_loss.gin').write_text(gin)
  tiny_commands.dap(
    'train',
    'offline_ipo',
    tmp_path / 'run',
    f'--gin_file={tmp_path / "my_loss.gin"}',
    '--gin.INITIAL_CHECKPOINT_PATH="unread"',
    '--dry_run',
  )
  told = capsys.readouterr().out
  assert 'function: my_module.my_loss' in told
  assert "scalars: ('beta', 0.1)" in told
