"""The comparison with a real GPU: a short form of ``benchmarks/device_memory.py``."""

from __future__ import annotations

import importlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from trainables.methods import METHODS


@pytest.fixture(scope="module")
def device_memory() -> Any:
    return importlib.import_module("device_memory")


def test_what_is_measured_is_what_is_predicted(device_memory, tiny_encoders) -> None:
    encoders = {m: str(tiny_encoders[name]) for m, name in (("text", "bert"), ("image", "vit"))}
    sizes = {"batch_size": 2, "text_length": 8, "image_size": 32}
    base = device_memory.predictor(encoders, replace(device_memory.SETTING, target="cpu", **sizes))
    rows = list(device_memory.measured(base, ["linear", "pmf"], torch.device("cpu")))
    assert len(rows) == 2 * 3 * 2
    compared = device_memory.compared(base, rows)
    for what in ("allocated", "inference"):
        assert set(device_memory.errors(compared, what)) == {0.0}  # the CPU's tensors, to the byte
    assert len({row["allocated"] for row in rows if row["method"] == "pmf"}) > 3  # settings matter


def test_all_methods_were_measured_on_a_gpu(device_memory) -> None:
    results = Path(device_memory.__file__).parent / "results" / "device_memory.json"
    rows = json.loads(results.read_text())["rows"]
    own = {name for name, spec in METHODS.items() if spec.method.__module__.startswith("trainables.")}
    assert {row["method"] for row in rows} == own
    assert len(rows) == len(own) * 3 * 2
    assert all(row["allocated"] < row["reserved"] for row in rows)
