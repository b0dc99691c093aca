"""Repositories of the Hugging Face hub, downloaded and by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import huggingface_hub
import pyarrow.parquet as pq
import pytest
from huggingface_hub import constants, errors

from trainables.data import address_of, open_dataset
from trainables.data.readers import ALL, Found, hub_names, read_path
from trainables.errors import UserError
from trainables.reading_settings import ReadingSettings
from trainables.testing.layouts.formats import WRITERS, hf_dataset, put, rows, table

ROWS = rows("hub")


def parquet(folder: Path, *names: str) -> Path:
    """Write a Parquet file with three rows at each path."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table(ROWS["test"][:3]), folder / name)
    return folder


def card(folder: Path, *configs: dict[str, Any], **more: Any) -> Path:
    """Write a README whose head lists configurations."""
    head = json.dumps({"license": "mit", **({"configs": configs} if configs else {}), **more})
    put(folder / "README.md", f"---\n{head}\n---\n# A dataset\n")  # JSON is YAML
    return folder


def read(path: Path) -> Found:
    return read_path(str(path), ReadingSettings())


def sizes(found: Found) -> dict[str, int]:
    return {split: sum(part.count() for part in parts) for split, parts in found.parts.items()}


@pytest.mark.parametrize(
    "names",
    [
        [
            "data/train-00000-of-00002.parquet",
            "data/train-00001-of-00002.parquet",
            "data/test-00000-of-00001.parquet",
        ],
        ["default/train/0000.parquet", "default/train/0001.parquet", "default/test/0000.parquet"],
        ["train/0000.parquet", "train/0001.parquet", "test/0000.parquet"],
    ],
)
@pytest.mark.parametrize("with_card", [True, False])
def test_layouts(tmp_path: Path, names: list[str], with_card: bool) -> None:
    parquet(tmp_path, *names)
    put(tmp_path / ".cache" / "huggingface" / "download" / "train.parquet", "x")
    put(tmp_path / ".gitattributes", "x")
    if with_card:
        card(tmp_path)
    assert sizes(read(tmp_path)) == {"train": 6, "test": 3}


def test_shards_that_are_not_downloaded(tmp_path: Path) -> None:
    parquet(tmp_path, "data/train-00000-of-00002.parquet", "data/test-00000-of-00001.parquet")
    with pytest.raises(UserError, match="1 of 2 shards"):
        read(tmp_path)
    card(tmp_path, {"data_files": {"train": "data/train-*", "test": "data/test-*"}})
    with pytest.raises(UserError, match=r"there is .*/train-00000-of-00002\.parquet, but no train-00001"):
        read(tmp_path)


@pytest.mark.parametrize(
    "files",
    [
        {"train": "x/a.parquet", "test": ["x/c.parquet"]},
        {"train": ["x/a.*"], "test": "x/[c]*.parquet"},
        [{"split": "train", "path": "x/a.parquet"}, {"split": "test", "path": ["x/c.parquet"]}],
    ],
)
def test_files_that_the_readme_lists(tmp_path: Path, files: Any) -> None:
    parquet(tmp_path, "x/a.parquet", "x/b.parquet", "x/c.parquet")
    assert sizes(read(card(tmp_path, {"data_files": files}))) == {"train": 3, "test": 3}


@pytest.mark.parametrize("files", ["a.parquet", ["a.parquet", "b.parquet"], [{"path": "a.parquet"}]])
def test_files_without_splits(tmp_path: Path, files: Any) -> None:
    parquet(tmp_path, "x/a.parquet", "x/b.parquet")
    card(tmp_path, {"config_name": "all", "data_dir": "x", "data_files": files})
    assert sizes(read(tmp_path)) == {ALL: 6 if len(files) == 2 else 3}


def test_files_of_other_formats(tmp_path: Path) -> None:
    put(tmp_path / "x" / "a.csv", "text,label\none,a\ntwo,b\n")
    found = read(card(tmp_path, {"data_files": {"train": "x/a.csv"}}))
    assert sizes(found) == {"train": 2}
    assert found.folder == tmp_path / "x"
    assert found.untyped


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"data_files": {"train": "x/gone-*.parquet"}},
            r"README.md lists x/gone-\*\.parquet, and it is not there",
        ),
        ({"data_files": {"train": "/etc/*.parquet"}}, r"README\.md lists .*/etc/"),
        (
            {"data_files": {"unsupervised": "x/a.parquet"}},
            r"none of its splits \(unsupervised\) is called train",
        ),
    ],
)
def test_what_the_readme_lists_is_not_there(tmp_path: Path, config: dict[str, Any], message: str) -> None:
    parquet(tmp_path, "x/a.parquet")
    with pytest.raises(UserError, match=message):
        read(card(tmp_path, config))


def test_folders_that_stand_for_a_column_are_refused(tmp_path: Path) -> None:
    parquet(tmp_path, "label=cat/part-0.parquet", "label=dog/part-0.parquet")
    with pytest.raises(
        UserError, match="folders such as label=cat, so that its files lack the column 'label'"
    ):
        read(tmp_path)


def test_several_configurations(tmp_path: Path) -> None:
    parquet(tmp_path, "en/train.parquet", "de/train.parquet", "de/test.parquet")
    with pytest.raises(
        UserError, match=r"has the configurations de, en; name the folder or file of one, such as .*/de"
    ):
        read(tmp_path)
    assert sizes(read(tmp_path / "de")) == {"train": 3, "test": 3}
    stated = [{"config_name": each, "data_files": f"{each}/*.parquet"} for each in ("en", "de")]
    card(tmp_path, *stated)
    with pytest.raises(UserError, match=r"has the configurations en, de; .* such as .*/en/train\.parquet"):
        read(tmp_path)
    card(tmp_path, stated[0], {**stated[1], "default": True})
    found = read(tmp_path)
    assert sizes(found) == {ALL: 6}
    assert found.notes == ("of en, de, the configuration de is read",)


@pytest.mark.parametrize("names", [{"0": "dog", "1": "cow", "2": "cat"}, ["dog", "cow", "cat"]])
def test_names_of_classes_in_the_readme(tmp_path: Path, names: Any) -> None:
    """They are taken where the files have numbers alone."""
    for split, some in ROWS.items():
        plain = hf_dataset(some).data.table.replace_schema_metadata(None)
        (tmp_path / "data").mkdir(exist_ok=True)
        pq.write_table(plain, tmp_path / "data" / f"{split}-00000-of-00001.parquet")
    features = [
        {"name": "text", "dtype": "string"},
        {"name": "label", "dtype": {"class_label": {"names": names}}},
    ]
    dataset = open_dataset(str(card(tmp_path, dataset_info={"features": features})))
    assert dataset.task.to_dict()["classes"] == ["dog", "cow", "cat"]
    assert dataset.labels("train")[:3].tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    "text", ["", "# no head", "---\nconfigs: [\n---\n", "---\n- a\n---\n", "---\nconfigs: 3\n---\n"]
)
def test_readme_that_says_nothing(tmp_path: Path, text: str) -> None:
    put(parquet(tmp_path, "data/train-00000-of-00001.parquet") / "README.md", text)
    assert sizes(read(tmp_path)) == {"train": 3}


class TestByName:
    @pytest.fixture
    def fetched(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str | None]]:
        """Let the hub have a folder for each revision; return what is asked of it."""
        asked: list[tuple[str, str | None]] = []

        def snapshot_download(name: str, revision: str | None = None, **_: Any) -> str:
            asked.append((name, revision))
            return str(tmp_path / (revision or "main"))

        monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
        monkeypatch.setattr(hub_names, "hub_reachable", lambda: True)
        return asked

    def test_configuration(self, tmp_path: Path, fetched: list[Any]) -> None:
        parquet(tmp_path / "main", "en/train.parquet", "de/train.parquet", "de/test.parquet")
        assert sizes(read_path("hf:someone/rows/de", ReadingSettings())) == {"train": 3, "test": 3}
        with pytest.raises(UserError, match="there is no configuration fr; there are de, en"):
            read_path("hf:someone/rows/fr", ReadingSettings())
        with pytest.raises(UserError, match=r"has the configurations de, en; name one: hf:someone/rows/de"):
            read_path("hf:someone/rows", ReadingSettings())
        assert {*fetched} == {("someone/rows", None)}

    def test_other_files_as_the_hub_converts_them(self, tmp_path: Path, fetched: list[Any]) -> None:
        (tmp_path / "main").mkdir()
        parquet(tmp_path / "refs/convert/parquet", "default/train/0000.parquet", "default/test/0000.parquet")
        assert sizes(read_path("hf:someone/rows", ReadingSettings())) == {"train": 3, "test": 3}
        assert fetched == [("someone/rows", None), ("someone/rows", "refs/convert/parquet")]

    @pytest.mark.parametrize(
        ("error", "message"),
        [
            (errors.HFValidationError("x"), "write hf:OWNER/NAME, or a path without hf:"),
            (errors.LocalEntryNotFoundError("x"), "it cannot be fetched, and a/b is not in its cache"),
            (OSError("disk\nfull"), r"a/b cannot be fetched \(disk\)"),
        ],
    )
    def test_errors(
        self, monkeypatch: pytest.MonkeyPatch, fetched: list[Any], error: Exception, message: str
    ) -> None:
        def refuse(*_: Any, **__: Any) -> None:
            raise error

        monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
        with pytest.raises(UserError, match=message):
            open_dataset("hf:a/b")

    def test_without_network(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        WRITERS["hf"](tmp_path, ROWS)
        assert open_dataset("hf:someone/rows").count("train") == 12
        message = "the Hugging Face hub cannot be reached from here, and someone/else is not in its cache"
        with pytest.raises(UserError, match=message):
            open_dataset("hf:someone/else")

    def test_a_folder_of_that_name_is_not_meant(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        parquet(tmp_path / "someone" / "rows", "train.parquet")
        monkeypatch.chdir(tmp_path)
        assert address_of("hf:someone/rows") == "hf:someone/rows"
