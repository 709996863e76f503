import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
NAMES = ['STYLE.md', 'README.md', 'CONTRIBUTING.md']
DOCUMENTS = [*(ROOT / name for name in NAMES), *sorted(ROOT.glob('docs/*.md'))]
_BLOCK = re.compile(r'^ *```python\n(.*?)^ *```$', re.DOTALL | re.MULTILINE)
BLOCKS = {
  f'{path.relative_to(ROOT)}, {number}': text
  for path in DOCUMENTS
  for number, text in enumerate(_BLOCK.findall(path.read_text()), start=1)
}


def test_documents_have_examples():
  assert sum(name.startswith('STYLE.md') for name in BLOCKS) == 4
  assert sum(name.startswith('README.md') for name in BLOCKS) >= 2


@pytest.mark.parametrize('name', BLOCKS)
def test_an_example_is_python(name):
  # Compiled, not parsed alone: `return` outside a function parses.
  compile(BLOCKS[name], name, 'exec')


def test_an_example_whose_function_lost_its_end_is_refused():
  with pytest.raises(SyntaxError, match='outside function'):
    compile('def step():\n  pass\n\n\nreturn step\n', 'example', 'exec')
