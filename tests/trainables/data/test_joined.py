"""Rows whose large columns are in files that several datasets share."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from trainables.data import SPLITS
from trainables.data.joined import JoinedPart, Store
from trainables.data.readers.parquet import ParquetPart
from trainables.errors import UserError


@pytest.fixture
def joined(tmp_path: Path) -> dict[str, JoinedPart]:
    """Rows that need what is stored in two files, in another order, some of it twice and some never."""
    written = {
        "one": {"id": ["a", "b", "c"], "image": [b"A", b"B", b"C"], "label": [0, 0, 0]},
        "two": {"id": ["d"], "image": [b"D"], "label": [0]},
        "train": {"id": ["d", "a", "d"], "label": [1, 2, 3]},
        "validation": {"id": ["b"], "label": [4]},
        "test": {"id": ["a"], "label": [5]},
    }
    for name, columns in written.items():
        pq.write_table(pa.table(columns), tmp_path / f"{name}.parquet")
    store = Store(
        [ParquetPart("toy", tmp_path / f"{name}.parquet") for name in ("one", "two")], "id", ("image",)
    )
    return {split: JoinedPart(ParquetPart("toy", tmp_path / f"{split}.parquet"), store) for split in SPLITS}


@pytest.mark.parametrize("rows", [1, 2, 10])
def test_shared_columns_are_found_by_the_key(joined: dict[str, JoinedPart], rows: int) -> None:
    batches = list(joined["train"].batches(["label", "image"], rows))
    assert [len(batch) for batch in batches] == {1: [1, 1, 1], 2: [2, 1], 10: [3]}[rows]
    assert [row for batch in batches for row in batch.to_pylist()] == [
        {"label": 1, "image": b"D"},
        {"label": 2, "image": b"A"},
        {"label": 3, "image": b"D"},
    ]
    assert joined["train"].count() == 3


def test_schemas_have_the_shared_columns(joined: dict[str, JoinedPart]) -> None:
    for split, part in joined.items():
        assert part.name == f"{split}.parquet"
        assert part.schema.names == ["id", "label", "image"]
        assert part.schema.field("image").type == pa.binary()


def test_own_columns_alone_do_not_read_the_store(joined: dict[str, JoinedPart], tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / f"{name}.parquet").unlink()
    (batch,) = joined["validation"].batches(["label", "id"], 10)
    assert batch.to_pylist() == [{"label": 4, "id": "b"}]
    with pytest.raises(UserError, match=r"one\.parquet is not a Parquet file that can be read"):
        next(joined["validation"].batches(["image"], 10))


def test_the_fingerprint_depends_on_the_store(joined: dict[str, JoinedPart], tmp_path: Path) -> None:
    before = joined["train"].fingerprint
    pq.write_table(pa.table({"id": ["d"], "image": [b"other"]}), tmp_path / "two.parquet")
    store = Store(
        [ParquetPart("toy", tmp_path / f"{name}.parquet") for name in ("one", "two")], "id", ("image",)
    )
    assert JoinedPart(ParquetPart("toy", tmp_path / "train.parquet"), store).fingerprint != before
