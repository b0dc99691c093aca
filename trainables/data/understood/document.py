"""What is shown of a dataset. Everything here is JSON once it is a dictionary."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from trainables.data.bad_rows import Alike
from trainables.data.repeats import repeat_warnings
from trainables.data.splits import SPLITS

#: Share of a modality's tokens that may be unknown to the tokeniser before it is a warning.
_UNKNOWN = 0.05

_NAMED = 3  # names that a warning lists


@dataclass(frozen=True)
class Tokens:
    """Tokens of a modality of texts, over all rows that have a text.

    Attributes:
        encoder: Name of the encoder whose tokeniser counts.
        lengths: Percentiles of the number of tokens, special ones included, by percentage.
        unknown: Share of the tokens, without special ones, that the tokeniser does not know.
        length: Number of tokens to which a search cuts texts.
        cut: Share of the texts that are longer.
    """

    encoder: str
    lengths: Mapping[str, int]
    unknown: float
    length: int
    cut: float


@dataclass(frozen=True)
class Column:
    """A modality.

    Attributes:
        kind: Its kind.
        column: Name of its column.
        missing: Number of rows by split in which it is missing.
        empty: Number of rows by split whose text has no letters.
        distinct: Number of distinct values.
        repeated: By split, the number of rows whose value an earlier row of the split has.
        across: By split, and by each split before it, the number of rows whose value a row of that has.
        constant: Whether all values are equal.
        sizes: Percentiles by percentage of each size: ``width`` and ``height`` in pixels, ``seconds``, number
            of ``vectors`` and of their ``numbers``.
        tokens: What the tokeniser makes of texts; None for other kinds, or without an encoder.
        side: Side in pixels of the squares that a search makes of pictures; None for other kinds, or without
            an encoder.
        without_encoder: Why there is no encoder; None if there is one, or none is needed.
    """

    kind: str
    column: str
    missing: Mapping[str, int]
    empty: Mapping[str, int]
    distinct: int
    repeated: Mapping[str, int]
    across: Mapping[str, Mapping[str, int]]
    constant: bool
    sizes: Mapping[str, Mapping[str, float]]
    tokens: Tokens | None
    side: int | None
    without_encoder: str | None


@dataclass(frozen=True)
class Labels:
    """The labels.

    Attributes:
        column: Name of their column; None if the task has no labels.
        task: Name of the task.
        decided: Who says so, in words.
        in_words: The task in a line.
        counts: The number of rows by class or tag, by split that has labels; None if there are no classes.
            Classes that only held-out rows have come last.
        range: The least, mean and largest of each number of a label, by split that has labels; None if labels
            are no numbers.
    """

    column: str | None
    task: str
    decided: str
    in_words: str
    counts: Mapping[str, Mapping[str, int]] | None
    range: Mapping[str, list[list[float]]] | None

    @property
    def never_in_train(self) -> list[str]:
        """The classes that no training row has."""
        return [] if self.counts is None else [c for c, n in self.counts[SPLITS[0]].items() if not n]

    @property
    def train_only(self) -> list[str]:
        """The classes that only training rows have."""
        if self.counts is None:
            return []
        train = self.counts[SPLITS[0]]
        others = [self.counts[split] for split in SPLITS[1:] if split in self.counts]
        return [c for c, n in train.items() if n and not any(other[c] for other in others)]


@dataclass(frozen=True)
class Understood:
    """A dataset.

    Attributes:
        dataset: Its name.
        format: Its format; empty if it is included.
        files: The files that were read, with the number of rows of each.
        rows: Number of rows by split.
        modalities: The modalities by name.
        labels: The labels.
        classes: The names of the classes or tags, in the order of their indices; None if there are none.
        equal_rows: By split other than train, the number of rows that equal a training row in all modalities.
        bad: Rows that cannot be read, by modality and reason.
        unused: Columns that have no meaning here.
        notes: What is to be known of how it was read.
    """

    dataset: str
    format: str
    files: Mapping[str, int]
    rows: Mapping[str, int]
    modalities: Mapping[str, Column]
    labels: Labels
    classes: list[str] | None
    equal_rows: Mapping[str, int]
    bad: tuple[Alike, ...]
    unused: tuple[str, ...]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON object."""
        document = asdict(self)
        document["labels"] |= {
            "never_in_train": self.labels.never_in_train,
            "train_only": self.labels.train_only,
        }
        return {**document, "warnings": self.warnings}

    @property
    def warnings(self) -> list[str]:
        """What probably is not as the user wants it, a sentence each."""
        found = []
        for name, column in self.modalities.items():
            found += repeat_warnings(
                name, column.kind, column.across, column.distinct, column.constant, self.rows
            )
            tokens = column.tokens
            if tokens is not None and tokens.unknown >= _UNKNOWN:
                found.append(
                    f"{tokens.unknown:.0%} of the tokens of {name} are unknown to the tokeniser of "
                    f"'{tokens.encoder}'".replace("%", " %", 1)
                )
        if self.bad:
            found.append(f"cannot be read: {', '.join(each.in_words for each in self.bad)}")
        for split, count in self.equal_rows.items():
            if count:
                found.append(
                    f"{count:,} of {self.rows[split]:,} {split} rows are in train with all they have"
                )
        if never := [name for name in self.labels.never_in_train if name in (self.classes or ())]:
            found.append(f"{_listed(never)} stated, but in no training row")
        return found


def _listed(names: list[str]) -> str:
    """Say that some classes are, in words that go on."""
    shown = ", ".join(f"'{name}'" for name in names[:_NAMED])
    more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
    return f"class {shown} is" if len(names) == 1 else f"classes {shown}{more} are"
