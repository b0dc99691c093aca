"""A whole search in which one modality learns to find the others, and how it is set up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking import MlflowClient
from rich.console import Console

from search import SearchConfig, run_search
from search.setup import look_up, set_up
from tests.pairs import VIEWS, encoders_of_pairs, write_pairs
from tests.search.on_ray import ray_in
from trainables.errors import UserError


def settings_of(folder: Path, **changes: Any) -> dict[str, Any]:
    return {
        "space": "linear",
        "dataset": str(write_pairs(folder / "pairs")),
        "encoder": tuple(f"{modality}={name}" for modality, name in encoders_of_pairs().items()),
        "task": "retrieval",
        "query": "slant",
        "embedding_size": 16,
        "target": "cpu",
        **changes,
    }


def test_the_query_is_no_modality_of_the_space(workplace) -> None:
    setup = set_up(look_up(SearchConfig(**settings_of(workplace))).in_precision("fp32"), Console(quiet=True))
    assert set(setup.backend.context.depths) == set(VIEWS) - {"slant"}
    assert [objective.name for objective in setup.history.objectives] == ["memory", "r_at_1"]
    assert setup.backend.guess["r_at_1"] == pytest.approx(1 / 40)
    assert setup.details["dataset.query"] == "slant"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"query": None}, "--task retrieval: needs --query MODALITY"),
        ({"query": "sound"}, "--query sound: must be one of several modalities, shape, stroke, slant"),
        ({"query": "slant", "modalities": ("slant",)}, "--query slant: must be one of several"),
        ({"margin": 0.1}, "--margin 0.1: is for --retrieval-loss margin"),
        (
            {"temperature": 0.05, "retrieval_loss": "margin"},
            "--temperature 0.05: is for --retrieval-loss infonce",
        ),
        ({"label_smoothing": 0.1}, "--label-smoothing: is not for the task retrieval"),
        ({"class_weights": "inverse"}, "--class-weights: is not for the task retrieval"),
    ],
)
def test_what_makes_no_retrieval_is_refused(workplace, changes, message) -> None:
    config = SearchConfig(**settings_of(workplace, **changes))
    with pytest.raises(UserError, match=message):
        set_up(look_up(config).in_precision("fp32"), Console(quiet=True))


@pytest.mark.full
@pytest.mark.ray
def test_a_search(tmp_path, ray_address, empty_store) -> None:
    with ray_in(tmp_path, ray_address, empty_store):
        uri = f"sqlite:///{tmp_path}/mlflow.db"
        changes = {"num_samples": 1, "epochs": 4, "name": "finds", "storage_path": str(tmp_path / "runs")}
        result = run_search(SearchConfig(**settings_of(tmp_path, **changes), tracking_uri=uri))
    assert result.trials == 1
    assert result.probe is not None
    assert result.probe["config"]["method"] == "probe"
    assert result.probe["r_at_1"] == 1, "each view is a linear function of the others"
    assert result.verdict is not None
    assert "r_at_1" in result.verdict
    client = MlflowClient(uri)
    (experiment,) = (e for e in client.search_experiments() if e.name == "paretofuse")
    recorded = {run.info.run_name: run.data.metrics for run in client.search_runs([experiment.experiment_id])}
    metrics = recorded["trial-000"]
    assert metrics["r_at_10"] > 10 / 40
    assert metrics["reverse_mean_rank"] < 41 / 2
    assert recorded["probe"]["test.median_rank"] == 1
