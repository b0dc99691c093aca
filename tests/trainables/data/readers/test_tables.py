"""The same rows in every format that holds tables: they mean the same, and mistakes are one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

from trainables.data import SPLITS, Dataset, open_dataset
from trainables.errors import UserError
from trainables.reading_settings import ReadingSettings
from trainables.testing.layouts.formats import png
from trainables.testing.layouts.tables import ROWS, WRITERS, write_table_file


@pytest.fixture(params=WRITERS)
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The rows in a file of each format."""
    return write_table_file(tmp_path / "d", request.param)


def _contents(dataset: Dataset, split: str, modality: str) -> list[Any]:
    column = dataset.modalities[modality].column
    return [
        content
        for batch in dataset.batches(split, [column], 2)
        for content in dataset.contents(modality, batch)
    ]


def test_the_rows_mean_the_same(file: Path) -> None:
    dataset = open_dataset(str(file))
    for split, rows in {"train": ROWS[:6], "validation": ROWS[6:9], "test": ROWS[9:]}.items():
        pictures = [png(ROWS.index(row)) if row["file"] else None for row in rows]
        assert _contents(dataset, split, "image") == pictures
        assert _contents(dataset, split, "text") == [row["caption"] for row in rows]
        assert dataset.task.decode(dataset.labels(split)) == [row["genre"] for row in rows]
        assert dataset.count(split) == len(rows)
    assert "columns: text=caption, image=file, label=genre (found by name and type)" in dataset.notes


def test_rows_have_words_with_their_files(file: Path) -> None:
    (word,) = open_dataset(str(file)).rows.words("train", [3])
    assert file.name in word
    assert word.endswith(", pictures/3.png")


def test_the_content_has_a_fingerprint(file: Path) -> None:
    first = open_dataset(str(file)).fingerprint
    assert open_dataset(str(file)).fingerprint == first
    (file.parent / "pictures" / "3.png").write_bytes(png(999))
    assert open_dataset(str(file)).fingerprint != first


@pytest.mark.parametrize(
    "content", [b"", bytes(99), b"<html></html>", b"\x89PNG\r\n\x1a\n", b"PK\3\4", b"\xff"]
)
def test_other_files_are_refused(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    with pytest.raises(UserError) as error:
        open_dataset(str(file))
    assert file.name in str(error.value)


def test_a_column_that_is_not_there_lists_the_others(file: Path) -> None:
    with pytest.raises(UserError, match="has no column 'words'; its columns: file, caption, genre"):
        open_dataset(str(file), reading=ReadingSettings(columns="text=words"))


@pytest.mark.parametrize("column", ["file", "caption", "genre", "split"])
@pytest.mark.parametrize("name", ["mine.parquet", "mine.arrow", "mine.feather"])
def test_views_are_what_they_are_views_of(tmp_path: Path, name: str, column: str) -> None:
    """As some programs write texts, which Arrow cannot take rows of."""
    strings = {each: [row[each] for row in ROWS] for each in ROWS[0]}
    table = pa.table({**strings, column: pa.array(strings[column], pa.string_view())})
    plain, path = write_table_file(tmp_path / "a", name), write_table_file(tmp_path / "b", name)
    pq.write_table(table, path) if path.suffix == ".parquet" else pa.feather.write_feather(table, path)
    expected, found = open_dataset(str(plain)), open_dataset(str(path))
    for split in SPLITS:
        for modality in ("text", "image"):
            assert _contents(found, split, modality) == _contents(expected, split, modality)
        assert found.labels(split).tolist() == expected.labels(split).tolist()
