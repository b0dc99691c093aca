"""What holds for every reader of datasets, shown on a small dataset of each layout."""

from __future__ import annotations

import io
import json
import random
from pathlib import Path

import pyarrow as pa
import pytest
from huggingface_hub import constants
from rich.console import Console

from search.reporting.understood import print_understood
from trainables.data import SPLITS, Dataset, open_dataset
from trainables.data.cells import digest
from trainables.data.readers import READERS, Part, read_path, split_address
from trainables.data.readers.finding import readers_of
from trainables.data.understood import understand
from trainables.errors import UserError
from trainables.reading_settings import ReadingSettings
from trainables.testing.layouts import LAYOUTS
from trainables.towers import EncoderSource

#: A layout that takes seconds, because another process looks at the file first.
_SLOW = "mmimdb, HDF5"
_DAMAGED = 30  # copies of a dataset, each with one damaged file


@pytest.fixture(autouse=True)
def _hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the hub's library look into the dataset's folder, and not into the network."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "data"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


@pytest.fixture(params=[pytest.param(each, marks=[pytest.mark.full] * (each == _SLOW)) for each in LAYOUTS])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of a dataset of each layout."""
    return LAYOUTS[request.param](tmp_path / "data")


def test_every_reader_has_a_layout(tmp_path: Path) -> None:
    read = set()
    for number, write in enumerate(LAYOUTS.values()):
        named, path = split_address(write(tmp_path / str(number)))
        read |= {named} if named else {reader.name for reader in readers_of(Path(path))}
    assert read == {*READERS}


def _rows(part: Part, columns: list[str], size: int) -> list[dict[str, object]]:
    batches = list(part.batches(columns, size))
    assert all(len(batch) <= size and batch.schema.names == columns for batch in batches)
    for batch in batches:
        batch.validate(full=True)
    return pa.Table.from_batches(batches).to_pylist()


def test_parts_have_the_columns_and_rows_that_they_state(address: str) -> None:
    found = read_path(address, ReadingSettings())
    for part in (part for parts in found.parts.values() for part in parts):
        names = part.schema.names
        rows = _rows(part, names, 1000)
        assert len(rows) == part.count()
        table = pa.Table.from_batches(part.batches(names, 1000))
        assert table.schema.types == part.schema.types
        for name in names:
            assert [row[name] for row in _rows(part, [name], 5)] == [row[name] for row in rows]
        words = [part.word(row) for row in range(len(rows))]
        assert words[0] is None or len({*words}) == len(words)


def _contents(dataset: Dataset) -> list[object]:
    """All that is learnt from."""
    columns = [modality.column for modality in dataset.modalities.values()]
    labels = [dataset.labels(split).tolist() for split in SPLITS]
    cells = [
        digest(cell)
        for split in SPLITS
        for batch in dataset.batches(split, columns)
        for modality in dataset.modalities
        for cell in dataset.contents(modality, batch)
    ]
    return [labels, cells]


def test_it_is_the_same_dataset_every_time(address: str, tmp_path: Path) -> None:
    first, second = open_dataset(address), open_dataset(address)
    assert first.fingerprint == second.fingerprint
    assert _contents(first) == _contents(second)


def test_what_is_understood_of_it_can_be_shown(address: str) -> None:
    dataset = open_dataset(address)
    found = understand(dataset, _no_encoder)
    document = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert document["rows"] == {split: dataset.count(split) for split in SPLITS}
    assert sum(document["files"].values()) >= sum(document["rows"].values())
    for modality, column in document["modalities"].items():
        assert column["distinct"] > 0, modality
        assert bool(column["sizes"]) == (column["kind"] != "text"), modality
    page = io.StringIO()
    print_understood(found, Console(file=page, width=80, highlight=False))
    assert max(map(len, page.getvalue().splitlines()[1:])) <= 80
    assert dataset.format in page.getvalue()


def _no_encoder(modality: str) -> EncoderSource:
    raise UserError(f"no encoder of {modality}")


def test_a_damaged_file_is_refused_or_changes_the_fingerprint(
    request: pytest.FixtureRequest, address: str, tmp_path: Path
) -> None:
    whole = open_dataset(address)
    fingerprint, contents = whole.fingerprint, _contents(whole)
    files = sorted(path for path in (tmp_path / "data").rglob("*") if path.is_file())
    draw = random.Random(0)
    for _ in range(_DAMAGED):
        path = draw.choice(files)
        before = path.read_bytes()
        path.write_bytes(_damaged(before, draw))
        message = _learnt_or_refused(address, fingerprint, contents)
        assert message is None or ("\n" not in message and address.partition(":")[0] in message)
        path.write_bytes(before)


def _learnt_or_refused(address: str, fingerprint: str, contents: list[object]) -> str | None:
    """Open and read a damaged dataset; return the message if it is refused."""
    try:
        dataset = open_dataset(address)
        changed = _contents(dataset) != contents
    except UserError as error:
        return str(error)
    assert not changed or dataset.fingerprint != fingerprint
    return None


def _damaged(content: bytes, draw: random.Random) -> bytes:
    """Return a file's bytes with some of them missing or changed."""
    place = draw.randrange(len(content))
    flipped = bytearray(content)
    for _ in range(draw.choice([1, 1, 20])):
        flipped[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    return draw.choice([b"", content[:place], content[:place] + content[place + 3 :], bytes(flipped)])
