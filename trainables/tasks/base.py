"""What a task is: what is learnt, and how well."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import pyarrow as pa
from torch import Tensor

Direction = Literal["minimize", "maximize"]


@dataclass(frozen=True)
class Metric:
    """One figure of how well a task is learnt.

    Attributes:
        name: The name that trials report it by, e.g. ``accuracy``.
        direction: Whether less or more is better.
        worst: The value from which on a result is worth nothing; None if it depends on the data, in which
            case the task's guess says it.
        ideal: The best possible value.
        unit: ``%`` for a share of 1, which people may write as a percentage; empty for a plain number.
        description: One line for listings.
        short: What a narrow column calls it; its name by default.
        share_of_rows: Whether it is a share of the samples, each of which is right or wrong: then its
            standard error over a split is known.
    """

    name: str
    direction: Direction
    worst: float | None
    ideal: float
    unit: str = ""
    description: str = ""
    short: str = ""
    share_of_rows: bool = False


@dataclass(frozen=True)
class LabelColumn:
    """A dataset's label column, of which nothing is read until it is asked for.

    Attributes:
        where: What error messages call it.
        splits: Names of the splits.
        values: Yields the labels of a split, as they are stored, one array a file.
        metadata: Returns the value of a key in the dataset's own description, or None.
    """

    where: str
    splits: tuple[str, ...]
    values: Callable[[str], Iterator[pa.ChunkedArray]]
    metadata: Callable[[str], Any]


class Task(ABC):
    """A task over the labels of one dataset: what is learnt, from which labels, and how well.

    Two tasks of one kind that have the same output size take the same memory.
    """

    #: The name that datasets choose it by.
    name: ClassVar[str]

    #: What ``score`` returns. The first is the default objective.
    metrics: ClassVar[tuple[Metric, ...]]

    #: The labels it takes, for error messages.
    label_types: ClassVar[str]

    @classmethod
    @abstractmethod
    def takes(cls, kind: pa.DataType) -> bool:
        """Whether labels may be stored as this type."""

    @classmethod
    @abstractmethod
    def of_column(cls, column: LabelColumn) -> Self:
        """Return the task of a dataset's label column.

        Raises:
            UserError: If the column does not tell what is to be learnt.
        """

    @classmethod
    @abstractmethod
    def of_size(cls, output_size: int) -> Self:
        """Return a task with so many outputs, without a dataset: enough to predict memory."""

    @classmethod
    @abstractmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return the task that ``to_dict`` has described; other entries are ignored."""

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Return all that is needed to make the task again, as JSON has it; ``task`` is its name."""

    @property
    @abstractmethod
    def output_size(self) -> int:
        """The length D of a method's output for a sample."""

    @abstractmethod
    def encode(self, values: Sequence[Any], where: str = "row", first: int = 0) -> Tensor:
        """Return stored labels as a tensor of shape (N,) or (N, K).

        Args:
            values: The labels.
            where: What error messages call the rows.
            first: Number of the first row.

        Raises:
            UserError: If a label is missing or not of this task; the message names its row.
        """

    @abstractmethod
    def decode(self, labels: Tensor) -> list[Any]:
        """Return labels as they may be stored: what ``encode`` takes."""

    @abstractmethod
    def example_labels(self, rows: int) -> Tensor:
        """Return labels of the shape and type that ``encode`` gives, in place of real ones."""

    @abstractmethod
    def loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Return the mean loss of outputs (B, D), a scalar."""

    def teaching(self, outputs: Tensor) -> Tensor:
        """Return what a model learns in place of labels from another one's outputs (B, D)."""
        return outputs.detach().float()

    @abstractmethod
    def distillation(self, outputs: Tensor, taught: Tensor) -> Tensor:
        """Return the mean loss of outputs (B, D) that are to agree with what ``teaching`` gave, a scalar."""

    @abstractmethod
    def score(self, outputs: Tensor, labels: Tensor) -> dict[str, float]:
        """Return every metric, by name.

        Args:
            outputs: Of all samples, shape (N, D), in float32.
            labels: Their labels.
        """

    @abstractmethod
    def guess(self, labels: Tensor) -> dict[str, float]:
        """Return what is reached on labels without having learnt anything, by metric.

        A metric whose ``worst`` depends on the data must be there.
        """

    def summary(self) -> dict[str, Any]:
        """Return what listings say of the task beside its name, as JSON has it."""
        return {"outputs": self.output_size}

    def to_record(self, guess: Mapping[str, float]) -> dict[str, Any]:
        """Return what a table of recorded trials keeps of the task.

        Args:
            guess: Of the split that trials were scored on.
        """
        return {"task": self.name, "outputs": self.output_size, "guess": dict(guess)}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> tuple[Self, dict[str, float]]:
        """Return the task and the guess that ``to_record`` has written down."""
        return cls.of_size(record["outputs"]), record["guess"]
