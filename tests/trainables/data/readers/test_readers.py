"""What holds for the reader of every format, shown on the same rows in each."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from trainables.data import SPLITS, Dataset, address_of, open_dataset
from trainables.data.kinds import Content
from trainables.data.readers import READERS, Reader
from trainables.data.readers.finding import readers_of, split_address
from trainables.testing.layouts import published
from trainables.testing.layouts.formats import OF_SOUNDS, WRITERS, empty, rows


@pytest.fixture(autouse=True)
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the hub's library look into the fixture's folder, and not into the network."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "rows"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def write(name: str, tmp_path: Path, **change: Any) -> str:
    """Write the rows, with some fields of the first one changed; return the address."""
    splits = rows(name)
    splits["train"][0] = replace(splits["train"][0], **change)
    return WRITERS[name](empty(tmp_path / "rows"), splits)


def contents(dataset: Dataset, modality: str, split: str) -> list[Content]:
    """Return the contents of a split, which are read a few rows at a time."""
    batches = dataset.batches(split, [dataset.modalities[modality].column], 5)
    return [content for batch in batches for content in dataset.contents(modality, batch)]


def test_every_format_that_can_hold_the_rows_has_a_writer() -> None:
    others = {name for name, reader in READERS.items() if type(reader).recognises is Reader.recognises}
    assert {*WRITERS} == ({*READERS} - others - {*published.LAYOUTS}) | {"hf"}


@pytest.mark.parametrize("name", WRITERS)
class TestReader:
    def test_rows_are_those_that_were_written(self, name: str, tmp_path: Path) -> None:
        dataset = open_dataset(write(name, tmp_path))
        kind = "audio" if name in OF_SOUNDS else "image"
        assert {modality: where.kind for modality, where in dataset.modalities.items()} == {
            "text": "text",
            kind: kind,
        }
        classes = dataset.task.to_dict()["classes"]
        for split, expected in rows(name).items():
            assert dataset.count(split) == len(expected)
            assert contents(dataset, "text", split) == [row.text for row in expected]
            assert contents(dataset, kind, split) == [row.file for row in expected]
            assert [classes[n] for n in dataset.labels(split).tolist()] == [row.label for row in expected]

    def test_only_this_reader_recognises_it(self, name: str, tmp_path: Path) -> None:
        named, path = split_address(write(name, tmp_path))
        if named is None:
            assert [reader.name for reader in readers_of(Path(path))] == [name]
        else:
            assert named == name

    def test_each_row_has_a_word(self, name: str, tmp_path: Path) -> None:
        dataset = open_dataset(write(name, tmp_path))
        words = [word for split in SPLITS for word in dataset.rows.words(split, range(dataset.count(split)))]
        assert len({*words}) == len(words) == 24

    def test_every_field_is_in_the_fingerprint(self, name: str, tmp_path: Path) -> None:
        first = open_dataset(write(name, tmp_path)).fingerprint
        assert open_dataset(write(name, tmp_path)).fingerprint == first, "written anew"
        assert open_dataset(write(name, tmp_path, text="another text")).fingerprint != first
        assert open_dataset(write(name, tmp_path, file=rows(name)["test"][0].file)).fingerprint != first
        assert open_dataset(write(name, tmp_path, label="dog")).fingerprint != first


@pytest.mark.slow
def test_another_process_finds_each_from_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Addresses are made in the folder in which the user named the dataset by a relative path."""
    monkeypatch.chdir(tmp_path)
    addresses = [address_of(write(name, Path(name))) for name in WRITERS]
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf" / "rows"))
    here = [open_dataset(address).fingerprint for address in addresses]
    code = "import json, sys; from trainables.data import open_dataset as o; "
    code += "print(json.dumps([o(a).fingerprint for a in json.loads(sys.argv[1])]))"
    environment = {
        **os.environ,
        "HF_HUB_CACHE": str(tmp_path / "hf" / "rows"),
        "HF_HUB_OFFLINE": "1",
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    }
    (tmp_path / "elsewhere").mkdir()
    command = [sys.executable, "-c", code, json.dumps(addresses)]
    there = subprocess.run(
        command, cwd=tmp_path / "elsewhere", env=environment, stdout=subprocess.PIPE, check=True
    )
    assert json.loads(there.stdout) == here
