"""Layer 3. What the raw rows of public data sets mean.

A format is a pure function of a raw row and its place to the row's pairs: none
where the row has none, several where it ranks several responses. Each set's
page on the Hugging Face hub describes its rows.
"""

from dap.data.formats.arena import arena
from dap.data.formats.conversations import conversations
from dap.data.formats.dialogues import (
  single_turns,
  transcript,
  where_they_part,
)
from dap.data.formats.held_out import first_question, instruction, twentieth
from dap.data.formats.helpsteer import (
  by_own_split,
  by_prompt,
  graded_share,
  helpsteer,
  helpsteer2_preference,
)
from dap.data.formats.hh import hh
from dap.data.formats.plain import pairs, targets
from dap.data.formats.ranking import best_and_worst, every_two
from dap.data.formats.summaries import (
  posts_only,
  summaries,
  summarize_prompt,
  tldr_prompt,
)
from dap.data.formats.ties import (
  drop_ties,
  first_on_ties,
  good_ties_both_ways,
  ties_both_ways,
)
from dap.data.formats.ultrafeedback import (
  fine_grained_score,
  overall_score,
  ultrafeedback,
  ultrafeedback_binarized,
)

__all__ = [
  'arena',
  'best_and_worst',
  'by_own_split',
  'by_prompt',
  'conversations',
  'drop_ties',
  'every_two',
  'fine_grained_score',
  'first_on_ties',
  'first_question',
  'good_ties_both_ways',
  'helpsteer',
  'graded_share',
  'helpsteer2_preference',
  'hh',
  'instruction',
  'overall_score',
  'pairs',
  'posts_only',
  'single_turns',
  'summaries',
  'summarize_prompt',
  'targets',
  'ties_both_ways',
  'tldr_prompt',
  'transcript',
  'twentieth',
  'ultrafeedback',
  'ultrafeedback_binarized',
  'where_they_part',
]
