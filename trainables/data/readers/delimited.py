"""Text files with a line for each row and a delimiter between columns: CSV, TSV and the like."""

from __future__ import annotations

import csv
import io
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from trainables.data.columns import columns_taken
from trainables.data.readers.base import Found, Reader, register_reader
from trainables.data.readers.naming import ending_of, has_split_files, or_gzipped
from trainables.data.readers.opening import read_text
from trainables.data.readers.tables import Numbered, TablePart, read_tables
from trainables.errors import UserError
from trainables.reading_settings import ReadingSettings

_ENDINGS = or_gzipped((".csv", ".tsv", ".tab", ".psv"))
_DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "|"}

_SAMPLE = 2**18  # characters in which the delimiter is looked for
_NAMED = 5  # lines that a message names
_SHOWN = 60  # characters of a line that a message shows

#: A first line that is a row, not a header: a file's name, or a number.
_DATA = re.compile(
    r"\S.*\.(jpe?g|png|gif|bmp|webp|tiff?|wav|mp3|flac|ogg|m4a)|[-+]?\d+([.,]\d+)?", re.IGNORECASE
)

#: Reasons why lines are no rows.
_LEFT_OPEN = "a quotation mark that is left open, so that the next lines belong to it"
_MISPLACED = "a quotation mark within a text in quotes"

#: What tells rows of other lines from text: a file's name, or one of a few values.
_FILE = re.compile(r"[^\s,;]+\.\w{2,5}")
_FEW = 50


@register_reader
class Delimited(Reader):
    """A CSV or TSV file, or one for each split: ``train.csv``, ``validation.csv``, ``test.csv``."""

    name = "csv"
    description = "CSV or TSV file with a header, or a folder with one for each split"

    def recognises(self, path: Path) -> bool:
        """Return whether a file's name ends so, or a folder has such files with the names of splits."""
        return has_split_files(path, _ENDINGS) if path.is_dir() else ending_of(path.name) in _ENDINGS

    def read(self, name: str, path: Path, settings: ReadingSettings) -> Found:
        """Return the rows of the files. All cells are texts; paths are relative to the file's folder."""
        taken = columns_taken(settings.columns)
        found, notes = read_tables(name, path, _ENDINGS, read_table, taken)
        return Found(found, path if path.is_dir() else path.parent, {}, notes, untyped=True)


@dataclass
class _Lines:
    """The rows of a file, as they are read.

    Attributes:
        header: The names of the columns.
        rows: The cells of each row.
        numbers: The number of each row's first line in the file, from 1.
        bad: Why lines are no rows, with their numbers.
        stray: The numbers of rows in which a quotation mark stands within a text that is not in quotes.
    """

    header: list[str]
    rows: list[list[str]] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    bad: dict[str, list[int]] = field(default_factory=dict)
    stray: list[int] = field(default_factory=list)


def read_table(name: str, path: Path) -> tuple[TablePart, list[str]]:
    """Return the rows of a file, and what the user should know about how they were read.

    Args:
        name: The dataset's name in error messages.
        path: The file.

    Raises:
        UserError: If lines do not fit the header, or there is none. The message names the lines.
    """
    where = f"dataset '{name}': {path.name}"
    text, coding = read_text(name, path)
    notes = [f"{path.name} is read as {coding}, not as UTF-8"] if coding else []
    stated = re.match(r"sep=(.)\r?\n", text)  # as Excel writes it
    skipped, text = (1, text[stated.end() :]) if stated else (0, text)
    if not text.strip():
        raise UserError(f"{where} is empty")
    delimiter = stated[1] if stated else _delimiter(where, text)
    lines = _read(where, text, delimiter, skipped, quoted=True)
    if lines.bad and delimiter == "\t":  # many programs write tabs and no quotes
        plain = _read(where, text, delimiter, skipped, quoted=False)
        if not plain.bad:
            lines = plain
            notes.append(f"{path.name} has quotation marks that quote nothing; they are kept")
    if lines.bad:
        raise _refused(where, lines, delimiter)
    if not lines.rows:
        raise UserError(f"{where} has a header and no rows")
    if lines.stray:
        numbers = _numbered(lines.stray)
        notes.append(f"{path.name}: quotation marks in texts that are not in quotes are kept ({numbers})")
    return TablePart(
        path.name, _table(where, lines, notes), Numbered(f"{path.name} line", lines.numbers)
    ), notes


def _table(where: str, lines: _Lines, notes: list[str]) -> pa.Table:
    """Return the named columns."""
    columns = list(zip(*lines.rows, strict=True))
    for header, column in zip(lines.header, columns, strict=True):
        if header and column.count(header) > 1:
            raise _no_header(where, lines.header)
    named = {header: column for header, column in zip(lines.header, columns, strict=True) if header}
    unnamed = [column for header, column in zip(lines.header, columns, strict=True) if not header]
    if sum(any(column) for column in unnamed) > 1:
        raise _no_header(where, lines.header)
    if any(any(column) for column in unnamed):
        notes.append(f"{where.rpartition(': ')[2]}: a column without a name is left out")
    return pa.table({header: pa.array(column, pa.large_string()) for header, column in named.items()})


def _delimiter(where: str, text: str) -> str:
    """Return the delimiter with which most lines have as many fields as the header.

    Raises:
        UserError: If the header has one field with all of them.
    """
    sample = text[:_SAMPLE]
    whole = len(sample) == len(text)
    best: tuple[float, int, str] | None = None
    for delimiter in _DELIMITERS:
        with _long_fields():
            rows = [row for row in csv.reader(io.StringIO(sample, newline=""), delimiter=delimiter) if row]
        header, others = rows[0], rows[1:] if whole or len(rows) < 3 else rows[1:-1]
        if len(header) < 2:
            continue
        share = sum(len(row) == len(header) for row in others) / max(len(others), 1)
        if best is None or (share, len(header)) > best[:2]:
            best = (share, len(header), delimiter)
    if best is None:
        first = text.lstrip("\r\n").splitlines()[0]
        known = ", ".join(_DELIMITERS.values())
        raise UserError(f"{where}: its first line, '{_shown(first)}', has no delimiter ({known})")
    return best[2]


def _read(where: str, text: str, delimiter: str, skipped: int, *, quoted: bool) -> _Lines:
    """Return the rows of a text, and which lines are none.

    Raises:
        UserError: If the first line is no header.
    """
    first = next((line for line in io.StringIO(text) if line.strip()), "")
    spaced = delimiter != "\t" and first.count(delimiter) == first.count(f"{delimiter} ")
    written: list[str] = []  # the lines of a row
    quoted_text = re.compile(
        rf'(?:^|(?<={re.escape(delimiter)})) *"(?:[^"]|"")*" *(?={re.escape(delimiter)}|\r?\n?$)'
    )
    reader = csv.reader(
        _kept(io.StringIO(text, newline=""), written),
        delimiter=delimiter,
        strict=True,
        skipinitialspace=spaced,
        quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE,
    )
    lines: _Lines | None = None
    several: list[int] = []  # places of the rows that stand in several lines
    with _long_fields():
        while True:
            number = reader.line_num + 1 + skipped
            written.clear()
            try:
                row = next(reader)
            except StopIteration:
                break
            except csv.Error:
                reason = _LEFT_OPEN if reader.line_num + skipped > number else _MISPLACED
                if lines is None:
                    raise UserError(f"{where} line {number} has {reason}") from None
                lines.bad.setdefault(reason, []).append(number)
                continue
            if lines is None:
                if row:
                    lines = _Lines(_header(where, row))
                continue
            if not row or (
                not row[0].strip() and not any(map(str.strip, row))
            ):  # as Excel writes below the last row
                continue
            if len(row) != len(lines.header):
                reason = f"{len(row)} field{'s' if len(row) > 1 else ''}, the header {len(lines.header)}"
                lines.bad.setdefault(reason, []).append(number)
                continue
            if quoted and any('"' in cell for cell in row) and '"' in quoted_text.sub("", "".join(written)):
                lines.stray.append(number)
            if reader.line_num + skipped > number:
                several.append(len(lines.rows))
            lines.rows.append(row)
            lines.numbers.append(number)
    assert lines is not None, "a text that is not blank has a first line"
    _find_swallowed(lines, several, delimiter)
    return lines


def _kept(lines: Iterable[str], kept: list[str]) -> Iterator[str]:
    """Yield lines, and add them to a list."""
    for line in lines:
        kept.append(line)
        yield line


def _header(where: str, row: list[str]) -> list[str]:
    """Return the names of the columns.

    Raises:
        UserError: If the line is no header, or a name is there twice.
    """
    names = [" ".join(cell.split()) for cell in row]
    if any(_DATA.fullmatch(name) for name in names) or not any(names):
        raise _no_header(where, names)
    twice = [name for name, count in Counter(filter(None, names)).items() if count > 1]
    if twice:
        shown = _shown(",".join(names))
        raise UserError(f"{where}: the header, '{shown}', has the column '{twice[0]}' twice; rename one")
    return names


def _no_header(where: str, first: Sequence[str]) -> UserError:
    """Return the error for a file whose first line is a row, or a title."""
    return UserError(
        f"{where} has no header: its first line is '{_shown(','.join(first))}'; write a first line with the "
        "names of all columns, such as image,text,label"
    )


def _find_swallowed(lines: _Lines, several: Sequence[int], delimiter: str) -> None:
    """Move rows to the bad lines whose quoted text has swallowed other rows.

    Such a text begins with a quotation mark that is left open, and ends at the next one. Its lines then look
    like rows: they have as many fields as the header, with the name of a file where other rows have one, and
    with a value that occurs where other rows have one of a few.
    """
    if not several:
        return
    skipped = {*several}
    singles = [row for place, row in enumerate(lines.rows) if place not in skipped]
    columns = list(zip(*singles, strict=True)) if singles else [()] * len(lines.header)
    few = [{*column} if len({*column}) <= min(_FEW, len(column) / 2) else None for column in columns]
    files = [bool(column) and all(map(_FILE.fullmatch, filter(None, column))) for column in columns]

    def is_row(line: str) -> bool:
        fields = [cell.strip().strip('"') for cell in line.split(delimiter)]
        if len(fields) != len(lines.header):
            return False
        return all(
            (not known or cell in known) and (not file or not cell or _FILE.fullmatch(cell))
            for cell, known, file in zip(fields, few, files, strict=True)
        )

    told = any(files) or any(known is not None for known in few)
    for place in several:
        written = delimiter.join(lines.rows[place])
        parts = [part for part in re.split(r"\r\n|\r|\n", written) if part.strip()]
        swallowed = sum(map(is_row, parts))
        if swallowed >= 2 and (told or swallowed >= len(parts)):
            lines.bad.setdefault(_LEFT_OPEN, []).append(lines.numbers[place])


def _refused(where: str, lines: _Lines, delimiter: str) -> UserError:
    """Return the error for lines that are no rows; they are counted by reason."""
    advice = f"put texts that hold a {_DELIMITERS.get(delimiter, delimiter)} or a line break in quotes"
    count = sum(map(len, lines.bad.values()))
    if count == 1:
        ((reason, (number,)),) = lines.bad.items()
        return UserError(f"{where} line {number} has {reason}; {advice}")
    reasons = sorted(lines.bad.items(), key=lambda item: -len(item[1]))
    said = [f"{len(numbers):,} have {reason} ({_numbered(numbers)})" for reason, numbers in reasons[:_NAMED]]
    rest = f"; {len(reasons) - _NAMED} other reasons" if len(reasons) > _NAMED else ""
    of = len(lines.rows) + count
    return UserError(f"{where}: {count:,} of {of:,} lines are no rows: {'; '.join(said)}{rest}; {advice}")


def _numbered(numbers: Sequence[int]) -> str:
    """Return the first few numbers of lines."""
    more = f" and {len(numbers) - _NAMED:,} more" if len(numbers) > _NAMED else ""
    return f"line{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers[:_NAMED]))}{more}"


def _shown(line: str) -> str:
    return line if len(line) <= _SHOWN else f"{line[:_SHOWN]}…"


@contextmanager
def _long_fields() -> Iterator[None]:
    """Let fields have any length; the library's limit is that of the process."""
    before = csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    try:
        yield
    finally:
        csv.field_size_limit(before)
