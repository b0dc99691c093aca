"""Probes of all modalities, of single ones, and over all readings."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.tasks import classification
from trainables.probe import Prober

SPLITS = ("train", "validation", "test")


def readings(told: dict[tuple[str, str], int], rows: int = 60) -> Prober:
    """Two modalities; a reading shows which of four classes a row has as far as ``told`` says, in bits."""
    labels = torch.arange(rows) % 4

    def vectors(modality: str, pooling: str, seed: int) -> Tensor:
        noise = torch.randn(rows, 3, generator=torch.Generator().manual_seed(seed)) * 0.1
        bits = told.get((modality, pooling), 0)
        shown = [(labels >> bit) & 1 if bits & (1 << bit) else torch.zeros(rows) for bit in (0, 1)]
        return torch.cat([noise, *(bit.float()[:, None] for bit in shown)], dim=1)

    found = {
        split: {
            modality: {p: vectors(modality, p, seed) for p in ("cls", "mean")}
            for modality in ("text", "image")
        }
        for seed, split in enumerate(SPLITS)
    }
    blanks = {modality: {p: torch.zeros(1, 5) for p in ("cls", "mean")} for modality in ("text", "image")}
    return Prober(classification(4), found, dict.fromkeys(SPLITS, labels), blanks)


def test_the_joint_probe_reads_what_the_methods_read() -> None:
    prober = readings({("text", "cls"): 1, ("image", "mean"): 2})
    probes = prober.probes({"text": "cls", "image": "mean"})
    assert probes.joint.metrics["validation"]["accuracy"] == 1
    assert {m: p.metrics["test"]["accuracy"] for m, p in probes.single.items()} == pytest.approx(
        {"text": 0.5, "image": 0.5}, abs=0.15
    )
    assert probes.best is probes.joint
    without = {m: found["accuracy"] for m, found in probes.joint.robustness.items()}
    assert without == pytest.approx({"text": 0.5, "image": 0.5}, abs=0.15)
    assert probes.single["text"].robustness["image"] == probes.single["text"].metrics["test"]
    assert probes.single["text"].robustness["text"]["accuracy"] == 0.25
    assert probes.joint.outputs["test"].shape == (60, 4)
    assert (
        classification(4).score(probes.joint.outputs["test"], torch.arange(60) % 4)
        == (probes.joint.metrics["test"])
    )


def test_the_best_reading_may_differ_and_may_be_two_at_once() -> None:
    prober = readings({("text", "cls"): 1, ("image", "mean"): 1, ("image", "cls"): 2})
    probes = prober.probes({"text": "cls", "image": "mean"})
    assert probes.joint.poolings == {"text": "cls", "image": "mean"}
    assert probes.joint.metrics["validation"]["accuracy"] < 0.7
    assert probes.best.poolings == {"text": "cls", "image": "cls+mean"}
    assert probes.best.metrics["validation"]["accuracy"] == 1


def test_one_modality_has_one_probe() -> None:
    probes = readings({("text", "cls"): 3}).probes({"text": "cls"})
    assert probes.single == {}
    assert probes.joint.metrics["test"]["accuracy"] == 1
