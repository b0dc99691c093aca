"""The base class of tasks: a task defines labels, loss and metrics."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import pyarrow as pa
import torch
from torch import Tensor

from trainables.methods import Query
from trainables.tasks.labels import LabelColumn

Direction = Literal["minimize", "maximize"]


@dataclass(frozen=True)
class Metric:
    """A number that tells how well a task is learnt.

    Attributes:
        name: Name of the metric in results, e.g. ``accuracy``.
        direction: Whether smaller or larger values are better.
        worst: The value of a worthless result. None means that it depends on the data; ``Task.guess`` must
            then return it.
        ideal: The best possible value.
        unit: ``%`` for a fraction between 0 and 1 that people may write as a percentage; empty for a plain
            number.
        description: One line for listings.
        short: Name in narrow table columns; an empty text means ``name``.
        share_of_rows: Whether the metric is the share of samples that are right. Its standard error over a
            split is known if so.
    """

    name: str
    direction: Direction
    worst: float | None
    ideal: float
    unit: str = ""
    description: str = ""
    short: str = ""
    share_of_rows: bool = False


#: Vectors as long as all weights that L-BFGS has at most: ten pairs of steps and gradient changes, twice, as
#: scipy hands them to its Fortran code and back, and the weights and gradients of a line search.
_VECTORS = 40
#: Numbers for each output of each row: the outputs, their gradient, and what the loss makes of them.
_OUTPUTS = 3


def lbfgs_bytes(rows: int, width: int, outputs: int) -> int:
    """Return the most bytes that scikit-learn's L-BFGS takes to fit a linear model.

    They are its state of 40 D (F + 1) numbers in float64, and 3 (D + 1) numbers for each row in float32.

    Args:
        rows: Number of rows.
        width: Number of features F.
        outputs: Number of outputs D.
    """
    return 8 * _VECTORS * outputs * (width + 1) + 4 * _OUTPUTS * rows * (outputs + 1)


def likeliest(names: Sequence[str], probabilities: Tensor, top: int) -> list[dict[str, float]]:
    """Return each sample's largest probabilities by name, the largest first; of equal ones, the first.

    Args:
        names: What the columns stand for.
        probabilities: Shape (N, C).
        top: Most of them for a sample.
    """
    values, places = probabilities.sort(dim=1, descending=True, stable=True)
    rows = zip(values[:, :top].tolist(), places[:, :top].tolist(), strict=True)
    return [{names[place]: value for value, place in zip(*row, strict=True)} for row in rows]


class Task(ABC):
    """The learning task of one dataset: its labels, output size, loss, metrics, and what outputs say.

    Memory predictions assume that two tasks of one class need the same memory if their output size and their
    ``loss_kind`` are equal.
    """

    #: The name by which a dataset selects the task.
    name: ClassVar[str]

    #: The metrics that ``score`` returns. The first, which all tasks of a class share, is the default
    #: objective. Those of the class are all that one of its tasks can have.
    metrics: tuple[Metric, ...]

    #: The accepted label types, for error messages.
    label_types: ClassVar[str]

    #: Whether the task has a ``smoothed_loss``.
    smooths_labels: ClassVar[bool] = False

    #: Whether ``tuned`` fits something.
    tunes: bool = False

    #: The fields of ``TaskSettings`` that have a meaning for the task, beside ``task``.
    settings: ClassVar[tuple[str, ...]] = ()

    #: Whether a dataset needs a label column.
    has_labels: ClassVar[bool] = True

    @classmethod
    @abstractmethod
    def takes(cls, kind: pa.DataType) -> bool:
        """Return whether labels may be stored as this type."""

    @classmethod
    @abstractmethod
    def of_column(cls, column: LabelColumn) -> Self:
        """Return the task of a dataset's label column.

        Raises:
            UserError: If the task cannot be made from the column.
        """

    @classmethod
    def hides(cls, column: LabelColumn, split: str) -> bool:
        """Return whether a split's labels are kept from us: it can be used, but not scored.

        By default they are if no row has one.
        """
        gaps = column.gaps(split)
        return 0 < gaps.rows == gaps.of

    def require_learnable(self, column: LabelColumn) -> None:  # noqa: B027
        """Check that labels leave something to learn, and that what is learnt can be scored.

        Args:
            column: The label column from which the task was made.

        Raises:
            UserError: If not.
        """

    def remarks(self, column: LabelColumn) -> list[str]:
        """Return what a user should know about how labels were understood, in lines.

        Args:
            column: The label column from which the task was made.
        """
        return []

    @classmethod
    @abstractmethod
    def of_size(cls, output_size: int) -> Self:
        """Return a task with this output size and no dataset, which suffices to predict memory."""

    @classmethod
    @abstractmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return the task that ``to_dict`` describes; unknown entries are ignored."""

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Return a JSON object from which ``from_dict`` restores the task; entry ``task`` is its name."""

    def encoding(self) -> dict[str, Any]:
        """Return the part of ``to_dict`` that decides what ``encode`` returns.

        A dataset is prepared once for all tasks that agree in it.
        """
        return self.to_dict()

    @property
    def query(self) -> Query | None:
        """The modality that searches for what the others say, if that is the task."""
        return None

    @property
    @abstractmethod
    def output_size(self) -> int:
        """The length D of the vector that a method outputs for a sample."""

    @property
    def loss_kind(self) -> str:
        """Which of its losses the task has, if memory may differ between them."""
        return ""

    @abstractmethod
    def encode(self, values: Sequence[Any], where: str = "row", first: int = 0) -> Tensor:
        """Return stored labels as a tensor of shape (N,) or (N, K).

        Args:
            values: The labels.
            where: Word for a row in error messages.
            first: Number of the first row, for error messages.

        Raises:
            UserError: If a label is missing or invalid for this task; the message names its row.
        """

    def paired(self, contents: Mapping[str, Sequence[Hashable]]) -> Tensor:
        """Return the labels of rows, if a dataset has no label column for the task.

        Args:
            contents: For each modality, what is equal for two rows if their contents are.
        """
        raise AttributeError(f"{type(self).__name__} does not define paired")

    @abstractmethod
    def decode(self, labels: Tensor) -> list[Any]:
        """Return a tensor of labels as stored labels, which ``encode`` accepts."""

    @abstractmethod
    def example_labels(self, rows: int) -> Tensor:
        """Return example labels with the shape and type that ``encode`` returns.

        They should differ from row to row, so that the checks of a task have something to tell apart.
        """

    @abstractmethod
    def loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Return the mean loss of outputs (B, D) as a scalar."""

    def smoothed_loss(self, outputs: Tensor, labels: Tensor, smoothing: float) -> Tensor:
        """Return the mean loss of outputs (B, D) as a scalar, with smoothed labels.

        Args:
            outputs: Outputs of the method.
            labels: The samples' labels.
            smoothing: Share of a label that is spread over all classes, from 0 to 1.
        """
        raise AttributeError(f"{type(self).__name__} does not define smoothed_loss")

    def teaching(self, outputs: Tensor) -> Tensor:
        """Return the distillation targets that a teacher's outputs (B, D) give."""
        return outputs.detach().float()

    @abstractmethod
    def distillation(self, outputs: Tensor, taught: Tensor) -> Tensor:
        """Return the mean loss of outputs (B, D) against targets from ``teaching``, as a scalar."""

    @abstractmethod
    def fit_linear(
        self, features: Tensor, labels: Tensor, strength: float, start: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return weight (D, F) and bias (D,) of the linear model that fits features (N, F) best.

        The outputs ``features @ weight.T + bias`` minimize the task's mean loss plus ``strength / 2`` times
        the sum of the squared weights. The bias is not penalized. The result is the same at every call.

        If the task has a query, D is the size of its features, and the outputs are close to them in squares.

        Args:
            features: Standardized features.
            labels: The samples' labels, which need not show all classes, or the query's features (N, D).
            strength: Weight of the penalty, above 0.
            start: Weight and bias to start from, such as those of a similar strength.
        """

    def probe_bytes(self, train: int, validation: int, width: int) -> int:
        """Return the most bytes that ``fit_linear``, or else ``score``, takes beside what it is given.

        By default they are those of scikit-learn's L-BFGS over all outputs, see ``lbfgs_bytes``, or three
        numbers for each output.

        Args:
            train: Number of rows to fit.
            validation: Number of rows to score.
            width: Number of features.
        """
        scored = 4 * _OUTPUTS * validation * (self.output_size + 1)
        return max(lbfgs_bytes(train, width, self.output_size), scored)

    @property
    def kept_size(self) -> int:
        """The number K of columns of what ``kept`` returns."""
        return self.output_size

    def kept(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Return what metrics are computed from, and what a search keeps, shape (N, K).

        By default these are the outputs. A task that compares samples with each other returns what comes of
        it for each sample, because a resample of the rows has fewer distinct samples to compare.

        Args:
            outputs: Outputs for all samples of a split, shape (N, D), in float32.
            labels: The samples' labels.
        """
        return outputs

    @abstractmethod
    def score(self, kept: Tensor, labels: Tensor) -> dict[str, float]:
        """Return the value of every metric, by name.

        Args:
            kept: What ``kept`` has returned for some samples.
            labels: The samples' labels.
        """

    def value(self, metric: str, kept: Tensor, labels: Tensor) -> float:
        """Return one metric of ``score``, which is computed many times for the bootstrap.

        Args:
            metric: Name of the metric.
            kept: What ``kept`` has returned for some samples.
            labels: The samples' labels.
        """
        return self.score(kept, labels)[metric]

    def tuned(self, kept: Tensor, labels: Tensor) -> Self:
        """Return the task with all that ``score`` uses fitted to a model's outputs on the validation split.

        The model is scored with it on every split. By default, there is nothing to fit.

        Args:
            kept: What ``kept`` has returned for the outputs.
            labels: The samples' labels.
        """
        return self

    def row_values(self, metric: str, kept: Tensor, labels: Tensor) -> Tensor | None:
        """Return what each sample contributes to a metric that is a mean over samples.

        The luck of a split is quickly computed for such a metric. Any other one is scored in fewer
        resamples, see ``resampled_values``.

        Args:
            metric: Name of the metric.
            kept: What ``kept`` has returned for the samples.
            labels: The samples' labels.

        Returns:
            Values (N,) whose mean is the metric; None if the metric is no such mean.
        """
        return None

    def resampled_values(self, metric: str, kept: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
        """Return a metric in several resamples of the samples, shape (R,), in float64.

        By default, ``value`` is computed for one after the other. A task whose searches have thousands of
        samples computes it for all at once.

        Args:
            metric: Name of a metric that has no ``row_values``.
            kept: What ``kept`` has returned for the samples.
            labels: The samples' labels.
            weights: How often each sample is in each resample, shape (R, N), in float64.
        """
        rows = torch.arange(len(labels))
        chosen = (rows.repeat_interleave(each) for each in weights.long())
        values = [self.value(metric, kept[some], labels[some]) for some in chosen]
        return torch.tensor(values, dtype=torch.float64)

    def drawn_together(self, labels: Tensor) -> Tensor | None:
        """Return which samples are no independent observations, and are drawn together by the bootstrap.

        Args:
            labels: The samples' labels.

        Returns:
            The number of each sample's group (N,); None, the default, if each sample is one of its own.
        """
        return None

    @abstractmethod
    def answers(self, outputs: Tensor, present: Mapping[str, Tensor], top: int = 10) -> list[dict[str, Any]]:
        """Return what outputs say about each sample, in the words of the labels, as a JSON object each.

        They agree with ``score``: of a task that is tuned, so are the answers.

        Args:
            outputs: Outputs (N, D) in float32, on a CPU.
            present: For each modality, which samples have a value of it, shape (N,).
            top: Most entries of what is listed best first, at least 1.
        """

    def example_answer(self) -> dict[str, Any]:
        """Return an answer for made-up outputs: its entries, and the type of each."""
        names = ("other",) if self.query is None else (self.query.modality, "other")
        present = {name: torch.ones(1, dtype=torch.bool) for name in names}
        (answer,) = self.answers(torch.ones(1, self.output_size), present)
        return answer

    @abstractmethod
    def guess(self, labels: Tensor) -> dict[str, float]:
        """Return the metrics that guessing reaches on these labels, by name.

        Every metric whose ``worst`` is None must be among them.
        """

    def in_words(self) -> str:
        """Return in a line what is learnt."""
        return f"{self.name}, {self.output_size} outputs"

    def summary(self) -> dict[str, Any]:
        """Return the facts that listings show beside the task's name, as a JSON object."""
        return {"outputs": self.output_size}

    def to_record(self, guess: Mapping[str, float]) -> dict[str, Any]:
        """Return the description of the task in a table of recorded trials.

        Args:
            guess: ``Task.guess`` of the split on which the trials were scored.
        """
        return {"task": self.name, "outputs": self.output_size, "guess": dict(guess)}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> tuple[Self, dict[str, float]]:
        """Return the task and the guess that ``to_record`` describes."""
        return cls.of_size(record["outputs"]), record["guess"]
