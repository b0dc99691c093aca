"""Short forms of the benchmarks of memory predictions."""

from __future__ import annotations

import importlib

import pytest


@pytest.mark.full
def test_memory_truth(run) -> None:
    """Prediction and step are of the same method in the same setting, so they agree to the byte."""
    document = run("memory_truth", "--methods", "linear", out="--json")
    rows = document["rows"]
    settings = [(row["method"], row["precision"], row["gradient_checkpointing"]) for row in rows]
    assert settings == [
        ("linear", precision, checkpointing)
        for precision in ("fp32", "bf16", "bf16-frozen")
        for checkpointing in (False, True)
    ]
    assert all(row["predicted"] == row["tracked"] > 0 for row in rows)


def test_paper_memory(run) -> None:
    """Rows are predicted in the setting of the paper, in stages; large encoders decide no constant."""
    names = ["ViT", "LateConcat", "PMF", "PMF, ViT-large"]
    document = run("paper_memory", "--rows", ";".join(names), out="--json")
    setting = document["setting"]
    assert (setting["batch_size"], setting["text_length"], setting["image_size"]) == (32, 512, 224)
    assert (setting["precision"], setting["optimizer"], setting["skip_unused"]) == ("fp32", "sgd", False)
    rows = {row["row"]: row for row in document["rows"]}
    assert list(rows) == names
    for row in rows.values():
        on_cpu, on_gpu, reserved = row["predicted"]["training"].values()
        assert on_gpu < reserved == pytest.approx(row["parts"]["reserved"] / 1e9)
        assert 0 < row["predicted"]["inference"]["and allocator"] < reserved
        assert (on_gpu < on_cpu) is (row["row"] != "ViT"), "it alone has no dropout"
    training, inference = document["agreement"]["training"], document["agreement"]["inference"]
    for stage, found in training.items():
        base = [rows[name] for name in names[:3]]
        missing = [row["paper"]["training"] - row["predicted"]["training"][stage] for row in base]
        assert found["constant"]["offset_gb"] == pytest.approx(sum(missing) / 3)
        errors = [abs(found["line"]["errors"][name]) for name in names[:3]]
        assert found["line"]["base"]["worst"] == max(errors)
        assert found["line"]["large"]["worst"] == abs(found["line"]["errors"]["PMF, ViT-large"])
    allocator = "and allocator"
    same = training[allocator]["inference"]["offset_gb"]
    assert same == inference[allocator]["constant"]["offset_gb"]


@pytest.mark.full
def test_prediction(run, workplace) -> None:
    """The same candidates are predicted twice, the second time from disk."""
    document = run("prediction", "--candidates", "6", "--warm", "3", out="--json")
    assert document["candidates"] == 6
    many, warm = document["many"], document["warm"]
    assert many["together"] == many["asking"] + many["predicting"]
    assert 1 <= many["distinct"] <= 6
    assert 0 < many["seen"] < many["predicting"]
    assert 0 < warm["median"] <= warm["worst"]


def test_packing_is_simulated_for_the_same_trials() -> None:
    packing = importlib.import_module("packing")
    gib = 2**30
    rows = {row["variant"]: row for row in packing.simulations([2 * gib, 6 * gib, 10 * gib], 30)}
    assert next(iter(rows)) == "as it is"
    assert all(row["ratio"] > 1 and 0 < row["fill"] <= 1 for row in rows.values())
    alone = packing.simulate([1.0] * 6, [2.0] * 6)
    assert alone == {"makespan": 6.0, "fill": 1.0}
    assert packing.simulate([0.5] * 6, [2.0] * 6) == {"makespan": 4.0, "fill": 0.75}
