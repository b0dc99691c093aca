"""Rows in which a modality is missing: kept with a blank, left out, or refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.trainables.data.test_source import columns, png, write_dataset
from trainables.data import SPLITS, Dataset, in_words, open_dataset, prepare, without_missing
from trainables.errors import UserError
from trainables.towers import InputSizes, resolve_encoders

TEXTS = ["a", None, "b", "a", None, "b"]
IMAGES = [png(), png(), None, png(), None, png()]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty cache folder."""
    monkeypatch.setenv("PARETOFUSE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """Six training rows, three of them complete; the other splits have three complete rows."""
    content = columns(6, text=TEXTS, image=IMAGES, label=list("uvwxyz"))
    others = columns(3, label=list("uvw"))
    return open_dataset(str(write_dataset(tmp_path / "d", train=content, validation=others, test=others)))


def test_blank_keeps_all(dataset: Dataset) -> None:
    assert without_missing(dataset, ["text", "image"], "blank") is dataset


def test_skip_leaves_rows_out_with_their_labels(dataset: Dataset, tiny_encoders: dict[str, Path]) -> None:
    some = without_missing(dataset, ["text", "image"], "skip")
    assert [some.count(split) for split in SPLITS] == [3, 3, 3]
    assert some.task.to_dict()["classes"] == list("uxz")  # v and w are in the other splits
    assert some.labels("train").tolist() == [0, 1, 2]
    assert some.fingerprint != dataset.fingerprint
    for rows in (1, 2, 512):
        batches = list(some.batches("train", ["text"], rows))
        assert [text for batch in batches for text in batch["text"].to_pylist()] == ["a", "a", "b"]
    encoders = resolve_encoders({"text": str(tiny_encoders["bert"]), "image": str(tiny_encoders["vit"])})
    split = prepare(some, encoders, InputSizes(text_length=8, image_size=32)).split("train")
    assert len(split) == 3
    assert split.present("text").all()
    assert torch.equal(split.labels, some.labels("train"))


def test_skip_reads_only_the_modalities_in_use(dataset: Dataset) -> None:
    assert without_missing(dataset, ["text"], "skip").count("train") == 4
    complete = without_missing(dataset, ["text", "image"], "skip")
    assert without_missing(complete, ["text", "image"], "skip") is complete


def test_skip_refuses_a_split_without_complete_rows(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "e", test=columns(image=[None] * 3))
    with pytest.raises(UserError, match=r"--missing skip: .* no row of the test split is complete"):
        without_missing(open_dataset(str(folder)), ["text", "image"], "skip")


def test_error_names_rows(tmp_path: Path, dataset: Dataset) -> None:
    with pytest.raises(UserError) as error:
        without_missing(dataset, ["text", "image"], "error")
    rows = "text is missing in 2 rows (train row 1; train row 4); image is missing in 2 rows (train row 2;"
    assert rows in str(error.value)
    folder = write_dataset(tmp_path / "e", test=columns(9, text=[None] * 9))
    with pytest.raises(UserError, match=r"in 9 rows \(test row 0; test row 1; test row 2; 6 more\);"):
        without_missing(open_dataset(str(folder)), ["text"], "error")
    assert without_missing(dataset, [], "error") is dataset


def test_a_dataset_in_words(dataset: Dataset, tiny_encoders: dict[str, Path]) -> None:
    encoders = resolve_encoders({"text": str(tiny_encoders["bert"]), "image": str(tiny_encoders["vit"])})
    read = "text (bert, pooling cls, 17 % missing), image (vit, pooling cls, 17 % missing)"
    said = f"'{dataset.name}', rows: 6 train, 3 validation, 3 test; {read}"
    assert in_words(dataset, encoders, _counts(dataset)) == said
    some = without_missing(dataset, list(encoders), "skip")
    encoders["text"] = replace(encoders["text"], pooling="mean")
    read = "text (bert, pooling mean), image (vit, pooling cls)"
    said = f"'{dataset.name}', rows: 3 train, 3 validation, 3 test (3 left out); {read}"
    assert in_words(some, encoders, _counts(some)) == said
    few = {**_counts(some), "train": 2}
    assert "2 train, 3 validation, 3 test (4 left out);" in in_words(some, encoders, few)


def _counts(dataset: Dataset) -> dict[str, int]:
    return {split: dataset.count(split) for split in SPLITS}
