"""Classification: each sample has one class."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor
from torch.nn import functional as F

from trainables.errors import UserError
from trainables.tasks.base import LabelColumn, Metric, Task
from trainables.tasks.registry import register_task

#: Where L-BFGS ends: largest entry of the gradient of the mean loss, and number of iterations.
_TOLERANCE, _ITERATIONS = 1e-4, 1000

#: Output for a class that no sample has.
_NEVER = -20.0


@register_task
@dataclass(frozen=True)
class Classification(Task):
    """Each sample has one class. Labels (B,) are class indices and outputs (B, C) are logits.

    Attributes:
        classes: Class names, in the order of their indices.
        weights: How much a sample of each class counts in the loss; empty if all count the same.
    """

    classes: tuple[str, ...]
    weights: tuple[float, ...] = ()

    name = "classification"
    metrics = (
        Metric("accuracy", "maximize", 0.0, 1.0, "%", "accuracy at the end of training", "acc", True),
        Metric("macro_f1", "maximize", 0.0, 1.0, "%", "macro F1 at the end of training"),
        Metric("weighted_f1", "maximize", 0.0, 1.0, "%", "weighted F1 at the end of training"),
        Metric("loss", "minimize", None, 0.0, "", "loss on held-out data at the end of training"),
    )
    smooths_labels = True
    settings = ("class_weights",)
    label_types = "class names (string) or indices (whole numbers)"

    @classmethod
    def takes(cls, kind: pa.DataType) -> bool:
        """Return whether labels may be stored as this type: strings, numbers or booleans."""
        known = (
            pa.types.is_string,
            pa.types.is_large_string,
            pa.types.is_integer,
            pa.types.is_floating,
            pa.types.is_boolean,
        )
        return any(check(kind) for check in known)

    @classmethod
    def of_column(cls, column: LabelColumn) -> Self:
        """Return the task of a column, with the classes in the dataset's description or else all that occur.

        Raises:
            UserError: If the description lists no classes and a label is empty or a fraction, or if classes
                are weighed and a label is no class.
        """
        task = cls._unweighted(column)
        if column.settings.class_weights == "none":
            return task
        labels = column.encoded(task, "train")
        counts = torch.bincount(labels, minlength=task.output_size)
        seen = counts > 0
        # So that they are 1 in the mean over the rows; a class that no row has cannot be weighed.
        weights = torch.where(seen, len(labels) / (seen.sum() * counts.clamp(min=1)), 1.0)
        return replace(task, weights=tuple(weights.tolist()))

    @classmethod
    def _unweighted(cls, column: LabelColumn) -> Self:
        described = column.metadata("classes")
        if described is not None:
            return cls(tuple(described))
        found: set[Any] = set()
        for split in column.splits:
            for labels in column.values(split):
                found.update(map(_whole, labels.unique().to_pylist()))
        if None in found:
            raise UserError(f"{column.where} has empty labels")
        for value in found:
            if isinstance(value, float):
                raise UserError(f"{column.where} has the label {value}, no class; try --task regression")
        if all(type(value) is int for value in found):  # isinstance would accept bool
            return cls.of_size(max(found) + 1)
        return cls(tuple(sorted(map(str, found))))

    @classmethod
    def of_size(cls, output_size: int) -> Self:
        """Return the task with this number of classes, named by their indices."""
        return cls(tuple(str(index) for index in range(output_size)))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return the task that ``to_dict`` describes; unknown entries are ignored."""
        return cls(tuple(values["classes"]), tuple(values.get("class_weights", ())))

    def to_dict(self) -> dict[str, Any]:
        """Return the task's name, the names of the classes, and their weights if they have some."""
        return {**self.encoding(), **({"class_weights": list(self.weights)} if self.weights else {})}

    def encoding(self) -> dict[str, Any]:
        """Return the task's name and the names of the classes."""
        return {"task": self.name, "classes": list(self.classes)}

    @property
    def output_size(self) -> int:
        """The number of classes C."""
        return len(self.classes)

    def encode(self, values: Sequence[Any], where: str = "row", first: int = 0) -> Tensor:
        """Return class indices (N,). Whole numbers are taken as indices, other labels as class names.

        Raises:
            UserError: If a label is not a class; the message names its row.
        """
        index = {name: number for number, name in enumerate(self.classes)}
        labels = []
        for row, value in enumerate(map(_whole, values), first):
            label = value if type(value) is int else -1 if value is None else index.get(str(value), -1)
            if not 0 <= label < len(index):
                raise UserError(f"{where} {row}: label {value!r} is none of the {len(index)} classes")
            labels.append(label)
        return torch.tensor(labels, dtype=torch.long)

    def decode(self, labels: Tensor) -> list[str]:
        """Return the names of class indices (N,)."""
        return [self.classes[label] for label in labels.tolist()]

    def example_labels(self, rows: int) -> Tensor:
        """Return the indices of all classes in turn."""
        return torch.arange(rows).remainder_(self.output_size)

    @property
    def loss_kind(self) -> str:
        """Whether classes are weighed."""
        return "weighted" if self.weights else ""

    def loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Return the mean cross entropy of logits (B, C), each sample weighed by its class."""
        return self.smoothed_loss(outputs, labels, 0.0)

    def smoothed_loss(self, outputs: Tensor, labels: Tensor, smoothing: float) -> Tensor:
        """Return the mean cross entropy of logits (B, C) with smoothed labels.

        It is divided by the number of samples, not by the sum of their weights, so that it does not depend on
        how samples are put together in batches.

        Source: Szegedy et al., Rethinking the Inception architecture (CVPR 2016), Sec. 7.
        """
        if not self.weights:
            return F.cross_entropy(outputs.float(), labels, label_smoothing=smoothing)
        weights = torch.tensor(self.weights, device=outputs.device)
        total = F.cross_entropy(outputs.float(), labels, weights, reduction="sum", label_smoothing=smoothing)
        return total / len(labels)

    def teaching(self, outputs: Tensor) -> Tensor:
        """Return the softmax probabilities (B, C) of logits."""
        return outputs.detach().float().softmax(dim=-1)

    def distillation(self, outputs: Tensor, taught: Tensor) -> Tensor:
        """Return the mean cross entropy between logits (B, C) and target probabilities (B, C)."""
        return F.cross_entropy(outputs.float(), taught)

    def fit_linear(
        self, features: Tensor, labels: Tensor, strength: float, start: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return weight (C, F) and bias (C,) of a logistic regression, by scikit-learn's L-BFGS.

        It ends where no entry of the gradient is above 1e-4, or after 1,000 iterations. The outputs of the
        classes that the labels show add up to 0, so that one of them is at least 0. The bias of any other
        class is -20, which makes its probability less than 3e-9.
        """
        from sklearn.exceptions import ConvergenceWarning  # takes a while to import
        from sklearn.linear_model import LogisticRegression

        seen, rows = np.unique(labels.numpy(), return_inverse=True)
        weight = torch.zeros(self.output_size, features.shape[1], dtype=features.dtype)
        bias = torch.full((self.output_size,), _NEVER, dtype=features.dtype)
        if len(seen) == 1:  # which scikit-learn refuses
            bias[seen] = 0
            return weight, bias
        model = LogisticRegression(
            C=1 / (strength * len(rows)), tol=_TOLERANCE, max_iter=_ITERATIONS, warm_start=start is not None
        )
        counted = np.array(self.weights)[seen][rows] if self.weights else None
        if start is not None:
            model.coef_, model.intercept_ = (each[seen].numpy() for each in start)
        if start is not None and len(seen) == 2:  # scikit-learn has their difference
            model.coef_, model.intercept_ = np.diff(model.coef_, axis=0), np.diff(model.intercept_)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(features.numpy(), rows, counted)
        fitted = [torch.from_numpy(each) for each in (model.coef_, model.intercept_)]
        if len(seen) == 2:
            fitted = [torch.cat([-each, each]) / 2 for each in fitted]
        weight[seen], bias[seen] = fitted
        return weight, bias

    def score(self, outputs: Tensor, labels: Tensor) -> dict[str, float]:
        """Return accuracy, F1 and the mean loss, in which classes are not weighed.

        Macro F1 is the mean over the classes that occur among the labels or predictions. Weighted F1 weighs
        them by their number of labels.
        """
        return {metric.name: self.value(metric.name, outputs, labels) for metric in self.metrics}

    def value(self, metric: str, outputs: Tensor, labels: Tensor) -> float:
        """Return one metric, rounded to float32."""
        from sklearn.metrics import accuracy_score, f1_score  # takes a while to import

        if metric == "loss":
            return F.cross_entropy(outputs, labels).item()
        truth, predicted = labels.numpy(), outputs.argmax(dim=1).numpy()
        if metric == "accuracy":
            return float(np.float32(accuracy_score(truth, predicted)))
        if metric == "weighted_f1":
            return float(np.float32(f1_score(truth, predicted, average="weighted", zero_division=0)))
        each = f1_score(truth, predicted, average=None, zero_division=0)
        return torch.from_numpy(each).float().mean().item()

    def row_values(self, metric: str, outputs: Tensor, labels: Tensor) -> Tensor | None:
        """Return for each sample whether it is right, or its cross entropy; F1 is no such mean."""
        if metric == "accuracy":
            return (outputs.argmax(dim=1) == labels).float()
        if metric == "loss":
            return F.cross_entropy(outputs, labels, reduction="none")
        return None

    def guess(self, labels: Tensor) -> dict[str, float]:
        """Return the accuracy of always predicting the most frequent class, and the loss of equal logits."""
        counts = torch.bincount(labels, minlength=self.output_size)
        return self._guess(int(counts.max()) / len(labels))

    def in_words(self) -> str:
        """Return the number of classes, and whether they are weighed."""
        weighed = ", weighed by their inverse number of training rows" if self.weights else ""
        return f"{self.name} into {self.output_size} classes{weighed}"

    def summary(self) -> dict[str, Any]:
        """Return the number of classes."""
        return {"classes": self.output_size}

    def to_record(self, guess: Mapping[str, float]) -> dict[str, Any]:
        """Return the number of classes and the share of the most frequent one."""
        return {"classes": self.output_size, "majority": guess["accuracy"]}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> tuple[Self, dict[str, float]]:
        """Return the task and the guess that ``to_record`` describes."""
        task = cls.of_size(record["classes"])
        return task, task._guess(record["majority"])

    def _guess(self, majority: float) -> dict[str, float]:
        return {"accuracy": majority, "loss": math.log(self.output_size)}


def _whole(value: Any) -> Any:
    """Return a whole number that is stored as a float as an integer, and anything else as it is."""
    return int(value) if isinstance(value, float) and value.is_integer() else value
