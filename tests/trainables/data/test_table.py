"""Rows to which a model is applied."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from trainables.data.columns import Modality
from trainables.data.kinds import Unreadable
from trainables.data.table import Table, open_table
from trainables.errors import UserError
from trainables.reading_settings import ReadingSettings

WANTED = {"text": Modality("text", "text"), "image": Modality("picture", "image")}


def rows_of(table: Table, split: str = "all") -> list[dict[str, Any]]:
    return [row for rows, _ in table.batches(split, 2) for row in rows]


@pytest.fixture
def captions(tmp_path: Path) -> Path:
    """A table of three rows without labels, whose second picture is not there."""
    (tmp_path / "red.png").write_bytes(b"red")
    path = tmp_path / "new.csv"
    path.write_text("id,text,picture\na,one,red.png\nb,two,gone.png\nc,,red.png\n")
    return path


def test_neither_labels_nor_splits_are_needed(captions) -> None:
    table = open_table(str(captions), WANTED)
    assert table.rows.splits == ("all",)
    assert table.of_split("all") == ("all",)
    assert table.count(["all"]) == 3
    first, second, third = rows_of(table)
    assert first == {"text": "one", "image": b"red"}
    assert isinstance(second["image"], Unreadable)
    assert third["text"] in ("", None)
    assert [ident for _, idents in table.batches("all", 2) for ident in idents] == ["a", "b", "c"]


def test_a_column_may_have_another_name(captions) -> None:
    wanted = {**WANTED, "text": Modality("caption", "text")}
    assert rows_of(open_table(str(captions), wanted))[0]["text"] == "one", "that of the modality"
    wanted = {"words": Modality("caption", "text")}
    with pytest.raises(UserError, match="no column is known as words; the columns: id, text, picture; say"):
        open_table(str(captions), wanted)
    said = ReadingSettings(columns="words=text")
    assert rows_of(open_table(str(captions), wanted, said))[0] == {"words": "one"}


def test_with_columns_named_others_may_be_missing(captions) -> None:
    wanted = {**WANTED, "sound": Modality("sound", "audio")}
    table = open_table(str(captions), wanted, ReadingSettings(columns="text=text"))
    assert list(table.modalities) == ["text", "image"]
    assert "missing in all rows: sound" in table.notes
    with pytest.raises(UserError, match="--columns smell=…: the model reads text, image"):
        open_table(str(captions), WANTED, ReadingSettings(columns="smell=text"))


def test_any_column_may_tell_rows_apart(captions) -> None:
    assert open_table(str(captions), WANTED, ident="Picture").ident == "picture"
    with pytest.raises(UserError, match="no column 'name'"):
        open_table(str(captions), WANTED, ident="name")


def test_splits_that_are_there_are_kept(tmp_path) -> None:
    for split, texts in (("train", ["a", "b"]), ("test", ["c"])):
        pq.write_table(pa.table({"text": texts, "label": ["x"] * len(texts)}), tmp_path / f"{split}.parquet")
    table = open_table(str(tmp_path), {"text": WANTED["text"]}, label="label")
    assert table.of_split("all") == ("train", "test")
    assert rows_of(table, "test") == [{"text": "c"}]
    assert table.labels("train") == ["x", "x"]
    with pytest.raises(UserError, match=r"--split validation: .* accepted: all, train, test"):
        table.of_split("validation")


def test_labels_are_found_or_asked_for(captions, tmp_path) -> None:
    with pytest.raises(UserError, match=r"no column has the labels; .* --columns label=COLUMN"):
        open_table(str(captions), WANTED, label="genre")
    path = tmp_path / "numbers.csv"
    path.write_text("text,stars\none,3\ntwo,\n")
    text = {"text": WANTED["text"]}
    table = open_table(str(path), text, ReadingSettings(columns="label=stars,text=text"), label="genre")
    assert table.labels("all") == [3, None]


def test_an_included_dataset(workplace) -> None:
    wanted = {"text": Modality("text", "text"), "image": Modality("image", "image")}
    table = open_table("openclipart_match", wanted)
    rows, idents = next(table.batches("test", 2))
    assert isinstance(rows[0]["image"], bytes)
    assert idents[0].endswith(".png")


def test_what_is_not_there_is_refused(workplace) -> None:
    with pytest.raises(UserError, match=r"data 'none.csv': no such file or folder"):
        open_table("none.csv", WANTED)
