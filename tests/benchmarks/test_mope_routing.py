"""The benchmark of how MoPE routes."""

from __future__ import annotations

import csv
import importlib
from pathlib import Path

import pytest
import torch

from trainables.data import open_dataset


def _read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_step_and_every_row_of_the_test_split_is_noted(workplace, squares, tiny_encoders) -> None:
    routing = importlib.import_module("mope_routing")
    places = {
        "--dataset": squares,
        "--text-encoder": tiny_encoders["bert"],
        "--image-encoder": tiny_encoders["vit"],
    }
    sizes = {
        "--image-size": 32,
        "--text-length": 8,
        "--epochs": 2,
        "--batch-size": 16,
        "--set": "n_experts=3",
    }
    words = [str(word) for option in ({**places, **sizes}).items() for word in option]
    routing.app([*words, "--name", "mine"], standalone_mode=False)
    steps, rows = (_read(workplace / "runs" / "mine" / name) for name in ("steps.csv", "rows.csv"))
    dataset = open_dataset(str(squares))
    assert len(steps) == 2 * -(-dataset.count("train") // 16)
    for step in steps:
        assert sum(float(step[f"importance_{expert}"]) for expert in range(3)) == pytest.approx(1, abs=1e-3)
        assert 0 <= float(step["entropy"]) <= 1.585  # log2 of 3
    texts = [text for batch in dataset.batches("test", ["text"]) for text in batch["text"].to_pylist()]
    assert [row["text"] for row in rows] == texts
    assert {row["expert"] for row in rows} <= {"0", "1", "2"}
    assert all(1 / 3 <= float(row["score"]) <= 1 for row in rows)
    assert (workplace / "runs" / "mine" / "routing.png").stat().st_size


def test_entropy_is_in_bits() -> None:
    routing = importlib.import_module("mope_routing")
    scores = torch.tensor([[[0.25] * 4], [[1.0, 0, 0, 0]]])  # of two layers
    assert routing.entropy(scores) == pytest.approx(1)
