"""Classification: each sample has one class."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor
from torch.nn import functional as F

from trainables.errors import UserError
from trainables.tasks.base import Metric, Task, likeliest
from trainables.tasks.f1 import class_counts, f1_of, weighted_f1_of
from trainables.tasks.labels import LabelColumn, Seen, is_text
from trainables.tasks.names import (
    by_name,
    delimiter_of,
    few_names,
    name_of,
    remarks_on_names,
    require_distinct,
    require_shared,
    stated_names,
    written,
)
from trainables.tasks.registry import register_task

#: Where L-BFGS ends: largest entry of the gradient of the mean loss, and number of iterations.
_TOLERANCE, _ITERATIONS = 1e-4, 1000

#: Up to this number of classes, there may be as many as rows: small data to try something.
_FEW_CLASSES = 20

#: Output for a class that no sample has.
_NEVER = -20.0


@register_task
@dataclass(frozen=True)
class Classification(Task):
    """Each sample has one class. Labels (B,) are class indices and outputs (B, C) are logits.

    A class that only held-out rows have is no output. Its index follows those of the outputs, so that such a
    row is never right, and its class has an F1 of 0. In the held-out loss it counts ln C, as much as a guess
    loses. Training rows never have such a class.

    Attributes:
        classes: Class names, in the order of their indices.
        weights: How much a sample of each class counts in the loss; empty if all count the same.
        codes: The whole numbers that stand for the classes in labels, if the dataset states them. Otherwise a
            number is the name of its class.
        unseen: Names of the classes that only held-out rows have, whose indices come next.
    """

    classes: tuple[str, ...]
    weights: tuple[float, ...] = ()
    codes: tuple[int, ...] = ()
    unseen: tuple[str, ...] = ()

    name = "classification"
    metrics = (
        Metric("accuracy", "maximize", 0.0, 1.0, "%", "accuracy at the end of training", "acc", True),
        Metric("macro_f1", "maximize", 0.0, 1.0, "%", "macro F1 at the end of training"),
        Metric("weighted_f1", "maximize", 0.0, 1.0, "%", "weighted F1 at the end of training"),
        Metric("loss", "minimize", None, 0.0, "", "loss on held-out data at the end of training"),
    )
    smooths_labels = True
    settings = ("class_weights",)
    label_types = "class names (string), whole numbers or booleans"

    @classmethod
    def takes(cls, kind: pa.DataType) -> bool:
        """Return whether labels may be stored as this type: strings, numbers or booleans."""
        known = (is_text, pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean)
        return any(check(kind) for check in known)

    @classmethod
    def hides(cls, column: LabelColumn, split: str) -> bool:
        """Return whether no row of a split has a label, or all have -1, which is no class of train."""
        if super().hides(column, split):
            return True
        return {*column.counted(split)} == {-1} and -1 not in column.counted("train")

    @classmethod
    def of_column(cls, column: LabelColumn) -> Self:
        """Return the task of a column, with the classes that the dataset states, or else those of train.

        Raises:
            UserError: If the labels are no classes, if almost every row has its own, if names are hard to
                tell apart, or if a label is none of the classes that are stated.
        """
        task = cls._unweighted(column)
        if column.settings.class_weights == "none":
            return task
        counts = torch.zeros(task.output_size)
        for value, seen in column.counted("train").items():
            counts[task._index(value)] += seen.rows
        there = counts > 0
        # So that they are 1 in the mean over the rows; a class that no row has cannot be weighed.
        weights = torch.where(there, counts.sum() / (there.sum() * counts.clamp(min=1)), 1.0)
        return replace(task, weights=tuple(weights.tolist()))

    @classmethod
    def _unweighted(cls, column: LabelColumn) -> Self:
        stated = stated_names(column)
        found = {split: column.counted(split) for split in column.splits}
        if stated is None:
            return cls._of_values(column, found)
        task = cls(stated.names, codes=stated.codes)
        task._require_stated(column, found)
        return task

    @classmethod
    def _of_values(cls, column: LabelColumn, found: Mapping[str, Mapping[Any, Seen]]) -> Self:
        """Return the task whose classes are the values that the labels have in train.

        Args:
            column: The label column.
            found: Where each label occurs, by split.
        """
        for split, values in found.items():
            for value, seen in values.items():
                if isinstance(value, float) and not value.is_integer():
                    (row,) = column.words(split, [seen.first])
                    raise UserError(
                        f"{column.where} has the label {value} ({row}), no class; try --task regression"
                    )
        classes = by_name(found["train"])
        _require_repeated(column, classes)
        everywhere = by_name({value: seen for values in found.values() for value, seen in values.items()})
        require_distinct(column.where, everywhere)
        return cls((*classes,), unseen=tuple(name for name in everywhere if name not in classes))

    def _require_stated(self, column: LabelColumn, found: Mapping[str, Mapping[Any, Seen]]) -> None:
        """Raise ``UserError`` if a label is none of the classes that the dataset states."""
        for split, values in found.items():
            others = {value: seen for value, seen in values.items() if self._index_of(value) is None}
            if others:
                rows = sum(seen.rows for seen in others.values())
                first = sorted(seen.first for seen in others.values())
                raise UserError(
                    f"{column.where}: {rows:,} of {column.gaps(split).of:,} {split} rows "
                    f"({column.rows_in_words(split, first, rows)}) are of none of the {self.output_size} "
                    f"classes that paretofuse.classes states, but {few_names([*by_name(others)])}"
                )

    def require_learnable(self, column: LabelColumn) -> None:
        """Check that train has two classes or more, and every other split one of them.

        Raises:
            UserError: If not.
        """
        names = (*self.classes, *self.unseen)
        there = {s: {names[self._index(value)] for value in column.counted(s)} for s in column.splits}
        if len(there["train"]) == 1:
            raise UserError(
                f"{column.where}: all train rows are of one class, {few_names([*there['train']])}; there is "
                "nothing to tell apart"
            )
        for split, others in there.items():
            require_shared(column.where, "class", there["train"], split, others)

    def remarks(self, column: LabelColumn) -> list[str]:
        """Return which classes only held-out rows have, and what is odd about names."""
        found = {split: column.counted(split) for split in column.splits}
        lines = remarks_on_names(column, found)
        delimiter = delimiter_of(self.classes)
        if delimiter is not None and not self.codes:
            example = next(name for name in self.classes if delimiter in name)
            lines.append(
                f"{written(example)} is taken as one class; if '{delimiter}' stands between tags, add "
                f"--tag-delimiter '{delimiter}'"
            )
        for split, values in found.items():
            unseen = {v: seen for v, seen in values.items() if self._index(v) >= self.output_size}
            if unseen:
                names = [*by_name(unseen)]
                rows = sum(seen.rows for seen in unseen.values())
                lines.append(
                    f"{split}: {rows:,} of {column.gaps(split).of:,} rows are of "
                    f"{'a class' if len(names) == 1 else f'{len(names):,} classes'} that train lacks "
                    f"({few_names(names)}); they count as wrong"
                )
        return lines

    @classmethod
    def of_size(cls, output_size: int) -> Self:
        """Return the task with this number of classes, named by their indices."""
        return cls(tuple(str(index) for index in range(output_size)))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return the task that ``to_dict`` describes; unknown entries are ignored."""
        return cls(
            tuple(values["classes"]),
            tuple(values.get("class_weights", ())),
            tuple(values.get("codes", ())),
            tuple(values.get("unseen", ())),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the task's name, the names of the classes, and their weights if they have some."""
        return {**self.encoding(), **({"class_weights": list(self.weights)} if self.weights else {})}

    def encoding(self) -> dict[str, Any]:
        """Return the task's name, the names of the classes, and the numbers that stand for them."""
        described: dict[str, Any] = {"task": self.name, "classes": list(self.classes)}
        if self.codes:
            described["codes"] = list(self.codes)
        return {**described, "unseen": list(self.unseen)} if self.unseen else described

    @property
    def output_size(self) -> int:
        """The number of classes C."""
        return len(self.classes)

    def encode(self, values: Sequence[Any], where: str = "row", first: int = 0) -> Tensor:
        """Return class indices (N,) of names, or of whole numbers, see ``Classification``.

        Raises:
            UserError: If a label is not a class; the message names its row.
        """
        labels = []
        for row, value in enumerate(values, first):
            label = self._index_of(value)
            if label is None:
                raise UserError(f"{where} {row}: label {value!r} is none of the {self.output_size} classes")
            labels.append(label)
        return torch.tensor(labels, dtype=torch.long)

    def _index(self, value: Any) -> int:
        """Return the index of a label's class, which is known."""
        index = self._index_of(value)
        assert index is not None
        return index

    def _index_of(self, value: Any) -> int | None:
        """Return the index of a label's class; None if it is none."""
        named = None if value is None else self._by_name.get(name_of(value))
        if not self.codes or isinstance(value, str) or (isinstance(value, bool) and named is not None):
            return named
        return self._by_code.get(value)

    @cached_property
    def _by_name(self) -> dict[str, int]:
        return {name: index for index, name in enumerate((*self.classes, *self.unseen))}

    @cached_property
    def _by_code(self) -> dict[Any, int]:
        return {code: index for index, code in enumerate(self.codes)}

    def decode(self, labels: Tensor) -> list[str]:
        """Return the names of class indices (N,)."""
        names = (*self.classes, *self.unseen)
        return [names[label] for label in labels.tolist()]

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

        Each sample is weighed by its class, which is that of its label before smoothing. The sum is divided
        by the number of samples, not by the sum of their weights, so that it does not depend on how samples
        are put together in batches.

        Source: Szegedy et al., Rethinking the Inception architecture (CVPR 2016), Sec. 7.
        """
        if not self.weights:
            return F.cross_entropy(outputs.float(), labels, label_smoothing=smoothing)
        weights = torch.tensor(self.weights, device=outputs.device)
        if not smoothing:
            return F.cross_entropy(outputs.float(), labels, weights, reduction="sum") / len(labels)
        # Weights given to PyTorch would weigh each class's share of a smoothed label by that class
        losses = F.cross_entropy(outputs.float(), labels, reduction="none", label_smoothing=smoothing)
        return (losses * weights[labels]).mean()

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
        """Return accuracy, F1 and the mean loss, in which classes are not weighed; see ``Classification``.

        Macro F1 is the mean over the classes that occur among the labels or predictions. Weighted F1 weighs
        them by their number of labels.
        """
        return {metric.name: self.value(metric.name, outputs, labels) for metric in self.metrics}

    def value(self, metric: str, outputs: Tensor, labels: Tensor) -> float:
        """Return one metric, rounded to float32."""
        from sklearn.metrics import accuracy_score, f1_score  # takes a while to import

        if metric == "loss":
            losses = self._losses(outputs, labels) if self.unseen else F.cross_entropy(outputs, labels)
            return losses.mean().item()
        truth, predicted = labels.numpy(), outputs.argmax(dim=1).numpy()
        if metric == "accuracy":
            return float(np.float32(accuracy_score(truth, predicted)))
        if metric == "weighted_f1":
            return float(np.float32(f1_score(truth, predicted, average="weighted", zero_division=0)))
        each = f1_score(truth, predicted, average=None, zero_division=0)
        return torch.from_numpy(each).float().mean().item()

    def answers(self, outputs: Tensor, present: Mapping[str, Tensor], top: int = 10) -> list[dict[str, Any]]:
        """Return the name of each sample's class, its probability, and those of the likeliest classes."""
        probabilities = outputs.double().softmax(dim=1)
        best = outputs.argmax(dim=1)
        rows = zip(
            self.decode(best),
            probabilities.gather(1, best[:, None])[:, 0].tolist(),
            likeliest(self.classes, probabilities, top),
            strict=True,
        )
        return [dict(zip(("label", "probability", "probabilities"), row, strict=True)) for row in rows]

    def row_values(self, metric: str, outputs: Tensor, labels: Tensor) -> Tensor | None:
        """Return for each sample whether it is right, or its cross entropy; F1 is no such mean."""
        if metric == "accuracy":
            return (outputs.argmax(dim=1) == labels).float()
        return self._losses(outputs, labels) if metric == "loss" else None

    def resampled_values(self, metric: str, outputs: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
        """Return macro or weighted F1 in several resamples (R,), from the counts of classes."""
        count = self.output_size + len(self.unseen)
        truth, predicted = (F.one_hot(each, count).bool() for each in (labels, outputs.argmax(dim=1)))
        counts = class_counts(truth, predicted, weights)
        if metric == "weighted_f1":
            return weighted_f1_of(*counts)
        occurs = counts[1] + counts[2] > 0
        return (f1_of(*counts) * occurs).sum(dim=1) / occurs.sum(dim=1)

    def _losses(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Return the held-out loss (N,) of each sample; that of a class that is no output is a constant."""
        losses = F.cross_entropy(outputs, labels.clamp(max=self.output_size - 1), reduction="none")
        return losses.where(labels < self.output_size, math.log(self.output_size))

    def guess(self, labels: Tensor) -> dict[str, float]:
        """Return the accuracy of always predicting the most frequent class, and the loss of equal logits."""
        counts = torch.bincount(labels, minlength=self.output_size)[: self.output_size]
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


def _require_repeated(column: LabelColumn, classes: Mapping[str, Seen]) -> None:
    """Raise ``UserError`` if most training rows have a class of their own, as those of an id have."""
    rows = sum(seen.rows for seen in classes.values())
    if len(classes) > max(_FEW_CLASSES, rows / 2):
        raise UserError(
            f"{column.where} has {len(classes):,} distinct values in {rows:,} train rows; is it the label? "
            "Numbers to predict take --task regression"
        )
