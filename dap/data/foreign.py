"""Layer 3. What is used of the objects of seqio, TensorFlow and TFDS.

They have no types of their own, and are not imported before they are needed.
When a program runs these are names of `object`: to look at what a Task has
could be to read its files.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING, Protocol, SupportsInt

from dap.data.schema import Value

if TYPE_CHECKING:

  class Dataset(Protocol):
    """A `tf.data.Dataset` of examples: tensors by feature."""

    def map(self, function: Callable[..., object], /) -> 'Dataset': ...

    def take(self, count: int, /) -> 'Dataset': ...

    def as_numpy_iterator(self) -> Iterator[Mapping[str, object]]: ...

  class SeqioVocabulary(Protocol):
    """A `seqio.Vocabulary`; a SentencePieceVocabulary alone has a file."""

    pad_id: int
    eos_id: int
    extra_ids: int
    vocab_size: int
    sentencepiece_model_file: object

    def encode(self, text: str, /) -> Sequence[int]: ...

    def decode(self, ids: Sequence[SupportsInt], /) -> str: ...

  class SeqioFeature(Protocol):
    """A `seqio.Feature`."""

    vocabulary: SeqioVocabulary

  class SeqioTask(Protocol):
    """A `seqio.Task` or `seqio.Mixture`; the latter alone has Tasks."""

    splits: Collection[str]
    output_features: Mapping[str, SeqioFeature]
    get_dataset: Callable[..., Dataset]
    tasks: Sequence[Value]

    def __hash__(self) -> int: ...

  class Registry(Protocol):
    """`seqio.TaskRegistry` or `seqio.MixtureRegistry`."""

    def names(self) -> Collection[str]: ...

    def remove(self, name: str, /) -> None: ...

  class TfdsBuilder(Protocol):
    """A `tfds.core.DatasetBuilder`."""

    info: Value
    data_path: PurePath
    as_dataset: Callable[..., object]
    as_data_source: Callable[..., Sequence[Value]]
    download_and_prepare: Callable[..., None]

else:
  Dataset = SeqioVocabulary = SeqioFeature = SeqioTask = object
  Registry = TfdsBuilder = object
