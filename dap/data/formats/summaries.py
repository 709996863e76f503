"""Layer 3. Comparisons of summaries (openai/summarize_from_feedback)."""

from collections.abc import Callable

from dap.data import schema
from dap.data.schema import Row, require, require_objects, require_text
from dap.errors import InputError

# What was summarised (`info`) and its place, to the text of a prompt.
Prompt = Callable[[Row, str], str]


def tldr_prompt(info: Row, where: str) -> str:
  """The query of Stiennon et al. 2020, https://arxiv.org/abs/2009.01325.

  A post with its subreddit and title; of an article (the validation split has
  some from CNN and Daily Mail) its text. Both end with "TL;DR:".
  """
  if info.get('article') and not info.get('post'):
    return f'{require_text(info, "article", (), where).strip()}\n\nTL;DR:'
  keys = ('subreddit', 'title', 'post')
  texts = {k: schema.optional_text(info, k, where).strip() for k in keys[:2]}
  post = require_text(info, 'post', keys, where).strip()
  return (
    f'SUBREDDIT: r/{texts["subreddit"]}\n\nTITLE: {texts["title"]}\n\n'
    f'POST: {post}\n\nTL;DR:'
  )


def summarize_prompt(info: Row, where: str) -> str:
  """The prefix that T5 was trained to summarise after, and the bare text."""
  key = 'post' if info.get('post') else 'article'
  return f'summarize: {require_text(info, key, (key,), where).strip()}'


def posts_only(row: Row, where: str, split: str) -> bool:
  """Keeps comparisons about posts: no articles."""
  del where, split
  info = row.get('info')
  return not isinstance(info, dict) or bool(info.get('post'))


def summaries(
  row: Row, where: str, *, prompt: Prompt = tldr_prompt
) -> list[Row]:
  """Two summaries of a post, and which of them a worker chose.

  The same post is compared many times: `id` is the post's, and after a colon a
  hash of the two summaries in their order and of the worker.

  Args:
    row: info (id, post, title, subreddit, or article), summaries (two, each
      with `text`), choice (0 or 1), worker; batch, split and extra are not
      read.
    where: its place.
    prompt: what becomes of `info`.

  Raises:
    InputError: a key is missing, a summary empty, or the choice neither.
  """
  info = require(row, 'info', dict, where)
  placed = require_objects(row, 'summaries', where)
  if len(placed) != 2:
    raise InputError(
      f'{where}: summaries must be two, got {len(placed)}. Remove the row.'
    )
  texts = [require_text(s, 'text', ('text',), at).strip() for at, s in placed]
  choice = require(row, 'choice', int, where)
  if choice not in (0, 1):
    raise InputError(
      f'{where}: choice must be 0 or 1, the better of the two summaries; got'
      f' {choice}. Correct it, or remove the row.'
    )
  chosen, rejected = texts[choice], texts[1 - choice]
  comparison = schema.digest(*texts, str(row.get('worker')))
  post = schema.optional_text(info, 'id', f'{where}, info')
  own_id = f'{post}:{comparison}' if post else None
  source = 'summarize_from_feedback/comparisons'
  text = prompt(info, f'{where}, info')
  return [schema.pair(text, chosen, rejected, source, own_id, where)]
