"""Regression: each sample has one or more numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from trainables.errors import UserError
from trainables.tasks.base import Metric, Task
from trainables.tasks.f1 import class_counts, weighted_f1_of
from trainables.tasks.labels import LabelColumn, is_list
from trainables.tasks.registry import register_task

_LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "l1": F.l1_loss,
    "l2": F.mse_loss,
    "huber": F.huber_loss,
}

#: The range whose whole numbers are the seven classes of ``acc7``.
_SEVEN = (-3.0, 3.0)

#: How numbers become two classes: which labels count, and which numbers belong to the upper class. By default
#: zeros belong to it; ``nonzero`` leaves out labels that are 0; with ``positive`` zeros belong to the lower
#: class. The MMSA benchmark reports the first two ("Has0" and "Non0"), MulT the last one.
_TWO_CLASSES: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "": (lambda truth: np.full(truth.shape, True), lambda values: values >= 0),
    "_nonzero": (lambda truth: truth != 0, lambda values: values > 0),
    "_positive": (lambda truth: np.full(truth.shape, True), lambda values: values > 0),
}

#: Numbers are constant if their variance is below this share of their mean square; the rest is rounding.
_CONSTANT = 1e-12

_NUMBERS = (
    Metric("mae", "minimize", None, 0.0, "", "mean absolute error at the end of training", "MAE"),
    Metric("rmse", "minimize", None, 0.0, "", "root mean squared error at the end of training", "RMSE"),
    Metric("pearson_r", "maximize", 0.0, 1.0, "", "Pearson's correlation at the end of training", "r"),
)
_SIGNS = tuple(
    Metric(name, "maximize", 0.0, 1.0, "%", f"{words} of the sign, {zeros}", short, share)
    for suffix, zeros in (("", ">= 0"), ("_nonzero", "without zeros"), ("_positive", "> 0"))
    for name, words, short, share in (
        (f"acc2{suffix}", "accuracy", f"acc-2{suffix}", suffix != "_nonzero"),
        (f"weighted_f1{suffix}", "weighted F1", "", False),
    )
)
_ROUNDED = (Metric("acc7", "maximize", 0.0, 1.0, "%", "accuracy of the rounded number", "acc-7", True),)


@register_task
@dataclass(frozen=True)
class Regression(Task):
    """Each sample has K numbers. Labels (B, K) are in their own unit, in float32.

    A method's outputs (B, K) are standardized: 0 is the mean of the training rows, and 1 their standard
    deviation. So the loss and a learning rate are the same in every unit. Metrics are in the labels' unit.

    Attributes:
        means: The mean of each number over the training rows.
        deviations: Its standard deviation there, above 0.
        range: The least and the largest number that labels can have; None if nothing is known about it.
        loss_kind: Name of the loss.
        metrics: Those of one number in a range that has 0 inside include the accuracy of the sign; with the
            range -3 to 3 also that of the rounded number.
    """

    means: tuple[float, ...]
    deviations: tuple[float, ...]
    range: tuple[float, float] | None = None
    loss_kind: str = "l1"

    name = "regression"
    metrics = (*_NUMBERS, *_SIGNS, *_ROUNDED)
    settings = ("regression_loss",)
    label_types = "numbers or lists of numbers"

    def __post_init__(self) -> None:
        signed = self.output_size == 1 and self.range is not None and self.range[0] < 0 < self.range[1]
        rounded = signed and self.range == _SEVEN
        metrics = (*_NUMBERS, *(_SIGNS if signed else ()), *(_ROUNDED if rounded else ()))
        object.__setattr__(self, "metrics", metrics)

    @classmethod
    def takes(cls, kind: pa.DataType) -> bool:
        """Return whether labels may be stored as this type: numbers or lists of numbers."""
        if is_list(kind):
            kind = kind.value_type
        return pa.types.is_floating(kind) or pa.types.is_integer(kind)

    @classmethod
    def of_column(cls, column: LabelColumn) -> Self:
        """Return the task of a column, with mean and standard deviation of the training rows.

        Raises:
            UserError: If a label is missing or no number, or if the description's range is none.
        """
        within = _read_range(column)
        value = next(column.values("train"))[0].as_py()
        size = len(value) if isinstance(value, list) else 1
        labels = column.encoded(cls((0.0,) * size, (1.0,) * size, within), "train").double().numpy()
        deviations = labels.std(axis=0)
        return cls(
            tuple(labels.mean(axis=0).tolist()),
            tuple(np.where(deviations > 0, deviations, 1.0).tolist()),
            within,
            column.settings.regression_loss,
        )

    @classmethod
    def of_size(cls, output_size: int) -> Self:
        """Return the task of this many numbers, which are standardized already."""
        return cls((0.0,) * output_size, (1.0,) * output_size)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return the task that ``to_dict`` describes; unknown entries are ignored."""
        within = values["range"]
        return cls(
            tuple(values["means"]),
            tuple(values["deviations"]),
            None if within is None else (within[0], within[1]),
            values["loss"],
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the task's fields."""
        return {
            **self.encoding(),
            "means": list(self.means),
            "deviations": list(self.deviations),
            "loss": self.loss_kind,
        }

    def encoding(self) -> dict[str, Any]:
        """Return the task's name, the number of numbers, and their range."""
        within = None if self.range is None else list(self.range)
        return {"task": self.name, "numbers": self.output_size, "range": within}

    @property
    def output_size(self) -> int:
        """The number of numbers K."""
        return len(self.means)

    def encode(self, values: Sequence[Any], where: str = "row", first: int = 0) -> Tensor:
        """Return the numbers (N, K) of labels, each of which is a number or a list of them.

        Raises:
            UserError: If a label is missing, has another number of numbers, or one that is not finite or not
                in the range; the message names its row.
        """
        labels = torch.empty(len(values), self.output_size)
        low, high = self.range or (-math.inf, math.inf)
        for row, value in enumerate(values):
            numbers = value if isinstance(value, list) else [value]
            if len(numbers) != self.output_size or None in numbers:
                wanted = "a number" if self.output_size == 1 else f"a list of {self.output_size} numbers"
                raise UserError(f"{where} {first + row}: label {value} is not {wanted}")
            if not all(math.isfinite(number) and low <= number <= high for number in numbers):
                allowed = "finite" if self.range is None else f"from {low:g} to {high:g}"
                raise UserError(f"{where} {first + row}: label {value} is not {allowed}")
            labels[row] = torch.tensor(numbers)
        return labels

    def decode(self, labels: Tensor) -> list[Any]:
        """Return labels (N, K) as numbers, or as lists of them if K is above 1."""
        stored = labels.tolist()
        return [numbers[0] for numbers in stored] if self.output_size == 1 else stored

    def example_labels(self, rows: int) -> Tensor:
        """Return numbers at the mean and up to one standard deviation around it."""
        steps = (torch.arange(rows)[:, None] + torch.arange(self.output_size)).remainder(3) - 1
        return self._in_own_unit(steps.float())

    def loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Return the mean loss of outputs (B, K), in standard deviations."""
        means, deviations = self._statistics(outputs.device)
        return self.distillation(outputs, (labels - means) / deviations)

    def distillation(self, outputs: Tensor, taught: Tensor) -> Tensor:
        """Return the mean loss of outputs (B, K) against those of a teacher."""
        return _LOSSES[self.loss_kind](outputs.float(), taught)

    def fit_linear(
        self, features: Tensor, labels: Tensor, strength: float, start: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return weight (K, F) and bias (K,) of a ridge regression, by scikit-learn's exact solution.

        The loss is half of the squared error, whatever the task's own loss is. ``start`` is not needed.
        """
        from sklearn.linear_model import Ridge  # takes a while to import

        means, deviations = self._statistics(labels.device)
        targets = ((labels - means) / deviations).to(features.dtype)
        # The penalty is beside the mean over the samples and the numbers; scikit-learn's beside their sum.
        model = Ridge(alpha=strength * targets.numel()).fit(features.numpy(), targets.numpy())
        weight = torch.from_numpy(model.coef_).reshape(self.output_size, -1)
        return weight.to(features.dtype), torch.from_numpy(model.intercept_).to(features.dtype).reshape(-1)

    def probe_bytes(self, train: int, validation: int, width: int) -> int:
        """Return the most bytes of fitting in float32, or of scoring.

        Fitting takes the features around their mean, a matrix of the products of features, or of rows if
        these are fewer, which is factorized, and twice the targets. Scoring takes four numbers in float64 for
        each output.
        """
        fitted = train * width + 2 * min(train, width) ** 2 + 2 * train * self.output_size
        return max(4 * fitted, 8 * 4 * validation * self.output_size)

    def score(self, outputs: Tensor, labels: Tensor) -> dict[str, float]:
        """Return the metrics in the labels' unit; with several numbers, their mean over the numbers."""
        return {metric.name: self.value(metric.name, outputs, labels) for metric in self.metrics}

    def value(self, metric: str, outputs: Tensor, labels: Tensor) -> float:
        """Return one metric; it is no number if an output is none."""
        from scipy.stats import pearsonr  # takes a while to import
        from sklearn.metrics import accuracy_score, f1_score, mean_absolute_error, root_mean_squared_error

        if not outputs.isfinite().all():
            return math.nan
        truth, predicted = labels.double().numpy(), self._in_own_unit(outputs.double()).numpy()
        if metric == "mae":
            return float(mean_absolute_error(truth, predicted))
        if metric == "rmse":
            return float(root_mean_squared_error(truth, predicted))
        if metric == "pearson_r":
            varied = (np.ptp(truth, axis=0) > 0) & (np.ptp(predicted, axis=0) > 0)  # else there is none
            both = zip(truth.T[varied], predicted.T[varied], strict=True)
            return float(sum(pearsonr(*pair).statistic for pair in both) / self.output_size)
        truth, predicted = truth[:, 0], predicted[:, 0]
        if metric == "acc7":
            return float(accuracy_score(_rounded(truth), _rounded(predicted)))
        counts, upper = _two_classes(metric)
        counted = counts(truth)
        if not counted.any():
            return 0.0
        classes = upper(truth[counted]), upper(predicted[counted])
        if metric.startswith("acc2"):
            return float(accuracy_score(*classes))
        return float(f1_score(*classes, average="weighted", zero_division=0))

    def answers(self, outputs: Tensor, present: Mapping[str, Tensor], top: int = 10) -> list[dict[str, Any]]:
        """Return each sample's number in the labels' unit, or a list of them if there are several."""
        return [{"value": value} for value in self.decode(self._in_own_unit(outputs.double()))]

    def row_values(self, metric: str, outputs: Tensor, labels: Tensor) -> Tensor | None:
        """Return each sample's absolute error, or whether its class is right; others are no such means."""
        predicted = self._in_own_unit(outputs.double())
        if metric == "mae":
            return (predicted - labels.double()).abs().mean(dim=1)
        if metric == "acc7":
            classes = (_rounded(each.double().numpy()) for each in (labels, predicted))
        elif metric in ("acc2", "acc2_positive"):
            _, upper = _two_classes(metric)
            classes = (upper(each.double().numpy()) for each in (labels, predicted))
        else:
            return None
        truth, found = classes
        return torch.from_numpy(truth == found).double().flatten()

    def resampled_values(self, metric: str, outputs: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
        """Return the root of the squared error, r, or a figure of two classes in several resamples (R,)."""
        if not outputs.isfinite().all():
            return torch.full((len(weights),), math.nan, dtype=weights.dtype)
        truth, predicted = labels.double(), self._in_own_unit(outputs.double())
        if metric == "rmse":
            return _means((predicted - truth) ** 2, weights).sqrt().mean(dim=1)
        if metric == "pearson_r":
            return _correlations(truth, predicted, weights).mean(dim=1)
        counts, upper = _two_classes(metric)
        counted = counts(truth[:, 0])
        weights = weights[:, counted]
        classes = [upper(each[counted]) for each in (truth, predicted)]
        if metric.startswith("acc2"):
            return (weights @ (classes[0] == classes[1]).double())[:, 0] / weights.sum(dim=1).clamp(min=1)
        there, found = (torch.cat([~each, each], dim=1) for each in classes)
        return weighted_f1_of(*class_counts(there, found, weights))

    def guess(self, labels: Tensor) -> dict[str, float]:
        """Return the better of what the labels' median and their mean reach, predicted for all samples."""
        means, deviations = self._statistics(labels.device)
        standard = (labels - means) / deviations
        middles = standard.median(dim=0).values, standard.mean(dim=0)
        both = [self.score(middle.expand(labels.shape), labels) for middle in middles]
        better = {"minimize": min, "maximize": max}
        return {m.name: better[m.direction](scores[m.name] for scores in both) for m in self.metrics}

    def in_words(self) -> str:
        """Return the number of numbers, their range, and the loss."""
        what = "a number" if self.output_size == 1 else f"{self.output_size} numbers"
        within = "" if self.range is None else f" from {self.range[0]:g} to {self.range[1]:g}"
        return f"{self.name} of {what}{within}, {self.loss_kind} loss"

    def summary(self) -> dict[str, Any]:
        """Return the number of numbers, and their range if there is one."""
        within = {} if self.range is None else {"range": list(self.range)}
        return {"numbers": self.output_size, **within}

    def to_record(self, guess: Mapping[str, float]) -> dict[str, Any]:
        """Return all that scores depend on."""
        return {**self.to_dict(), "guess": dict(guess)}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> tuple[Self, dict[str, float]]:
        """Return the task and the guess that ``to_record`` describes."""
        return cls.from_dict(record), record["guess"]

    def _statistics(self, device: torch.device) -> tuple[Tensor, Tensor]:
        return torch.tensor(self.means, device=device), torch.tensor(self.deviations, device=device)

    def _in_own_unit(self, outputs: Tensor) -> Tensor:
        means, deviations = self._statistics(outputs.device)
        return outputs * deviations + means


def _two_classes(metric: str) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    """Return which labels count for a metric of two classes, and which numbers belong to the upper class."""
    _, _, suffix = metric.removeprefix("weighted_").partition("_")
    return _TWO_CLASSES[f"_{suffix}" if suffix else ""]


def _means(values: Tensor, weights: Tensor) -> Tensor:
    """Return the means (R, K) of values (N, K) in several resamples with weights (R, N)."""
    return weights @ values / weights.sum(dim=1, keepdim=True)


def _correlations(truth: Tensor, predicted: Tensor, weights: Tensor) -> Tensor:
    """Return the correlations (R, K) of numbers (N, K) in several resamples; 0 where some are constant."""
    pair = [each - each.mean(dim=0) for each in (truth, predicted)]  # so that little is lost to rounding
    (one, other), (first, second) = pair, (_means(each, weights) for each in pair)
    together = _means(one * other, weights) - first * second
    squares = [_means(each**2, weights) for each in pair]
    variances = [square - mean**2 for square, mean in zip(squares, (first, second), strict=True)]
    varied = [each > _CONSTANT * square for each, square in zip(variances, squares, strict=True)]
    found = together / (variances[0] * variances[1]).clamp(min=0).sqrt()
    return found.where(varied[0] & varied[1], 0.0)


def _rounded(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the class of each number for ``acc7``, as MMSA and MulT count them."""
    return np.round(np.clip(values, *_SEVEN)).astype(np.int64)


def _read_range(column: LabelColumn) -> tuple[float, float] | None:
    """Return the range in a dataset's description."""
    stored = column.metadata("range")
    if stored is None:
        return None
    try:
        low, high = map(float, stored)
    except (TypeError, ValueError):
        low = high = 0.0
    if not low < high:  # which is so for NaN, too
        raise UserError(f"{column.where}: schema key paretofuse.range is {stored}; write e.g. [-3, 3]")
    return low, high
