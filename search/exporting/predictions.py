"""The file of a model's answers: a row for each row of the data, as Parquet or CSV."""

from __future__ import annotations

import csv
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO, Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from search.exporting.applying import Batch, Reader
from trainables.data.table import Table
from trainables.disk import move_synced, writing
from trainables.errors import UserError
from trainables.tasks import Task

#: The formats of files, by their ends.
FORMATS = (".parquet", ".csv")
#: The column of the split of each row, if there are several, and that of probabilities.
_SPLIT, _PROBABILITIES = "split", "probabilities"
#: Rows that a query is answered with, unless the user says otherwise.
_MOST = 10


class _Writer(Protocol):
    def write(self, rows: Sequence[Mapping[str, Any]]) -> None: ...


def check_out(path: Path) -> None:
    """Check that answers can be written to a file.

    Raises:
        UserError: If it has no known ending, or if its folder does not exist.
    """
    if path.suffix.lower() not in FORMATS:
        raise UserError(f"--out {path}: must end with {' or '.join(FORMATS)}")
    if not path.absolute().parent.is_dir():
        raise UserError(f"--out {path}: there is no folder {path.absolute().parent}")
    if path.is_dir():
        raise UserError(f"--out {path}: is a folder; write the name of a file")


def write_predictions(
    reader: Reader,
    splits: Sequence[str],
    path: Path,
    top: int | None,
    progress: Callable[[int], None],
) -> int:
    """Write a model's answers for the rows of some splits, in their order.

    Each row has ``row``, its number in its split, from 0; ``split``, if the data have several; what tells the
    rows apart, if there is such a column; and the answer, which is null for a row that could not be read.

    Args:
        reader: The model and the rows.
        splits: The splits.
        path: The file, which is whole or not there; an earlier one is replaced.
        top: Number of labels whose probabilities are written, or of rows that a query is answered with; None
            writes no probabilities, and ten rows.
        progress: Called with the number of rows that are done.

    Returns:
        The number of rows that were written.

    Raises:
        DiskFullError: If the disk is full.
        UserError: As ``Reader.batches``.
    """
    table = reader.table
    columns = _columns(reader.model.task, probabilities=top is not None)
    columns = {"row": pa.int64(), **({_SPLIT: pa.string()} if len(splits) > 1 else {}), **columns}
    done = 0
    with _new(path) as scratch, ExitStack() as stack:
        writer: _Writer | None = None
        for split in splits:
            for first, idents, answers in _answers(reader, split, top):
                if writer is None:
                    writer = stack.enter_context(_writing(scratch, path, _with_ident(columns, table, idents)))
                writer.write(
                    [
                        {"row": row, _SPLIT: split, **_named(table, ident), **(answer or {})}
                        for row, (ident, answer) in enumerate(zip(idents, answers, strict=True), first)
                    ]
                )
                done += len(idents)
                progress(done)
        if writer is None:
            stack.enter_context(_writing(scratch, path, pa.schema(columns)))
    return done


def _answers(
    reader: Reader, split: str, top: int | None
) -> Iterator[tuple[int, list[Any], list[dict[str, Any] | None]]]:
    """Yield the answers for a split: the number of the first row, what tells rows apart, and the answers.

    Queries are answered with rows of the whole split, of which the outputs are kept in memory.
    """
    task, batches = reader.model.task, reader.batches(split)
    for batch in [_together(batches)] if task.query is not None else batches:
        answers: list[dict[str, Any] | None] = [None] * len(batch.idents)
        found = task.answers(batch.outputs, batch.present, _MOST if top is None else top)
        for row, answer in zip(batch.kept, found, strict=True):
            answers[row] = _in_all(answer, batch.kept)
        yield batch.first, batch.idents, answers


def _together(batches: Iterable[Batch]) -> Batch:
    """Return all rows of a split as one batch."""
    all_of = [replace(batch, values=[]) for batch in batches]
    kept = [batch.first + row for batch in all_of for row in batch.kept]
    present = {name: torch.cat([each.present[name] for each in all_of]) for name in all_of[0].present}
    idents = [ident for batch in all_of for ident in batch.idents]
    return Batch(0, idents, kept, [], torch.cat([batch.outputs for batch in all_of]), present)


def _in_all(answer: dict[str, Any], kept: Sequence[int]) -> dict[str, Any]:
    """Return an answer whose ranking has the numbers of rows in the split, not among those with outputs."""
    ranking = answer.get("ranking")
    return answer if ranking is None else {**answer, "ranking": [kept[row] for row in ranking]}


def _columns(task: Task, *, probabilities: bool) -> dict[str, pa.DataType]:
    """Return the type of each part of a task's answers, as they are for made-up outputs."""
    answer = task.example_answer()
    return {name: _type(value) for name, value in answer.items() if probabilities or name != _PROBABILITIES}


def _type(value: Any) -> pa.DataType:
    """Return the type of a column that has a value."""
    if isinstance(value, dict):
        return pa.map_(pa.string(), pa.float64())
    if isinstance(value, list):
        return pa.list_(_type(value[0]) if value else pa.string())
    types = {bool: pa.bool_(), int: pa.int64(), float: pa.float64()}
    return types.get(type(value), pa.string())


def _with_ident(columns: Mapping[str, pa.DataType], table: Table, idents: Sequence[Any]) -> pa.Schema:
    """Return the columns of the file, with that of what tells rows apart."""
    if table.ident is None or table.ident in columns:
        return pa.schema(columns)
    row, *rest = columns.items()
    return pa.schema(dict([row, (table.ident, pa.array(idents).type), *rest]))


def _named(table: Table, ident: Any) -> dict[str, Any]:
    return {} if table.ident is None else {table.ident: ident}


@contextmanager
def _new(path: Path) -> Iterator[Path]:
    """Yield the path of a scratch file, which becomes the file when the block ends without an error."""
    folder = path.absolute().parent
    with writing(folder, "name another file with --out"):
        handle, name = tempfile.mkstemp(dir=folder, prefix=f".{path.name}.")
        os.close(handle)
        scratch = Path(name)
        try:
            scratch.chmod(0o644)
            yield scratch
            move_synced(scratch, path)
        finally:
            scratch.unlink(missing_ok=True)


@contextmanager
def _writing(scratch: Path, path: Path, schema: pa.Schema) -> Iterator[_Writer]:
    """Yield what writes rows into a file, in the format that the ending of ``path`` says."""
    if path.suffix.lower() == ".csv":
        with scratch.open("w", newline="", encoding="utf-8") as file:
            yield _Csv(file, schema)
        return
    with pq.ParquetWriter(scratch, schema) as writer:
        yield _Parquet(writer, schema)


class _Csv:
    """Writes CSV. Lists and tables are written as JSON, and what is not known as an empty cell."""

    def __init__(self, file: IO[str], schema: pa.Schema) -> None:
        self._writer = csv.DictWriter(file, schema.names, extrasaction="ignore")
        self._writer.writeheader()

    def write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write rows."""
        for row in rows:
            self._writer.writerow({name: _cell(value) for name, value in row.items()})


class _Parquet:
    """Writes Parquet, a group for each call."""

    def __init__(self, writer: pq.ParquetWriter, schema: pa.Schema) -> None:
        self._writer, self._schema = writer, schema

    def write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write rows."""
        columns = {
            field.name: pa.array([_stored(row.get(field.name)) for row in rows], field.type)
            for field in self._schema
        }
        self._writer.write_table(pa.table(columns, self._schema))


def _cell(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else value


def _stored(value: Any) -> Any:
    return list(value.items()) if isinstance(value, dict) else value
