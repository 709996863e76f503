"""Layer 2. What running a model costs, as the model itself counts it."""

from typing import NamedTuple


class Operations(NamedTuple):
  """Matmul operations (2 a multiply-add) of one forward pass, padded lengths.

  `encoder` reads a prompt and `cross` prepares what its responses read of it,
  both once for all of them; `decoder` and `head` are of one response.
  """

  encoder: float
  cross: float
  decoder: float
  head: float


class Decoding(NamedTuple):
  """Bytes that decoding reads for each token.

  Attributes:
    weights: of the decoder and its head, whatever the batch.
    token: keys and values of one token of the prompt or the response.
  """

  weights: int
  token: int


class LayerBytes(NamedTuple):
  """The largest values of one layer's forward pass, of one text.

  Attributes:
    split: with an axis that the mesh's model axis splits.
    whole: as wide as the model: whole on every model device.
  """

  split: int
  whole: int

  def on(self, num_devices: int) -> float:
    """Of both on each of the devices along the model axis."""
    return self.split / num_devices + self.whole


class PairReading(NamedTuple):
  """What a model reads for a prompt and two responses to it.

  Attributes:
    contexts: that are encoded.
    context_length: tokens of each.
    texts: that are decoded.
    length: tokens of each.
    scored: tokens whose log-probability is asked.
    head: whether the vocabulary's head is multiplied at all.
  """

  contexts: int
  context_length: int
  texts: int
  length: int
  scored: int
  head: bool

  def of_group(self, n: int) -> 'PairReading':
    """The same for n responses, which share a prompt's encoding if two do."""
    contexts = self.contexts if self.contexts == 1 else self.contexts * n // 2
    return self._replace(
      contexts=contexts,
      texts=self.texts * n // 2,
      scored=self.scored * n // 2,
    )
