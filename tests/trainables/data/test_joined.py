"""Rows whose large columns are in files that several datasets share."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from trainables.data import SPLITS
from trainables.data.joined import STORE, JoinedRows
from trainables.data.rows import ParquetRows
from trainables.errors import UserError


@pytest.fixture
def joined(tmp_path: Path) -> JoinedRows:
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
    files = {split: (tmp_path / f"{split}.parquet",) for split in SPLITS}
    store = tuple(tmp_path / f"{name}.parquet" for name in ("one", "two"))
    return JoinedRows(ParquetRows("toy", {**files, STORE: store}), "id", ("image",))


@pytest.mark.parametrize("rows", [1, 2, 10])
def test_shared_columns_are_found_by_the_key(joined: JoinedRows, rows: int) -> None:
    batches = list(joined.batches("train", ["label", "image"], rows))
    assert [len(batch) for batch in batches] == {1: [1, 1, 1], 2: [2, 1], 10: [3]}[rows]
    assert [row for batch in batches for row in batch.to_pylist()] == [
        {"label": 1, "image": b"D"},
        {"label": 2, "image": b"A"},
        {"label": 3, "image": b"D"},
    ]
    assert joined.count("train") == 3


def test_schemas_have_the_shared_columns(joined: JoinedRows) -> None:
    for path, schema in joined.schemas().items():
        assert path.stem in SPLITS
        assert schema.names == ["id", "label", "image"]
        assert schema.field("image").type == pa.binary()


def test_own_columns_alone_do_not_read_the_store(joined: JoinedRows) -> None:
    for path in joined.files.files[STORE]:
        path.unlink()
    (batch,) = joined.batches("validation", ["label", "id"], 10)
    assert batch.to_pylist() == [{"label": 4, "id": "b"}]
    with pytest.raises(UserError, match=r"one\.parquet is not a Parquet file that can be read"):
        next(joined.batches("validation", ["image"], 10))


def test_the_fingerprint_depends_on_the_store(joined: JoinedRows) -> None:
    before = joined.fingerprint
    pq.write_table(pa.table({"id": ["d"], "image": [b"other"]}), joined.files.files[STORE][1])
    again = JoinedRows(ParquetRows("toy", joined.files.files), "id", ("image",))
    assert again.fingerprint != before
