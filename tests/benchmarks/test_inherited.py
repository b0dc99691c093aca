"""Finalists from inherited and from new weights: a short form of ``benchmarks/inherited.py``."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
import torch

from trainables.elastic import SupernetWeights
from trainables.trial.assignment import Assignment
from trainables.trial.run import TrialRun


@pytest.fixture
def inherited() -> Any:
    return importlib.import_module("inherited")


@pytest.fixture
def options(tiny_encoders) -> dict[str, Any]:
    encoders = {f"{m}_encoder": str(tiny_encoders[name]) for m, name in (("text", "bert"), ("image", "vit"))}
    return {**encoders, "batch_size": 8, "image_size": 32}


def test_finalists_start_from_the_weights_of_their_variant(inherited, squares, options, tmp_path) -> None:
    worth: Any = importlib.import_module("worth")
    (trial,) = worth.jobs_of("squares", [squares], "pmf", 1, **options)
    method = TrialRun(trial.spec, Assignment(config=trial.config)).method
    state = {name: torch.zeros_like(weight) for name, weight in method.trainable_state_dict().items()}
    SupernetWeights("pmf", method.config.to_dict(), state).save(tmp_path)  # says one class of every row
    jobs = [
        inherited.Job(variant, trial.spec, trial.config, 0, tmp_path) for variant in ("inherited:2", "new:1")
    ]
    (name, old), (_, new) = map(inherited.measure, jobs)
    assert name == "inherited:2"
    assert old["start"] == pytest.approx(1 / 3)
    assert new["start"] > 0.8, "the head starts from the probe"
    assert old["seconds"] > 0
    assert 0 <= old["test"] <= 1


def test_a_row_is_the_mean_over_the_finalists(inherited) -> None:
    found = [{"start": 0.5, "validation": 0.6, "test": 0.4, "seconds": s} for s in (10.0, 30.0)]
    shown = inherited.table({"inherited:3": found}).splitlines()
    assert shown[0] == "| weights | epochs | start | validation | test | seconds |"
    assert shown[2] == "| inherited | 3 | 0.500 | 0.600 | 0.400 | 20 |"


@pytest.mark.parametrize("variant", ["inherted:3", "new", "new:0", "new:3:1"])
def test_a_variant_that_is_none_is_refused(run, capsys, variant: str) -> None:
    with pytest.raises(SystemExit) as ended:
        run("inherited", "--variants", f"new:5,{variant}")
    assert ended.value.code == 2
    assert f"{variant!r} is none; write e.g. inherited:3 or new:5" in capsys.readouterr().err


@pytest.mark.full
@pytest.mark.ray
def test_all_finalists_of_a_search_are_trained_in_all_variants(run, squares, options) -> None:
    encoders = [word for m in ("text", "image") for word in (f"--{m}-encoder", options[f"{m}_encoder"])]
    sizes = ["--dataset", str(squares), "--image-size", "32", "--finalists", "2", "--subnets", "4"]
    document = run("inherited", *encoders, *sizes, "--variants", "inherited:1,new:2")
    assert {variant: len(found) for variant, found in document["results"].items()} == {
        "inherited:1": 2,
        "new:2": 2,
    }
    assert document["settings"]["precision"]
