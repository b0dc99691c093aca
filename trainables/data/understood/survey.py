"""Looks at each row of a dataset once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from trainables.data.bad_rows import BadRow, alike
from trainables.data.identities import EMPTY, MISSING, identity
from trainables.data.kinds import Content, Unreadable
from trainables.data.repeats import Repeats
from trainables.data.source import Dataset
from trainables.data.splits import SPLITS
from trainables.data.understood.document import Column, Labels, Tokens, Understood
from trainables.data.understood.sizes import OF_SIZES, SIZES, percentiles, size_of
from trainables.data.understood.tokens import count_tokens
from trainables.errors import UserError
from trainables.towers import EncoderSource

_READ = 256  # rows read at a time

#: Called with what is being done, how much is done, and how much there is.
Progress = Callable[[str, int, int], None]


def understand(
    dataset: Dataset,
    encoder: Callable[[str], EncoderSource],
    *,
    text_length: int | None = None,
    image_size: int | None = None,
    progress: Progress = lambda what, done, total: None,
) -> Understood:
    """Look at all rows of a dataset.

    Args:
        dataset: The dataset.
        encoder: Returns the encoder of a modality of texts or images, or raises ``UserError``; what needs it
            is then left out.
        text_length: Number of tokens to which texts are cut; None is that which a search chooses.
        image_size: Side of images in pixels; None is that of the encoder.
        progress: See ``Progress``.

    Raises:
        UserError: If a file is damaged, or if there is nothing to learn from the labels.
    """
    dataset.require_learnable()
    labels, classes = _labels(dataset)
    seen = {modality: _Seen(modality, where.kind) for modality, where in dataset.modalities.items()}
    columns = [where.column for where in dataset.modalities.values()]
    for split in SPLITS:
        done, total = 0, dataset.count(split)
        for batch in dataset.batches(split, columns, _READ):
            for modality, found in seen.items():
                found.add(split, dataset.contents(modality, batch), done)
            done += batch.num_rows
            progress(f"{split} rows", done, total)
    return Understood(
        dataset=dataset.name,
        format=dataset.format,
        files=_files(dataset),
        rows={split: dataset.count(split) for split in SPLITS},
        modalities={
            modality: _column(dataset, modality, found, encoder, text_length, image_size, progress)
            for modality, found in seen.items()
        },
        labels=labels,
        classes=classes,
        equal_rows=_equal_rows(seen),
        bad=tuple(alike(dataset, [row for found in seen.values() for row in found.bad])),
        unused=_unused(dataset, labels.column),
        notes=(*dataset.notes, *dataset.remarks),
    )


@dataclass
class _Seen:
    """What was seen of a modality.

    Attributes:
        modality: Its name.
        kind: Its kind.
        values: By split, the identity of each row's value.
        sizes: The sizes of each distinct value.
        texts: The distinct texts by identity.
        bad: The rows that cannot be read.
    """

    modality: str
    kind: str
    values: dict[str, list[bytes | None]] = field(default_factory=lambda: {split: [] for split in SPLITS})
    sizes: dict[bytes, tuple[float, ...] | Unreadable] = field(default_factory=dict)
    texts: dict[bytes, str] = field(default_factory=dict)
    bad: list[BadRow] = field(default_factory=list)

    def add(self, split: str, contents: list[Content], first: int) -> None:
        """Look at the values of some rows of a split, the first of which has the number ``first``."""
        for row, content in enumerate(contents, first):
            value = identity(content)
            if value is None:
                size: Any = content
            elif value == MISSING:
                size = ()
            else:
                if value not in self.sizes:
                    self.sizes[value] = size_of(self.kind, content)
                    if isinstance(content, str):
                        self.texts[value] = content
                size = self.sizes[value]
            if isinstance(size, Unreadable):
                self.bad.append(BadRow(split, row, self.modality, size))
                value = None
            self.values[split].append(value)


def _column(
    dataset: Dataset,
    modality: str,
    seen: _Seen,
    encoder: Callable[[str], EncoderSource],
    text_length: int | None,
    image_size: int | None,
    progress: Progress,
) -> Column:
    """Return what is shown of a modality."""
    repeats = Repeats.of(seen.values)
    tokens, side, without = None, image_size if seen.kind == "image" else None, None
    try:
        if seen.texts:
            what, total = f"texts of {modality}", len(seen.texts)
            tokens = _tokens(seen, encoder(modality), text_length, lambda done: progress(what, done, total))
        elif seen.kind == "image" and side is None:
            side = encoder(modality).image_size
    except UserError as error:
        without = str(error)
    there = [seen.sizes[value] for values in seen.values.values() for value in values if value]
    measured = np.array(there, dtype=float).reshape(len(there), -1)
    return Column(
        kind=seen.kind,
        column=dataset.modalities[modality].column,
        missing={split: len(rows) for split, rows in repeats.missing.items()},
        empty={split: sum(value == EMPTY for value in values) for split, values in seen.values.items()},
        distinct=repeats.distinct,
        repeated=repeats.within,
        across=repeats.across,
        constant=repeats.constant,
        sizes={
            name: percentiles(measured[:, place], OF_SIZES)
            for place, name in enumerate(SIZES[seen.kind])
            if len(measured)
        },
        tokens=tokens,
        side=side,
        without_encoder=without,
    )


def _tokens(
    seen: _Seen, encoder: EncoderSource, text_length: int | None, tick: Callable[[int], None]
) -> Tokens:
    """Return what the tokeniser makes of the texts that were seen."""
    numbers = {value: number for number, value in enumerate(seen.texts)}
    counts = np.zeros((len(SPLITS), len(numbers) + 1), dtype=np.int64)
    for of_split, values in zip(counts, seen.values.values(), strict=True):
        np.add.at(of_split, [numbers[value] for value in values if value], 1)
    rows, train = counts.sum(axis=0), counts[0]
    train[-1] = seen.values[SPLITS[0]].count(MISSING)  # a search takes them as empty texts
    return count_tokens(encoder, [*seen.texts.values(), ""], rows, train, text_length, tick)


def _equal_rows(seen: Mapping[str, _Seen]) -> dict[str, int]:
    """Return by split how many rows a training row equals in all modalities, and has them all."""
    rows = {split: [*zip(*(found.values[split] for found in seen.values()), strict=True)] for split in SPLITS}
    train = {row for row in rows[SPLITS[0]] if all(row)}
    return {split: sum(row in train for row in rows[split]) for split in SPLITS[1:]}


def _labels(dataset: Dataset) -> tuple[Labels, list[str] | None]:
    """Return what is shown of the labels, and the names of classes; None if there are none."""
    task = dataset.task
    if not task.has_labels:
        return Labels(None, task.name, dataset.decided, task.in_words(), None, None), None
    encoded = {split: dataset.labels(split) for split in dataset.labeled}
    described = task.to_dict()
    classes: list[str] | None = described.get("classes")
    counts = spread = None
    if classes is None:
        spread = {split: _spread(labels) for split, labels in encoded.items()}
    else:
        names = [*classes, *described.get("unseen", ())]
        counts = {
            split: dict(zip(names, _counted(labels, len(names)), strict=False))
            for split, labels in encoded.items()
        }
    return Labels(dataset.label, task.name, dataset.decided, task.in_words(), counts, spread), classes


def _counted(labels: torch.Tensor, classes: int) -> list[int]:
    """Return the number of rows of each class (N,), or of each tag (N, K) that can be predicted."""
    if labels.ndim == 1:
        return labels.bincount(minlength=classes).tolist()
    return labels.sum(dim=0).long().tolist()


def _spread(labels: torch.Tensor) -> list[list[float]]:
    """Return the least, mean and largest of each number of labels (N,) or (N, K)."""
    numbers = labels.double().reshape(len(labels), -1)
    found = torch.stack([numbers.amin(dim=0), numbers.mean(dim=0), numbers.amax(dim=0)], dim=1)
    return found.tolist()


def _files(dataset: Dataset) -> dict[str, int]:
    """Return the number of rows of each file; those of one name in several folders are counted together."""
    found: dict[str, int] = {}
    for part in (part for parts in dataset.parts.values() for part in parts):
        found[part.name] = found.get(part.name, 0) + part.count()
    return found


def _unused(dataset: Dataset, label: str | None) -> tuple[str, ...]:
    """Return the columns of the files that are neither a modality nor the label."""
    used = {label, *(where.column for where in dataset.modalities.values())}
    there = dict.fromkeys(
        column for parts in dataset.parts.values() for part in parts for column in part.schema.names
    )
    return tuple(column for column in there if column not in used)
