"""Preparing datasets: the right content, once, and nothing left behind by an error."""

from __future__ import annotations

import io
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from tests.trainables.data.test_source import columns, png, write_dataset
from trainables.cache.entries import entries_of, partials, release, size_of
from trainables.cache.manifest import manifest_path
from trainables.data import SPLITS, PreparedData, cells, files, open_dataset, prepare, prepared
from trainables.data.kinds import typical_text_length
from trainables.data.readers import parquet
from trainables.errors import DiskFullError, UserError
from trainables.reading_settings import ReadingSettings
from trainables.towers import EncoderSource, InputSizes, resolve_encoder

IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
CLS, SEP, UNK, RED, GREEN = 2, 3, 4, 5, 6


pytestmark = pytest.mark.usefixtures("cache")


def _prepare(
    folder: Path, encoders: dict[str, EncoderSource], *, text_length: int = 6, size: int = 8, **options: Any
) -> PreparedData:
    dataset = open_dataset(str(folder))
    return prepare(dataset, encoders, InputSizes(text_length=text_length, image_size=size), **options)


def _left_in(cache: Path) -> list[Path]:
    return entries_of(cache / "prepared") + partials(cache / "prepared")


def _picture(width: int, height: int) -> Image.Image:
    values = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


def _encoded(image: Image.Image, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


def _colours(n: int) -> list[bytes]:
    """Return different pictures."""
    return [png((i % 256, i // 256, 7), (8, 8)) for i in range(n)]


def _normalised(image: Image.Image, mean: list[float], std: list[float]) -> np.ndarray:
    return ((np.asarray(image) / 255 - mean) / std).transpose(2, 0, 1)


def test_second_call_builds_nothing(tmp_path: Path, encoders: dict[str, EncoderSource]) -> None:
    folder = write_dataset(tmp_path / "data")
    calls: list[tuple[str, int, int]] = []
    first = _prepare(folder, encoders, progress=lambda *done: calls.append(done))
    assert calls == [(split, 3, 3) for split in SPLITS]
    times = {path: path.stat().st_mtime_ns for path in first.folder.iterdir()}

    moved = shutil.copytree(folder, tmp_path / "moved")
    second = _prepare(moved, encoders, progress=lambda *done: calls.append(done))
    assert len(calls) == 3
    assert second.key == first.key
    assert {path: path.stat().st_mtime_ns for path in second.folder.iterdir()} == times


def test_key_depends_on_what_changes_the_content(
    tmp_path: Path, encoders: dict[str, EncoderSource], tiny_encoders: dict[str, Path]
) -> None:
    folder = write_dataset(tmp_path / "data")
    roberta = resolve_encoder("text", str(tiny_encoders["roberta"]))
    deit = resolve_encoder("image", str(tiny_encoders["deit"]))
    base = _prepare(folder, encoders).key
    others = [
        _prepare(folder, encoders, text_length=7),
        _prepare(folder, encoders, size=16),
        _prepare(folder, {**encoders, "text": roberta}),
        _prepare(folder, {"text": encoders["text"]}),
    ]
    assert len({base, *(other.key for other in others)}) == 5
    assert _prepare(folder, {**encoders, "image": deit}).key == base  # the same normalisation


def test_labels_are_class_indices(tmp_path: Path, encoders: dict[str, EncoderSource]) -> None:
    write_dataset(tmp_path / "data", train=columns(label=["c1", "a", "c0"]))
    data = _prepare(tmp_path / "data", encoders)
    assert data.info["classes"] == ["a", "c0", "c1"]
    assert data.split("train").labels.tolist() == [2, 0, 1]


def test_integer_labels_may_have_class_names(tmp_path: Path, encoders: dict[str, EncoderSource]) -> None:
    files = {split: columns(label=[1, 0, 1]) for split in SPLITS}
    write_dataset(tmp_path / "data", {"paretofuse.classes": json.dumps(["cat", "dog"])}, **files)
    assert _prepare(tmp_path / "data", encoders).split("train").labels.tolist() == [1, 0, 1]


def test_boolean_labels(tmp_path: Path, encoders: dict[str, EncoderSource]) -> None:
    files = {split: columns(label=[True, False, True]) for split in SPLITS}
    write_dataset(tmp_path / "data", **files)
    assert _prepare(tmp_path / "data", encoders).split("train").labels.tolist() == [1, 0, 1]


def test_unknown_label_names_split_and_row(
    tmp_path: Path, cache: Path, encoders: dict[str, EncoderSource]
) -> None:
    metadata = {"paretofuse.classes": json.dumps(["c0", "c1"])}
    write_dataset(tmp_path / "data", metadata, validation=columns(label=["c0", "c9", "c1"]))
    with pytest.raises(UserError, match=r"\(validation row 1\) are of none of the 2 classes .*, but 'c9'"):
        _prepare(tmp_path / "data", encoders)
    assert _left_in(cache) == []


def test_missing_modality(tmp_path: Path, encoders: dict[str, EncoderSource]) -> None:
    metadata = {"paretofuse.modalities": json.dumps({"text": "text", "audio": "image"})}
    write_dataset(tmp_path / "data", metadata)
    with pytest.raises(UserError, match="has no image; its modalities: text, audio"):
        _prepare(tmp_path / "data", encoders)


@pytest.mark.parametrize(("width", "height", "resized"), [(40, 32, (20, 16)), (30, 90, (16, 48))])
def test_pixels(
    tmp_path: Path,
    encoders: dict[str, EncoderSource],
    width: int,
    height: int,
    resized: tuple[int, int],
) -> None:
    picture = _picture(width, height)
    write_dataset(tmp_path / "data", train=columns(image=[png(), _encoded(picture), png()]))
    data = _prepare(tmp_path / "data", encoders, size=16)
    pixels = data.split("train").inputs("image", torch.tensor([1]))["pixel_values"]

    left, top = (resized[0] - 16) // 2, (resized[1] - 16) // 2
    cut = picture.resize(resized, Image.Resampling.BICUBIC).crop((left, top, left + 16, top + 16))
    assert pixels.dtype == torch.float32
    np.testing.assert_allclose(pixels[0], _normalised(cut, *IMAGENET), atol=1e-6)


def test_pixels_are_normalised_as_the_encoder_wants(
    tmp_path: Path, encoders: dict[str, EncoderSource], tiny_encoders: dict[str, Path]
) -> None:
    folder = shutil.copytree(tiny_encoders["vit"], tmp_path / "vit")
    mean, std = [0.1, 0.2, 0.3], [0.4, 0.5, 0.6]
    config = {"image_processor_type": "ViTImageProcessor", "image_mean": mean, "image_std": std}
    (folder / "preprocessor_config.json").write_text(json.dumps(config))
    picture = _picture(16, 16)
    write_dataset(tmp_path / "data", train=columns(1, image=[_encoded(picture)]))
    data = _prepare(tmp_path / "data", {**encoders, "image": resolve_encoder("image", str(folder))}, size=16)
    pixels = data.split("train").inputs("image", torch.tensor([0]))["pixel_values"]
    np.testing.assert_allclose(pixels[0], _normalised(picture, mean, std), atol=1e-6)


@pytest.mark.parametrize(("family", "pad"), [("bert", 0), ("roberta", 1), ("distilbert", 0)])
def test_texts_are_cut_and_padded(
    tmp_path: Path, tiny_encoders: dict[str, Path], family: str, pad: int
) -> None:
    texts = ["red", "red green red green red green", None, "red zebra red"]
    write_dataset(tmp_path / "data", train=columns(4, text=texts))
    encoder = resolve_encoder("text", str(tiny_encoders[family]))
    rows = _prepare(tmp_path / "data", {"text": encoder}, text_length=5).split("train")
    inputs = rows.inputs("text", torch.arange(4))
    assert inputs["input_ids"].tolist() == [
        [CLS, RED, SEP, pad, pad],
        [CLS, RED, GREEN, RED, SEP],
        [CLS, SEP, pad, pad, pad],
        [CLS, RED, UNK, RED, SEP],
    ]
    assert inputs["attention_mask"].sum(dim=1).tolist() == [3, 5, 2, 5]
    assert torch.equal(inputs["attention_mask"], inputs["input_ids"] != pad)


def test_rows_keep_their_order_over_lots_and_shards(
    tmp_path: Path, encoders: dict[str, EncoderSource]
) -> None:
    n = 1100
    content = {
        "text": [" ".join(["red"] * (i % 3 + 1)) for i in range(n)],
        "image": _colours(n),
        "label": [i % 11 for i in range(n)],
    }
    table = pa.table(content)
    parts = {"train_0": table[:300], "train_1": table[300:]}
    rest = {split: columns(label=[0, 1, 2]) for split in ("validation", "test")}
    write_dataset(tmp_path / "data", **parts, **rest)
    rows = _prepare(tmp_path / "data", encoders).split("train")

    assert len(rows) == n
    assert rows.labels.tolist() == content["label"]
    order = torch.randperm(n, generator=torch.Generator().manual_seed(0))
    pixels = rows.inputs("image", order)["pixel_values"][:, :, 0, 0]
    values = (pixels * torch.tensor(IMAGENET[1]) + torch.tensor(IMAGENET[0])) * 255
    expected = torch.stack([order % 256, order // 256, torch.full_like(order, 7)], dim=1)
    assert torch.equal(values.round().long(), expected)
    assert torch.equal(rows.inputs("text", order)["attention_mask"].sum(dim=1), order % 3 + 3)


@pytest.mark.parametrize("distinct", [1, 511, 512, 513, 1100])
def test_equal_cells_are_stored_once(
    tmp_path: Path, encoders: dict[str, EncoderSource], distinct: int
) -> None:
    """Repeated cells give the same, bit by bit, as the rows of a dataset in which they are there once."""
    n, draw = 1100, np.random.default_rng(distinct)
    images, texts = _colours(distinct), ["red", "green red", "", "red red"]
    picture = np.concatenate([draw.permutation(distinct), draw.integers(0, distinct, n - distinct)])
    text = draw.integers(0, len(texts), n)
    content = {
        "text": [texts[i] for i in text],
        "image": [images[i] for i in picture],
        "label": picture % 7,
    }
    rest = {split: columns(label=[0, 6, 2]) for split in ("validation", "test")}
    repeated = _prepare(write_dataset(tmp_path / "repeated", train=content, **rest), encoders).split("train")
    places = range(max(distinct, len(texts)))
    once = {
        "text": [texts[i % len(texts)] for i in places],
        "image": [images[i % distinct] for i in places],
        "label": [0 for _ in places],
    }
    single = _prepare(write_dataset(tmp_path / "once", train=once, **rest), encoders).split("train")

    assert torch.equal(repeated.labels, torch.from_numpy(picture % 7))
    assert len(repeated.cells["image"]) == len(single.cells["image"]) == distinct + 1, "and the blank"
    assert len(repeated.cells["text"]) == len(single.cells["text"]) == len(texts) + 1
    order = torch.from_numpy(draw.permutation(n))
    for modality, drawn in (("image", picture), ("text", text)):
        found = repeated.inputs(modality, order)
        expected = single.inputs(modality, torch.from_numpy(drawn)[order])
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in found)


@pytest.mark.parametrize(
    ("words", "family", "expected"),
    [
        (1, "bert", 8),
        (6, "bert", 8),
        (7, "bert", 16),
        (20, "bert", 24),
        (90, "bert", 40),
        (90, "roberta", 38),
        (90, "xlm-roberta", 38),
        (90, "camembert", 38),
    ],
)
def test_typical_text_length(
    tmp_path: Path, tiny_encoders: dict[str, Path], words: int, family: str, expected: int
) -> None:
    folder = write_dataset(tmp_path / "data", train=columns(text=[" ".join(["red"] * words)] * 3))
    encoder = resolve_encoder("text", str(tiny_encoders[family]))
    assert typical_text_length(open_dataset(str(folder)), "text", encoder) == expected
    assert typical_text_length(open_dataset(str(folder)), "text", encoder) == expected  # from the cache


@pytest.mark.parametrize(
    ("n", "long", "expected"),
    [
        (200, 1, 8),
        (200, 10, 32),
        (150, 2, 32),
    ],
)
def test_typical_text_length_cuts_at_most_one_text_in_a_hundred(
    tmp_path: Path, encoders: dict[str, EncoderSource], n: int, long: int, expected: int
) -> None:
    texts = [" ".join(["red"] * (28 if i < long else 4)) for i in range(n)]
    folder = write_dataset(tmp_path / "data", train=columns(n, text=texts))
    assert typical_text_length(open_dataset(str(folder)), "text", encoders["text"]) == expected


@pytest.mark.parametrize("file", ["prepared.json", "train.arrow", "test-text.arrow", "train-image.arrow"])
@pytest.mark.parametrize("harm", ["cut", "zeroed"])
def test_damaged_data_are_prepared_again(
    tmp_path: Path,
    encoders: dict[str, EncoderSource],
    capfd: pytest.CaptureFixture[str],
    file: str,
    harm: str,
) -> None:
    folder = write_dataset(tmp_path / "data")
    data = _prepare(folder, encoders)
    path = data.folder / file
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2] if harm == "cut" else bytes(len(content)))
    _prepare(folder, encoders)
    assert path.read_bytes() == content
    assert f"cache entry {data.folder} was damaged" in capfd.readouterr().err


def test_a_damaged_text_length_is_counted_again(
    tmp_path: Path, cache: Path, encoders: dict[str, EncoderSource]
) -> None:
    dataset = open_dataset(str(write_dataset(tmp_path / "data")))
    length = typical_text_length(dataset, "text", encoders["text"])
    (path,) = entries_of(cache / "columns")
    path.write_bytes(bytes(path.stat().st_size))
    assert typical_text_length(dataset, "text", encoders["text"]) == length


def test_a_full_disk_is_one_line_and_nothing_is_left(
    tmp_path: Path,
    encoders: dict[str, EncoderSource],
    small_cache: Path,
) -> None:
    folder = write_dataset(tmp_path / "data", **dict.fromkeys(SPLITS, columns(image=_colours(3))))
    (small_cache / "others").write_bytes(bytes(2**21 - 2**17))
    with pytest.raises(DiskFullError, match=r"no space left .* \(0.1 MiB free, 0.4 MiB needed\)"):
        _prepare(folder, encoders, size=128)
    assert _left_in(small_cache / "cache") == []
    (small_cache / "others").unlink()
    assert len(_prepare(folder, encoders, size=128).split("train")) == 3


def test_equal_pictures_fit_where_as_many_different_ones_would_not(
    tmp_path: Path,
    encoders: dict[str, EncoderSource],
    small_cache: Path,
) -> None:
    folder = write_dataset(tmp_path / "data", train=columns(30))
    (small_cache / "others").write_bytes(bytes(2**20))
    calls: list[tuple[str, int, int]] = []
    data = _prepare(folder, encoders, size=128, progress=lambda *done: calls.append(done))
    assert len(data.split("train")) == 30
    assert size_of(data.folder) < 8 * 3 * 128**2
    assert ("train", 0, 30) in calls, "counting shows that it is alive"


def test_the_least_recently_used_data_make_room_unless_a_process_uses_them(
    tmp_path: Path, cache: Path, encoders: dict[str, EncoderSource], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_dataset(tmp_path / "data")
    sizes = (16, 17, 18, 19)
    keys = {}
    for age, size in zip((300, 400, 200), sizes, strict=False):
        data = _prepare(folder, encoders, size=size)
        keys[size] = data.key
        path = manifest_path(data.folder)
        then = path.stat().st_mtime - age
        os.utime(path, (then, then))
    monkeypatch.setattr(prepared, "LIMIT", sum(map(size_of, entries_of(cache / "prepared"))))
    release(cache / "prepared" / keys[16])  # the others are in use by this process
    new = _prepare(folder, encoders, size=19)
    assert {path.name for path in entries_of(cache / "prepared")} == {keys[17], keys[18], new.key}


def test_what_is_missing_is_a_blank(tmp_path: Path, cache: Path, encoders: dict[str, EncoderSource]) -> None:
    """A missing value is the blank input of its kind, and stays apart from an empty text that is there."""
    metadata = {"paretofuse.modalities": json.dumps({"text": "text", "image": "image", "sensor": "sensor"})}
    encoders = {**encoders, "sensor": resolve_encoder("sensor", "features:dim=2,max_length=3")}
    given = [[[1.0, 5.0]], [[3.0, 5.0], [2.0, 5.0]], None]
    content = columns(text=["red", None, ""], image=[None, png(), png()], sensor=given)
    folder = write_dataset(tmp_path / "data", metadata, **dict.fromkeys(SPLITS, content))
    rows = _prepare(folder, encoders).split("train")
    there = {modality: rows.present(modality).tolist() for modality in encoders}
    assert there == {
        "text": [True, False, True],
        "image": [False, True, True],
        "sensor": [True, True, False],
    }
    every = torch.arange(3)
    texts = rows.inputs("text", every)
    assert torch.equal(texts["input_ids"][1], texts["input_ids"][2])
    assert rows.inputs("image", every)["pixel_values"][0].abs().max() < 0.02, "the mean color"
    sensor = rows.inputs("sensor", every)
    assert sensor["attention_mask"].tolist() == [[True] + [False] * 2, [True, True, False], [False] * 3]
    deviation = (2 / 3) ** 0.5  # of 1, 3 and 2; a feature that is the same everywhere becomes 0
    expected = torch.tensor([[-1, 0], [1, 0], [0, 0]]) / deviation
    assert torch.allclose(sensor["features"][:2].flatten(0, 1)[[0, 3, 4]], expected)
    assert not sensor["features"][2].any()


def test_features_without_a_usable_vector(tmp_path: Path, encoders: dict[str, EncoderSource]) -> None:
    metadata = {"paretofuse.modalities": json.dumps({"sensor": "sensor"})}
    content = {**columns(), "sensor": pa.array([None, [], [np.nan]], pa.list_(pa.float64()))}
    folder = write_dataset(tmp_path / "data", metadata, **dict.fromkeys(SPLITS, content))
    with pytest.raises(UserError, match="column 'sensor' has no usable vector in the train split"):
        _prepare(folder, {"sensor": resolve_encoder("sensor", "features:dim=1")})


@pytest.mark.parametrize("paths", [False, True])
def test_rows_that_are_read_one_by_one_are_the_same(
    tmp_path: Path,
    encoders: dict[str, EncoderSource],
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    paths: bool,
) -> None:
    """Large rows are read, converted and written in small pieces."""
    images: list[Any] = _colours(300)
    images[7:9], images[200] = [None, images[3]], b"no picture"
    if paths:
        (tmp_path / "data").mkdir()
        for number, content in enumerate(images):
            if content is not None:
                (tmp_path / "data" / f"{number}.png").write_bytes(content)
        images = [None if content is None else f"{number}.png" for number, content in enumerate(images)]
    write_dataset(tmp_path / "data", train=columns(300, image=images))
    skip = ReadingSettings(bad_rows="skip")
    whole = _prepare(tmp_path / "data", encoders, reading=skip)
    content = {path.name: path.read_bytes() for path in whole.folder.iterdir()}
    shutil.rmtree(cache)
    for module in (prepared, files, parquet):
        monkeypatch.setattr(module, "READ_BYTES", 1)
    monkeypatch.setattr(cells, "_AHEAD", 1)
    pieces = _prepare(tmp_path / "data", encoders, reading=skip)
    assert len(pieces.split("train")) == 299
    same = {path.name: path.read_bytes() == content[path.name] for path in pieces.folder.iterdir()}
    other = {name for name, equal in same.items() if not equal}
    assert other == {f"{split}.arrow" for split in SPLITS}, "rows are in other batches"
    for modality in encoders:
        assert torch.equal(pieces.split("train").index[modality], whole.split("train").index[modality])
