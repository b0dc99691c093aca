"""Batches of raw inputs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.trainables.data.test_source import columns, png, write_dataset
from trainables.data import Loader, open_dataset, prepare
from trainables.towers import InputSizes, resolve_encoder

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
