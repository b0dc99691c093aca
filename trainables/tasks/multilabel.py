"""Multilabel classification: each sample has any number of tags."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import fmean
from typing import Any, Self

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor
from torch.nn import functional as F

from trainables.errors import UserError
from trainables.tasks.base import Metric, Task, lbfgs_bytes, likeliest
from trainables.tasks.f1 import class_counts, f1_of
from trainables.tasks.labels import LabelColumn, is_list, is_text
from trainables.tasks.names import (
    by_name,
    few_names,
    name_of,
    remarks_on_names,
    require_distinct,
    require_shared,
    stated_names,
)
from trainables.tasks.registry import register_task
from trainables.tasks.tags import Tags, split_text, tags_of

#: Where L-BFGS ends: largest entry of the gradient of a tag's mean loss, and number of iterations.
_TOLERANCE, _ITERATIONS = 1e-4, 1000

#: Output for a tag that no sample has; that for a tag that all have is its opposite.
_NEVER = -20.0


@register_task
@dataclass(frozen=True)
class Multilabel(Task):
    """Each sample has any number of tags. Labels (B, C) are 1 for its tags and else 0; outputs are logits.

    Labels are stored as a list of tags, as a text with a delimiter between tags, or as a list that says 1 or
    0 for each tag. A sample without tags is a valid one. A tag that only held-out rows have is no output and
    is not scored.

    Attributes:
        classes: The tags, in the order of the outputs.
        delimiter: What stands between two tags of a text; empty if labels are lists.
        weights: How much the samples with a tag count in its loss; empty if they count as those without it.
        tunes: Whether ``tuned`` fits thresholds.
        thresholds: The least logit with which each tag is predicted; empty for 0, a probability of 0.5.
        indicators: Whether labels are lists that say 1 or 0 for each tag.
        codes: The whole numbers that stand for the tags in lists of tags, if the dataset states them.
            Otherwise a number is the name of its tag.
        unseen: The tags that only held-out rows have.
    """

    classes: tuple[str, ...]
    delimiter: str = ""
    weights: tuple[float, ...] = ()
    tunes: bool = False
    thresholds: tuple[float, ...] = ()
    indicators: bool = False
    codes: tuple[int, ...] = ()
    unseen: tuple[str, ...] = ()

    name = "multilabel"
    metrics = (
        Metric("macro_f1", "maximize", 0.0, 1.0, "%", "macro F1 at the end of training"),
        Metric("micro_f1", "maximize", 0.0, 1.0, "%", "micro F1 at the end of training"),
        Metric("map", "maximize", 0.0, 1.0, "%", "mean average precision at the end of training", "mAP"),
        Metric("tag_accuracy", "maximize", 0.0, 1.0, "%", "share of right answers over all tags", "tag acc."),
        Metric(
            "tag_weighted_f1",
            "maximize",
            0.0,
            1.0,
            "%",
            "weighted F1 of yes and no, mean over tags",
            "tag F1",
        ),
        Metric("loss", "minimize", None, 0.0, "", "loss on held-out data at the end of training"),
    )
    settings = ("class_weights", "thresholds", "tag_delimiter")
    label_types = "lists of tags (string or whole number) or of 1 and 0, or texts with a delimiter"

    @classmethod
    def takes(cls, kind: pa.DataType) -> bool:
        """Return whether labels may be stored as this type: texts, or lists of texts, numbers or booleans."""
        if not is_list(kind):
            return is_text(kind)
        inner = kind.value_type
        if pa.types.is_dictionary(inner):
            inner = inner.value_type
        known = (is_text, pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_null)
        return any(check(inner) for check in known)

    @classmethod
    def hides(cls, column: LabelColumn, split: str) -> bool:
        """Return whether no row of a split has a label, or none has a tag: there is nothing to score."""
        return super().hides(column, split) or not tags_of(column, split).seen

    @classmethod
    def of_column(cls, column: LabelColumn) -> Self:
        """Return the task of a column, with the tags that the dataset states, or else those of train.

        Raises:
            UserError: If labels are no tags, if names are hard to tell apart, or if a tag is none of those
                that are stated.
        """
        task = replace(cls._unweighted(column), tunes=column.settings.thresholds == "tuned")
        if column.settings.class_weights == "none":
            return task
        labels = column.encoded(task, "train")
        counts = labels.sum(dim=0)
        weights = torch.where(counts > 0, len(labels) / counts.clamp(min=1), 1.0)
        return replace(task, weights=tuple(weights.tolist()))

    @classmethod
    def _unweighted(cls, column: LabelColumn) -> Self:
        stated, train = stated_names(column), tags_of(column, "train")
        if train.is_text and not column.delimiter:
            raise UserError(
                f"{column.where} has texts; say what stands between two tags, e.g. --tag-delimiter '|'"
            )
        size = train.indicated(column, None if stated is None else len(stated.names))
        delimiter = (column.delimiter or "") if train.is_text else ""
        if size is not None:
            names = tuple(map(str, range(size))) if stated is None else stated.names
            return cls(names, indicators=True)
        if not train.seen:
            raise UserError(f"{column.where} has no tags in train")
        found = {split: tags_of(column, split) for split in column.splits}
        if stated is not None:
            task = cls(stated.names, delimiter, codes=stated.codes)
            task._require_stated(column, found)
            return task
        if any(
            isinstance(tag, float) and not tag.is_integer() for tags in found.values() for tag in tags.seen
        ):
            raise UserError(f"{column.where} has fractions, no tags; try --task regression")
        everywhere = by_name({tag: seen for tags in found.values() for tag, seen in tags.seen.items()})
        require_distinct(column.where, everywhere)
        return cls(
            (*train.named,), delimiter, unseen=tuple(tag for tag in everywhere if tag not in train.named)
        )

    def _require_stated(self, column: LabelColumn, found: Mapping[str, Tags]) -> None:
        """Raise ``UserError`` if a tag is none of those that the dataset states."""
        for split, tags in found.items():
            others = {tag: seen for tag, seen in tags.seen.items() if self._index_of(tag) is None}
            if others:
                first = min(seen.first for seen in others.values())
                raise UserError(
                    f"{column.where}: {split} has tags that are none of the {self.output_size} that "
                    f"paretofuse.classes states: {few_names([*by_name(others)])} (first in "
                    f"{column.words(split, [first])[0]})"
                )

    def require_learnable(self, column: LabelColumn) -> None:
        """Check that every split has a tag of train.

        Raises:
            UserError: If one has others only.
        """
        train = tags_of(column, "train").named.keys()
        for split in () if self.indicators else column.splits:
            require_shared(column.where, "tag", train, split, tags_of(column, split).named.keys())

    def remarks(self, column: LabelColumn) -> list[str]:
        """Return which tags only held-out rows have, and what is odd about names."""
        found = {split: tags_of(column, split) for split in column.splits}
        lines = [] if self.indicators else remarks_on_names(column, {s: t.seen for s, t in found.items()})
        for split, tags in found.items():
            unseen = [tag for tag in tags.named if tag in self.unseen]
            if unseen:
                times = sum(tags.named[tag].rows for tag in unseen)
                lines.append(
                    f"{split}: {'a tag is' if len(unseen) == 1 else f'{len(unseen):,} tags are'} in no train "
                    f"row ({few_names(unseen)}, {times:,} times); not scored"
                )
            if tags.repeated and not self.indicators:
                rows = "1 row has" if tags.repeated == 1 else f"{tags.repeated:,} rows have"
                lines.append(f"{split}: {rows} a tag twice, which counts once")
        return lines

    @classmethod
    def of_size(cls, output_size: int) -> Self:
        """Return the task with this number of tags, named by their indices."""
        return cls(tuple(str(index) for index in range(output_size)))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return the task that ``to_dict`` describes; unknown entries are ignored."""
        return cls(
            tuple(values["classes"]),
            values.get("delimiter", ""),
            tuple(values.get("class_weights", ())),
            values.get("tunes", False),
            tuple(values.get("thresholds", ())),
            values.get("indicators", False),
            tuple(values.get("codes", ())),
            tuple(values.get("unseen", ())),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the task's fields."""
        return {
            **self.encoding(),
            "class_weights": list(self.weights),
            "tunes": self.tunes,
            "thresholds": list(self.thresholds),
        }

    def encoding(self) -> dict[str, Any]:
        """Return the task's name, the tags, and how labels are stored."""
        described: dict[str, Any] = {
            "task": self.name,
            "classes": list(self.classes),
            "delimiter": self.delimiter,
            "indicators": self.indicators,
        }
        others = {"codes": list(self.codes), "unseen": list(self.unseen)}
        return described | {name: values for name, values in others.items() if values}

    @property
    def output_size(self) -> int:
        """The number of tags C."""
        return len(self.classes)

    def encode(self, values: Sequence[Any], where: str = "row", first: int = 0) -> Tensor:
        """Return for each sample and tag whether it has it (N, C), as 1 or 0 in uint8.

        Raises:
            UserError: If a label is missing, has an unknown tag, or is not of the form of ``Multilabel``.
        """
        unseen = set(self.unseen)
        labels = torch.zeros(len(values), self.output_size, dtype=torch.uint8)
        for row, value in enumerate(values):
            at = f"{where} {first + row}"
            if value is None:
                raise UserError(f"{at}: the label is missing; a row without tags has an empty list")
            if self.indicators:
                if value and (len(value) != self.output_size or not set(value) <= {0, 1}):
                    raise UserError(
                        f"{at}: label {value} is not a 1 or 0 for each of {self.output_size} tags"
                    )
                labels[row] = torch.tensor(value or [0] * self.output_size)
                continue
            for tag in split_text(value, self.delimiter) if isinstance(value, str) else value:
                index = self._index_of(tag)
                if index is not None:
                    labels[row, index] = 1
                elif tag is None or name_of(tag) not in unseen:
                    raise UserError(f"{at}: tag {tag!r} is none of the {self.output_size} tags")
        return labels

    def _index_of(self, tag: Any) -> int | None:
        """Return the index of a tag; None if it is no output."""
        if tag is None or isinstance(tag, str) or not self.codes:
            return None if tag is None else self._by_name.get(name_of(tag))
        return self._by_code.get(tag)

    @cached_property
    def _by_name(self) -> dict[str, int]:
        return {name: index for index, name in enumerate(self.classes)}

    @cached_property
    def _by_code(self) -> dict[Any, int]:
        return {code: index for index, code in enumerate(self.codes)}

    def decode(self, labels: Tensor) -> list[Any]:
        """Return the tags of each sample of labels (N, C), in the form in which they are stored."""
        if self.indicators:
            return labels.tolist()
        tags = [self._named(row) for row in labels]
        return [self.delimiter.join(each) for each in tags] if self.delimiter else tags

    def example_labels(self, rows: int) -> Tensor:
        """Return labels in which sample i has the tags i and i + 1, counted around; one tag every second."""
        row, tag = torch.arange(rows)[:, None], torch.arange(self.output_size)
        if self.output_size == 1:
            return (row % 2).to(torch.uint8)
        behind = (tag - row).remainder(self.output_size)
        return (behind < min(2, self.output_size - 1)).to(torch.uint8)

    @property
    def loss_kind(self) -> str:
        """Whether samples with a tag are weighed."""
        return "weighted" if self.weights else ""

    def loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Return the binary cross entropy of logits (B, C), the mean over samples and tags."""
        weights = torch.tensor(self.weights, device=outputs.device) if self.weights else None
        return F.binary_cross_entropy_with_logits(outputs.float(), labels.float(), pos_weight=weights)

    def teaching(self, outputs: Tensor) -> Tensor:
        """Return the probabilities (B, C) of logits."""
        return outputs.detach().float().sigmoid()

    def distillation(self, outputs: Tensor, taught: Tensor) -> Tensor:
        """Return the mean binary cross entropy between logits (B, C) and target probabilities (B, C)."""
        return F.binary_cross_entropy_with_logits(outputs.float(), taught)

    def fit_linear(
        self, features: Tensor, labels: Tensor, strength: float, start: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return weight (C, F) and bias (C,) of a logistic regression for each tag, by scikit-learn.

        Each is fitted by L-BFGS and ends where no entry of its gradient is above 1e-4, or after 1,000
        iterations. A tag that no sample has, or that all have, gets the weight 0 and the bias -20 or 20.
        """
        from sklearn.exceptions import ConvergenceWarning  # takes a while to import
        from sklearn.linear_model import LogisticRegression

        weight = torch.zeros(self.output_size, features.shape[1], dtype=features.dtype)
        bias = torch.full((self.output_size,), _NEVER, dtype=features.dtype)
        given = features.numpy()
        for tag, column in enumerate(labels.T.numpy()):
            if column.min() == column.max():  # which scikit-learn refuses
                bias[tag] = -_NEVER if column[0] else _NEVER
                continue
            # The loss of the task is the mean over tags, too.
            model = LogisticRegression(
                C=1 / (strength * len(column) * self.output_size),
                tol=_TOLERANCE,
                max_iter=_ITERATIONS,
                warm_start=start is not None,
            )
            if start is not None:
                model.classes_ = np.array([0, 1], dtype=column.dtype)
                model.coef_, model.intercept_ = (each[tag : tag + 1].numpy() for each in start)
            counted = np.where(column, self.weights[tag], 1.0) if self.weights else None
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                model.fit(given, column, counted)
            weight[tag], bias[tag] = torch.from_numpy(model.coef_[0]), float(model.intercept_[0])
        return weight, bias

    def probe_bytes(self, train: int, validation: int, width: int) -> int:
        """Return the most bytes of fitting one tag after the other, or of scoring.

        The state of a fit may still be there in the next one. For each row, F1 takes 16 bytes a tag, and
        average precision 85 bytes and 5 a tag.
        """
        scored = validation * max(16 * self.output_size, 85 + 5 * self.output_size)
        return max(lbfgs_bytes(train, width, 2), scored)

    def score(self, outputs: Tensor, labels: Tensor) -> dict[str, float]:
        """Return F1, mean average precision and the mean loss, in which samples are not weighed.

        Macro F1 is the mean over all tags; a tag that is neither there nor predicted counts as 0. Average
        precision is the mean over the tags that occur. ``tag_accuracy`` and ``tag_weighted_f1`` take each tag
        as a question whose answers yes and no count alike, as MulT (Tsai et al., ACL 2019) does for the
        emotions of IEMOCAP.
        """
        return {metric.name: self.value(metric.name, outputs, labels) for metric in self.metrics}

    def value(self, metric: str, outputs: Tensor, labels: Tensor) -> float:
        """Return one metric."""
        from sklearn.metrics import average_precision_score, f1_score  # takes a while to import

        if metric == "loss":
            return F.binary_cross_entropy_with_logits(outputs, labels.float()).item()
        truth = labels.numpy()
        if metric == "map":
            there = truth.any(axis=0)
            if not there.any() or not outputs.isfinite().all():
                return 0.0 if not there.any() else math.nan
            return float(average_precision_score(truth[:, there], outputs.numpy()[:, there]))
        predicted = self._predicted(outputs).numpy()
        if metric == "tag_accuracy":
            return float((predicted == truth).mean())
        if metric == "tag_weighted_f1":
            columns = zip(truth.T, predicted.T, strict=True)
            return fmean(f1_score(*column, average="weighted", zero_division=0) for column in columns)
        # One column would count as two classes
        average = "binary" if self.output_size == 1 else metric.removesuffix("_f1")
        return float(f1_score(truth, predicted, average=average, zero_division=0))

    def tuned(self, outputs: Tensor, labels: Tensor) -> Self:
        """Return the task with the threshold of each tag that gives its best F1, if it tunes them.

        A threshold is midway between the two outputs that it separates. Of equally good ones, the highest is
        taken. A tag that never occurs keeps a probability of 0.5.
        """
        if not self.tunes or not outputs.isfinite().all():
            return self
        columns = zip(outputs.T.numpy(), labels.T.numpy(), strict=True)
        return replace(self, thresholds=tuple(_best_threshold(*column) for column in columns))

    def answers(self, outputs: Tensor, present: Mapping[str, Tensor], top: int = 10) -> list[dict[str, Any]]:
        """Return each sample's tags, in the order of ``classes``, and the probabilities of the likeliest.

        The thresholds decide which are its tags. A tag may have one that is above or below 0.5.
        """
        tags = [self._named(row) for row in self._predicted(outputs)]
        likely = likeliest(self.classes, outputs.double().sigmoid(), top)
        return [{"tags": own, "probabilities": p} for own, p in zip(tags, likely, strict=True)]

    def row_values(self, metric: str, outputs: Tensor, labels: Tensor) -> Tensor | None:
        """Return the loss or the share of right tags of each sample; the other metrics are no such means."""
        if metric == "tag_accuracy":
            return (self._predicted(outputs) == labels.bool()).float().mean(dim=1)
        if metric != "loss":
            return None
        return F.binary_cross_entropy_with_logits(outputs, labels.float(), reduction="none").mean(dim=1)

    def resampled_values(self, metric: str, outputs: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
        """Return F1 or mean average precision in several resamples (R,)."""
        if metric == "map":
            return _mean_average_precision(outputs, labels, weights)
        right, predicted, there = class_counts(labels.bool(), self._predicted(outputs), weights)
        if metric == "micro_f1":
            return f1_of(right.sum(dim=1), predicted.sum(dim=1), there.sum(dim=1))
        yes, rows = f1_of(right, predicted, there), weights.sum(dim=1, keepdim=True)
        if metric == "macro_f1":
            return yes.mean(dim=1)
        no = f1_of(rows - predicted - there + right, rows - predicted, rows - there)
        return ((there * yes + (rows - there) * no) / rows).mean(dim=1)

    def guess(self, labels: Tensor) -> dict[str, float]:
        """Return what is reached by the same prediction for all samples.

        F1 is that of predicting every tag, which is the best such prediction for macro F1, and micro F1 the
        best one of predicting the most frequent tags. The loss is that of the share of samples with each tag,
        and mean average precision the mean of these shares over the tags that occur. For each tag as a
        question, the more frequent answer is predicted.
        """
        shares = labels.double().mean(dim=0)
        there = shares[shares > 0]
        ordered = shares.sort(descending=True).values
        predicted = torch.arange(1, len(ordered) + 1)
        micro = 2 * ordered.cumsum(dim=0) / (predicted + shares.sum())
        frequent = torch.maximum(shares, 1 - shares)
        entropy = -(torch.xlogy(shares, shares) + torch.xlogy(1 - shares, 1 - shares))
        return {
            "macro_f1": (2 * shares / (1 + shares)).mean().item(),
            "micro_f1": micro.max().item(),
            "map": there.mean().item() if len(there) else 0.0,
            "tag_accuracy": frequent.mean().item(),
            "tag_weighted_f1": (2 * frequent**2 / (1 + frequent)).mean().item(),
            "loss": entropy.mean().item(),
        }

    def in_words(self) -> str:
        """Return the number of tags, whether samples are weighed, and how thresholds are found."""
        weighed = ", samples with a tag weighed by the inverse of their share" if self.weights else ""
        tuned = ", thresholds tuned on validation" if self.tunes else ""
        return f"{self.name}, {self.output_size} tags{weighed}{tuned}"

    def summary(self) -> dict[str, Any]:
        """Return the number of tags."""
        return {"tags": self.output_size}

    def _named(self, row: Tensor) -> list[str]:
        """Return the tags of a sample of which (C,) says whether it has them."""
        return [self.classes[tag] for tag in row.nonzero().flatten().tolist()]

    def _predicted(self, outputs: Tensor) -> Tensor:
        """Return the tags that logits (N, C) predict, as booleans."""
        return outputs >= (torch.tensor(self.thresholds) if self.thresholds else 0.0)


def _mean_average_precision(outputs: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Return mean average precision in several resamples, see ``Multilabel.resampled_values``."""
    if not outputs.isfinite().all():
        return torch.full((len(weights),), math.nan, dtype=weights.dtype)
    by_row = weights.T.contiguous()
    total = torch.zeros(len(weights), dtype=weights.dtype)
    occurring = torch.zeros_like(total)
    for scores, truth in zip(-outputs.T, labels.T.bool(), strict=True):
        # The outputs of samples that have the tag are thresholds, of which each finds some more samples.
        thresholds = scores[truth].unique()
        first = torch.searchsorted(thresholds, scores.contiguous())
        none = torch.zeros(len(thresholds) + 1, len(weights), dtype=weights.dtype)
        found = none.index_add(0, first, by_row)
        right = none.index_add(0, first[truth], by_row[truth])
        precision = right.cumsum(dim=0) / found.cumsum(dim=0).clamp(min=1)
        there = right.sum(dim=0)
        total += (precision * right).sum(dim=0) / there.clamp(min=1)
        occurring += there > 0
    return total / occurring.clamp(min=1)


def _best_threshold(outputs: np.ndarray, truth: np.ndarray) -> float:
    """Return the threshold of outputs (N,) with the best F1 against labels (N,)."""
    from sklearn.metrics import precision_recall_curve  # takes a while to import

    if not truth.any():
        return 0.0
    precision, recall, thresholds = precision_recall_curve(truth, outputs)
    with np.errstate(invalid="ignore"):
        f1 = np.nan_to_num(2 * precision * recall / (precision + recall))[:-1]
    best = len(f1) - 1 - int(f1[::-1].argmax())
    least = float(thresholds[best])
    below = outputs[outputs < least]
    return (least + float(below.max())) / 2 if len(below) else least
