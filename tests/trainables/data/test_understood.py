"""What a dataset is understood to be: sizes, repeats, labels, and what looks wrong."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.trainables.data.test_source import columns, png, write_dataset
from trainables.data import Dataset, open_dataset, warnings_on
from trainables.data.understood import Understood, examples, understand
from trainables.errors import UserError
from trainables.towers import EncoderSource, resolve_encoder


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty cache folder."""
    monkeypatch.setenv("PARETOFUSE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def encoder(tiny_encoders: dict[str, Path]) -> Callable[[str], EncoderSource]:
    """Tiny encoders, with a tokeniser of few words."""
    return lambda modality: resolve_encoder(
        modality, str(tiny_encoders["vit" if modality == "image" else "bert"])
    )


def _none(modality: str) -> EncoderSource:
    raise UserError(f"no encoder of {modality}")


def _dataset(folder: Path, **files: Any) -> Dataset:
    return open_dataset(str(write_dataset(folder / "d", **files)))


def _understood(folder: Path, **files: Any) -> Understood:
    return understand(_dataset(folder, **files), _none)


def test_repeats_and_what_is_missing(tmp_path: Path) -> None:
    a, b, c = (png((number, 0, 0)) for number in range(3))
    found = _understood(
        tmp_path,
        train=columns(4, text=["x", "X ", "", None], image=[a, b, None, a]),
        validation=columns(3, text=["y", "z", " "], image=[c, b, b]),
        test=columns(2, text=["x", "w"], image=[a, c], label=["c0", "c1"]),
    )
    text, image = found.modalities["text"], found.modalities["image"]
    assert text.missing == {"train": 1, "validation": 0, "test": 0}
    assert text.empty == {"train": 1, "validation": 1, "test": 0}
    assert (text.distinct, image.distinct) == (4, 3)
    assert text.repeated == {"train": 1, "validation": 0, "test": 0}
    assert image.repeated == {"train": 1, "validation": 1, "test": 0}
    assert image.across == {"validation": {"train": 2}, "test": {"train": 1, "validation": 1}}
    assert found.equal_rows == {"validation": 0, "test": 1}
    assert found.warnings == [
        "1 of 2 test rows have a text that is in train",
        "2 of 3 validation rows have a picture that is in train",
        "1 of 2 test rows have a picture that is in train",
        "1 of 2 test rows are in train with all they have",
    ]


def test_warnings_before_a_search_are_found_without_decoding(tmp_path: Path) -> None:
    dataset = _dataset(tmp_path, train=columns(3, image=[png(), b"no picture", None]), test=columns(2))
    assert warnings_on(dataset, ["text", "image"]) == [
        "text is the same in all rows",
        "3 of 3 validation rows have a picture that is in train",
        "2 of 2 test rows have a picture that is in train",
    ]


def test_constant_inputs(tmp_path: Path) -> None:
    assert _understood(tmp_path).warnings[:2] == [
        "text is the same in all rows",
        "image is the same in all rows",
    ]


def test_empty_inputs(tmp_path: Path) -> None:
    texts = {split: columns(2, text=["", None]) for split in ("train", "validation", "test")}
    found = _understood(tmp_path, **texts)
    assert "text is empty, missing or unreadable in all rows" in found.warnings


def test_pictures_of_too_many_pixels(tmp_path: Path) -> None:
    large = io.BytesIO()
    Image.new("1", (20_000, 10_000)).save(large, "PNG")
    found = _understood(tmp_path, train=columns(2, image=[large.getvalue(), png()]))
    assert [bad.reason for bad in found.bad] == ["more pixels than Pillow decodes"]


def test_sizes_of_pictures(tmp_path: Path, encoder: Callable[[str], EncoderSource]) -> None:
    pictures = [png((number, 0, 0), (10 + number, 50)) for number in range(20)]
    dataset = _dataset(tmp_path, train=columns(20, image=pictures), test=columns(1, label=["c0"]))
    image = understand(dataset, encoder).modalities["image"]
    assert image.sizes["width"] == {"5": 12, "50": 22, "95": 40}
    assert image.sizes["height"] == {"5": 32, "50": 50, "95": 50}
    assert image.side == 32
    assert understand(dataset, encoder, image_size=64).modalities["image"].side == 64


def test_tokens(tmp_path: Path, encoder: Callable[[str], EncoderSource]) -> None:
    texts = ["a red square"] * 18 + ["zyzzyva " * 30, None]
    dataset = _dataset(tmp_path, train=columns(20, text=texts))
    tokens = understand(dataset, encoder).modalities["text"].tokens
    assert tokens is not None
    assert tokens.lengths == {"50": 5, "95": 5, "99": 32}
    assert tokens.length == 32
    assert understand(dataset, encoder, text_length=8).modalities["text"].tokens.cut == 1 / 25
    assert tokens.unknown == pytest.approx(30 / (30 + 24 * 3))


def test_unknown_tokens_are_a_warning(tmp_path: Path, encoder: Callable[[str], EncoderSource]) -> None:
    dataset = _dataset(tmp_path, train=columns(4, text=["zyzzyva"] * 2 + ["a red square"] * 2))
    warnings = understand(dataset, encoder).warnings
    assert any("of the tokens of text are unknown to the tokeniser of" in line for line in warnings)


def test_without_an_encoder(tmp_path: Path) -> None:
    text = _understood(tmp_path).modalities["text"]
    assert text.tokens is None
    assert text.without_encoder == "no encoder of text"


def test_classes(tmp_path: Path) -> None:
    found = _understood(
        tmp_path,
        train=columns(5, label=["a", "b", "b", "d", "d"]),
        validation=columns(2, label=["a", "c"]),
        test=columns(1, label=["b"]),
    )
    assert found.classes == ["a", "b", "d"]
    assert found.labels.counts is not None
    assert found.labels.counts["train"] == {"a": 1, "b": 2, "d": 2, "c": 0}
    assert found.labels.counts["validation"] == {"a": 1, "b": 0, "d": 0, "c": 1}
    assert (found.labels.never_in_train, found.labels.train_only) == (["c"], ["d"])
    assert any("a class that train lacks" in note for note in found.notes)
    assert found.to_dict()["labels"]["never_in_train"] == ["c"]


@pytest.mark.parametrize(
    ("labels", "counts", "spread"),
    [
        ([["a"], ["a", "b"], []], {"a": 2, "b": 1}, None),
        ([0.5, 1.5, -1.5], None, [[-1.5, pytest.approx(1 / 6), 1.5]]),
    ],
)
def test_other_labels(tmp_path: Path, labels: list[Any], counts: Any, spread: Any) -> None:
    found = _understood(tmp_path, **dict.fromkeys(("train", "validation", "test"), columns(label=labels)))
    assert (found.labels.counts or {}).get("train") == counts
    assert (found.labels.range or {}).get("train") == spread


def test_rows_that_cannot_be_read(tmp_path: Path) -> None:
    images = [b"<html>", png(), b"", b"<html>", png()[:50]]
    found = _understood(tmp_path, train=columns(5, image=images))
    assert [(bad.modality, bad.reason, bad.rows, bad.first) for bad in found.bad] == [
        ("image", "HTML", 2, ("train row 0", "train row 3")),
        ("image", "empty, 0 bytes", 1, ("train row 2",)),
        ("image", "a PNG picture that is cut off", 1, ("train row 4, ends after 50 bytes",)),
    ]
    assert any(
        line.startswith("cannot be read: 2 pictures: HTML (train row 0; train row 3), 1 picture: empty")
        for line in found.warnings
    )


def test_a_test_split_without_labels(tmp_path: Path) -> None:
    found = _understood(tmp_path, test=columns(2, label=[None, None]))
    assert found.labels.counts is not None
    assert [*found.labels.counts] == ["train", "validation"]
    assert found.labels.train_only == []
    assert "test: not scored, its rows have no labels" in found.notes


def test_classes_that_are_stated_but_in_no_row(tmp_path: Path) -> None:
    metadata = {"paretofuse.classes": '["c0", "c1", "c2"]'}
    found = _understood(tmp_path, metadata=metadata)
    assert found.labels.never_in_train == ["c2"]
    assert "class 'c2' is stated, but in no training row" in found.warnings


def test_nothing_to_learn_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="all train rows are of one class"):
        _understood(tmp_path, train=columns(3, label=["c0"] * 3))


def test_columns_and_files(tmp_path: Path) -> None:
    content = {**columns(), "id": [1, 2, 3]}
    found = _understood(tmp_path, train_0=content, train_1=content)
    assert found.unused == ("id",)
    assert found.format == "parquet"
    assert found.files == {
        "train-0.parquet": 3,
        "train-1.parquet": 3,
        "validation.parquet": 3,
        "test.parquet": 3,
    }


def test_features(tmp_path: Path) -> None:
    metadata = {"paretofuse.modalities": '{"sensor": "sensor"}'}
    content = {"sensor": [[[1.0, 2.0]], [[1.0, 2.0], [3.0, 4.0]], None], "label": ["a", "b", "a"]}
    dataset = _dataset(tmp_path, metadata=metadata, **dict.fromkeys(("train", "validation", "test"), content))
    sensor = understand(dataset, _none).modalities["sensor"]
    assert (sensor.kind, sensor.missing["train"], sensor.distinct) == ("features", 1, 2)
    assert sensor.sizes == {"vectors": {"5": 1, "50": 2, "95": 2}, "numbers": {"5": 2, "50": 2, "95": 2}}


def test_examples_are_of_all_classes(tmp_path: Path) -> None:
    labels = ["a"] * 30 + ["b"] * 2 + ["c"] * 8
    pictures = [png((number, 0, 0)) for number in range(40)]
    texts = [None] + [f"text {number}" for number in range(1, 40)]
    dataset = _dataset(
        tmp_path, train=columns(40, label=labels, image=pictures, text=texts), test=columns(1, label=["a"])
    )
    found = examples(dataset, 9)
    assert [row.label for row in found] == ["a"] * 4 + ["b"] * 2 + ["c"] * 3
    for row in found:
        number = Image.open(io.BytesIO(row.pictures["image"] or b"")).getpixel((0, 0))[0]
        assert row.texts == {"text": texts[number]}
        assert labels[number] == row.label
    assert len(examples(dataset, 100)) == 40
