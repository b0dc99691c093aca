"""Batches of raw inputs and of cached features, with all modalities and without some."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.trainables.data.test_source import columns, png, write_dataset
from trainables.data import EncodedSplit, FeatureCache, Loader, open_dataset, prepare
from trainables.data.loader import lost
from trainables.step.setting import TrainingSetting
from trainables.towers import PRESENCE, InputSizes, Sequence, load_tower, resolve_encoder, resolve_encoders

CPU = torch.device("cpu")

#: Numbers of words; the tokeniser adds two tokens to each text.
WORDS = (1, 6, 7, 30)


@pytest.mark.parametrize(
    ("rows", "tokens"), [([0], 8), ([0, 1], 8), ([1, 2], 16), ([0, 3], 20), ([0, 1, 2, 3], 20)]
)
def test_texts_are_padded_to_the_longest_one_of_the_batch(
    rows: list[int], tokens: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_encoders
) -> None:
    monkeypatch.setenv("PARETOFUSE_CACHE", str(tmp_path / "cache"))
    texts = [" ".join(["red"] * count) for count in WORDS]
    images = [png((9 * i, 90, 90), (16, 16)) for i in range(len(WORDS))]
    dataset = write_dataset(tmp_path / "data", train=columns(text=texts, image=images, label=["a", "b"] * 2))
    encoders = {"text": resolve_encoder("text", str(tiny_encoders["bert"]))}
    split = prepare(open_dataset(str(dataset)), encoders, InputSizes(text_length=20)).split("train")
    index = torch.tensor(rows)
    batch = Loader(split, ("text",), 4, torch.device("cpu")).batch(index).inputs["text"]
    whole = split.inputs("text", index)
    assert isinstance(batch, dict)
    assert batch["input_ids"].shape == batch["attention_mask"].shape == (len(rows), tokens)
    for name, tensor in batch.items():
        assert torch.equal(tensor, whole[name][:, :tokens])
    assert not whole["attention_mask"][:, tokens:].any()


def test_images_are_augmented_in_training_only_and_a_blank_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_encoders
) -> None:
    monkeypatch.setenv("PARETOFUSE_CACHE", str(tmp_path / "cache"))
    images = [png((9, 90, 90), (16, 16)), None]
    dataset = write_dataset(tmp_path / "data", train=columns(text=["", ""], image=images, label=["a", "b"]))
    encoders = {"image": resolve_encoder("image", str(tiny_encoders["vit"]))}
    split = prepare(open_dataset(str(dataset)), encoders, InputSizes(image_size=32)).split("train")
    loader = Loader(split, ("image",), 2, torch.device("cpu"), augment=lambda pixels, _: 255 - pixels)
    rows = torch.arange(2)
    (plain,) = loader.in_order()
    changed = loader.batch(rows, torch.Generator())
    first, second = (
        [batch.inputs["image"]["pixel_values"][row] for row in rows] for batch in (plain, changed)
    )
    assert not torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])


@pytest.fixture
def loaders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_encoders: dict[str, Path]
) -> dict[str, Loader]:
    """Loaders of the same 40 rows, from raw inputs and from cached features; every fifth text is missing."""
    monkeypatch.setenv("PARETOFUSE_CACHE", str(tmp_path / "cache"))
    texts = [None if i % 5 == 0 else " ".join(["red"] * (1 + i % 6)) for i in range(40)]
    images = [png((6 * i, 90, 90), (16, 16)) for i in range(40)]
    folder = write_dataset(tmp_path / "data", train=columns(40, text=texts, image=images))
    encoders = resolve_encoders({"text": str(tiny_encoders["bert"]), "image": str(tiny_encoders["vit"])})
    data = prepare(open_dataset(str(folder)), encoders, InputSizes(text_length=8, image_size=32))
    split, features = data.split("train"), {}
    for modality, encoder in encoders.items():
        of = EncodedSplit(data, "train", load_tower(encoder), encoder.name, TrainingSetting(), CPU)
        features[modality] = FeatureCache(2**30).features(of, 1)
    return {
        "raw": Loader(split, tuple(encoders), 8, CPU, presence=True),
        "cached": Loader(split, tuple(encoders), 8, CPU, features, presence=True),
    }


def _values(batch: object) -> torch.Tensor:
    """Return one modality's values of a batch, one row for each sample."""
    if isinstance(batch, Sequence):
        return batch.tokens.flatten(1)
    assert isinstance(batch, dict)
    return batch.get("pixel_values", batch.get("input_ids")).flatten(1).float()


@pytest.mark.parametrize("source", ["raw", "cached"])
def test_a_modality_that_is_taken_away_is_missing_everywhere(loaders: dict[str, Loader], source: str) -> None:
    loader = loaders[source]
    rows = torch.arange(40)
    whole, without = loader.batch(rows).inputs, loader.without(["text"]).batch(rows).inputs
    missing = rows % 5 == 0
    assert whole[PRESENCE]["text"].tolist() == (~missing).tolist()
    assert not without[PRESENCE]["text"].any()
    assert without[PRESENCE]["image"].all()
    assert torch.equal(_values(without["image"]), _values(whole["image"]))
    blank = _values(whole["text"])[0][: _values(without["text"]).shape[1]]
    assert (_values(without["text"]) == blank).all()
    assert not loader.without(["text"]).without(["image"]).batch(rows).inputs[PRESENCE]["image"].any()
    assert loader.batch(rows).inputs[PRESENCE]["image"].all(), "the loader itself is as it was"


@pytest.mark.parametrize("source", ["raw", "cached"])
def test_dropout_takes_modalities_from_rows(loaders: dict[str, Loader], source: str) -> None:
    loader = loaders[source]
    epochs = {
        (seed, dropout): list(loader.shuffled(seed, dropout))
        for seed, dropout in ((0, 0.0), (0, 0.5), (1, 0.5), (0, 1.0))
    }
    again = list(loader.shuffled(0, 0.5))
    for one, other in zip(epochs[0, 0.5], again, strict=True):
        assert torch.equal(_values(one.inputs["image"]), _values(other.inputs["image"]))
    plain = torch.cat([batch.labels for batch in epochs[0, 0.0]])
    assert torch.equal(plain, torch.cat([batch.labels for batch in again])), "the same order"
    there = {
        key: torch.cat([torch.stack([*batch.inputs[PRESENCE].values()]) for batch in batches], dim=1)
        for key, batches in epochs.items()
    }
    assert there[0, 0.0].sum().item() == 72
    assert all(present.any(dim=0).all() for present in there.values()), "no row loses all"
    assert not torch.equal(there[0, 0.5], there[1, 0.5])
    assert (there[0, 1.0].sum(dim=0) == 1).all()
    blank = _values(loader.without(["image"]).batch(torch.arange(1)).inputs["image"])[0]
    for batch in epochs[0, 0.5]:
        blanks = (_values(batch.inputs["image"]) == blank).all(dim=1)
        assert torch.equal(blanks, ~batch.inputs[PRESENCE]["image"])


def test_raw_and_cached_batches_lose_the_same(loaders: dict[str, Loader]) -> None:
    raw, cached = (list(loaders[source].shuffled(3, 0.4)) for source in ("raw", "cached"))
    for one, other in zip(raw, cached, strict=True):
        for modality, present in one.inputs[PRESENCE].items():
            assert torch.equal(present, other.inputs[PRESENCE][modality])


def test_only_training_loses_modalities(loaders: dict[str, Loader]) -> None:
    loader = loaders["cached"]
    assert all(batch.inputs[PRESENCE]["image"].all() for batch in loader.in_order())
    assert loader.batch(torch.arange(40), None, 0.9).inputs[PRESENCE]["image"].all()


def test_rates_of_loss() -> None:
    generator = torch.Generator().manual_seed(0)
    present = torch.ones(3, 20_000, dtype=torch.bool)
    present[2, :10_000] = False
    gone = lost(present, 0.3, generator)
    left = present & ~gone
    assert left.any(dim=0).all()
    # Of two or three modalities, each is lost with 0.3, unless all would be
    expected = [(slice(10_000), 0.3 - 0.3**2 / 2), (slice(10_000, None), 0.3 - 0.3**3 / 3)]
    for rows, share in expected:
        for modality in range(2):
            assert gone[modality, rows].float().mean().item() == pytest.approx(share, abs=0.015)


def test_what_may_not_be_dropped_stays(loaders: dict[str, Loader]) -> None:
    whole = loaders["raw"]
    loader = Loader(whole.split, whole.modalities, 8, CPU, presence=True, droppable=["image"])
    batches = [batch.inputs[PRESENCE] for batch in loader.shuffled(0, 1.0)]
    assert sum(present["text"].sum().item() for present in batches) == 32
    assert all(present["image"].all() for present in batches), "it is all that may be lost"
