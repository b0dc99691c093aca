"""Names of classes and tags: those that a dataset states, and those that are taken from labels."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, NamedTuple

from trainables.errors import UserError
from trainables.tasks.labels import LabelColumn, Seen, listed

#: Texts that often stand for a missing value.
_LIKE_NOTHING = {"nan", "none", "null", "n/a", "na", "<na>", "nat", "#n/a", "-", "?"}

#: What often stands between the tags of a text.
_DELIMITERS = ("|", ";", ",")

_SHOWN = 5  # names in a message


class Stated(NamedTuple):
    """The classes that a dataset's description states.

    Attributes:
        names: Their names, in the order of their indices.
        codes: The whole number that stands for each of them in labels.
    """

    names: tuple[str, ...]
    codes: tuple[int, ...]


def stated_names(column: LabelColumn) -> Stated | None:
    """Return what ``paretofuse.classes`` states; None if it is not there.

    It is a list of names, whose indices are the numbers of the classes; a list of whole numbers, which are
    names, too; or an object of names by number, or of numbers by name.

    Raises:
        UserError: If it is none of them, or if a name or number is there twice.
    """
    stated = column.metadata("classes")
    if stated is None:
        return None
    pairs: list[tuple[Any, Any]] = []
    if isinstance(stated, list):
        pairs = [(name if type(name) is int else index, name) for index, name in enumerate(stated)]
    elif isinstance(stated, dict):
        numbered = all(type(value) is int for value in stated.values())
        pairs = [(value, key) if numbered else (_number(key), value) for key, value in stated.items()]
        pairs.sort(key=lambda pair: -1 if pair[0] is None else pair[0])
    codes, names = ([pair[part] for pair in pairs] for part in (0, 1))
    names = [str(name).strip() if type(name) in (int, str) else "" for name in names]
    key = f"{column.where}: schema key paretofuse.classes"
    if not names or None in codes or not all(names):
        raise UserError(
            f'{key} is {str(stated)[:80]}; write a list of names, such as ["red", "green"], or an object of '
            'names by number, such as {"0": "red", "1": "green"}'
        )
    column.require_few(len(names))
    for what, values in (("name", names), ("number", codes)):
        value, count = Counter(values).most_common(1)[0]
        if count > 1:
            raise UserError(f"{key} has the {what} {value!r} more than once")
    return Stated(tuple(names), tuple(codes))


def _number(text: str) -> int | None:
    return int(text) if text.lstrip("-").isdecimal() else None


def name_of(value: Any) -> str:
    """Return the name of the class that a label is: the label as text, without space around it.

    >>> name_of(" red "), name_of(3.0), name_of(True)
    ('red', '3', 'True')
    """
    whole = isinstance(value, float) and value.is_integer()
    return str(int(value)) if whole else str(value).strip()


def by_name(found: Mapping[Any, Seen]) -> dict[str, Seen]:
    """Return where each class occurs, in the order of classes: numbers by their size, and texts by letter.

    Args:
        found: Where each label occurs, see ``LabelColumn.counted``.
    """
    names: dict[str, Seen] = {}
    for value in sorted(found):
        name, seen = name_of(value), found[value]
        other = names.get(name, Seen(0, seen.first))
        names[name] = Seen(other.rows + seen.rows, min(other.first, seen.first))
    if any(isinstance(value, str) for value in found):  # space before a name has its own place
        return dict(sorted(names.items()))
    return names


def require_distinct(where: str, names: Iterable[str]) -> None:
    """Check that no two names look alike: that they differ by more than case, space or hidden characters.

    Raises:
        UserError: If some do not; the message lists the first few.
    """
    alike: dict[str, list[str]] = {}
    for name in dict.fromkeys(names):
        alike.setdefault(_look(name), []).append(name)
    groups = [group for group in alike.values() if len(group) > 1]
    if groups:
        shown = "; ".join(listed(list(map(written, group))) for group in groups[:_SHOWN])
        more = f"; and {len(groups) - _SHOWN} more" if len(groups) > _SHOWN else ""
        raise UserError(
            f"{where}: names that differ only by case, space or hidden characters: {shown}{more}; "
            "write each in one way, or if they differ indeed, list all in the schema key paretofuse.classes"
        )


def delimiter_of(names: Sequence[str]) -> str | None:
    """Return what may stand between tags in names: what splits them into fewer parts than there are names."""
    for delimiter in _DELIMITERS:
        if any(delimiter in name for name in names):
            parts = {part.strip() for name in names for part in name.split(delimiter)}
            if len(parts) < len(names):
                return delimiter
    return None


def require_shared(
    where: str, what: str, train: AbstractSet[str], split: str, others: AbstractSet[str]
) -> None:
    """Check that a split has any of the training rows' classes or tags, unless it has none at all.

    Raises:
        UserError: If it shares none of them.
    """
    if others and not train & others:
        some, different = (few_names(sorted(names)) for names in (train, others))
        out = "; take its labels away to search without a test score" if split == "test" else ""
        raise UserError(
            f"{where}: no {what} of {split} is in train: train has {some}, {split} has {different}{out}"
        )


def _look(name: str) -> str:
    """Return what a reader sees of a name, without regard to case and to the amount of space."""
    composed = unicodedata.normalize("NFC", name)
    seen = (c for c in composed if c.isspace() or unicodedata.category(c) not in ("Cc", "Cf"))
    return " ".join("".join(seen).casefold().split())


def written(name: str) -> str:
    """Return a name in quotation marks, with what cannot be told by looking at it written as escapes."""
    telling = name.isprintable() and unicodedata.normalize("NFC", name) == name
    short = name if len(name) <= 40 else f"{name[:39]}…"
    return repr(short) if telling else ascii(short)


def few_names(names: Sequence[str]) -> str:
    """Return the first few of some names in words."""
    more = [f"{len(names) - _SHOWN:,} more"] if len(names) > _SHOWN else []
    return listed([*map(written, names[:_SHOWN]), *more])


def remarks_on_names(column: LabelColumn, found: Mapping[str, Mapping[Any, Seen]]) -> list[str]:
    """Return what a user should know about how names were read from labels, in lines.

    Args:
        column: The label column.
        found: Where each label occurs, by split.
    """
    lines = []
    spaced = {s: [v for v in values if isinstance(v, str) and v != v.strip()] for s, values in found.items()}
    rows = sum(found[split][value].rows for split, values in spaced.items() for value in values)
    if rows:
        example = next(value for values in spaced.values() for value in values)
        lines.append(f"space around labels does not count: {rows:,} have some, such as {written(example)}")
    for value, seen in found["train"].items():
        if isinstance(value, str) and value.strip().casefold() in _LIKE_NOTHING:
            having = "1 train row has" if seen.rows == 1 else f"{seen.rows:,} train rows have"
            lines.append(f"{written(value.strip())} is taken as a name, which {having}")
    return lines
