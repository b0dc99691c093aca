"""Whole searches over what is not one class a sample, on a real local Ray."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from mlflow.tracking import MlflowClient
from rich.console import Console

from search import SearchConfig, run_search
from search.cli.results import conclude
from search.result import SearchResult
from tests.search.on_ray import ray_in
from trainables.data import SPLITS

pytestmark = pytest.mark.ray

#: The tags of a colour, and a number from -3 to 3.
COLOURS = {"red": (["warm"], 1.8), "green": ([], 0.0), "blue": (["cold", "dark"], -2.2)}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, ray_address: str, empty_store: Path) -> Iterator[Path]:
    """One folder and cache for the module."""
    folder = tmp_path_factory.mktemp("tasks")
    with ray_in(folder, ray_address, empty_store):
        yield folder


def searched(
    place: Path, squares: Path, encoders: dict[str, Path], name: str, labels: pa.DataType, **settings: Any
) -> tuple[SearchResult, str]:
    """Search over the squares with other labels; returns the result, and what was said."""
    column = 0 if pa.types.is_list(labels) else 1
    tables = {}
    for split in SPLITS:
        table = pq.read_table(squares / f"{split}.parquet")
        stored = pa.array([COLOURS[colour][column] for colour in table["label"].to_pylist()], labels)
        table = table.drop_columns("label").append_column("label", stored)
        tables[split] = table.replace_schema_metadata({"paretofuse.range": "[-3, 3]"})
    return searched_in(place, tables, encoders, name, **settings)


def searched_in(
    place: Path, tables: dict[str, pa.Table], encoders: dict[str, Path], name: str, **settings: Any
) -> tuple[SearchResult, str]:
    """Search over the rows of some splits; returns the result, and what was said."""
    folder = place / name
    folder.mkdir()
    for split, table in tables.items():
        pq.write_table(table, folder / f"{split}.parquet")
    said = io.StringIO()
    config = SearchConfig(
        space="linear",
        name=name,
        dataset=str(folder),
        text_encoder=str(encoders["bert"]),
        image_encoder=str(encoders["vit"]),
        num_samples=2,
        max_concurrent=1,
        epochs=2,
        batch_size=16,
        image_size=32,
        storage_path=str(place / "runs"),
        tracking_uri=f"sqlite:///{place}/mlflow.db",
        target="cpu",
        **settings,
    )
    return run_search(config, console=Console(file=said, width=200)), said.getvalue()


def check(result: SearchResult, place: Path, metric: str, others: set[str]) -> None:
    """Check that a search is one by memory and a metric, in all that it leaves behind."""
    assert result.trials == 2
    assert not result.failed
    assert [o.name for o in result.objectives] == ["memory", metric]
    stored = json.loads((Path(result.folder) / "config.json").read_text())
    assert stored["objectives"] == ["memory", metric]
    assert 0 < result.hypervolume < 1
    assert all(row["error"] == 0 for row in result.memory), "memory was not predicted to the byte"
    for member in result.front:
        assert f"test_{metric}" in member
        assert metric in member["standard_error"]
    run = MlflowClient(f"sqlite:///{place}/mlflow.db").get_run(result.front[-1]["run_id"])
    assert {metric, *others} <= run.data.metrics.keys()
    assert (Path(result.folder) / "front.png").exists()


def test_tags(place, squares, tiny_encoders) -> None:
    result, said = searched(
        place,
        squares,
        tiny_encoders,
        "tags",
        pa.list_(pa.string()),
        thresholds="tuned",
        class_weights="inverse",
    )
    assert "task: multilabel, 3 tags" in said
    assert "(by its labels, lists of string)" in said
    check(result, place, "macro_f1", {"micro_f1", "map", "loss"})
    assert result.verdict is not None
    assert "of macro_f1 on test" in result.verdict
    best = max(member["macro_f1"] for member in result.front)
    assert best > 2 / 3 * 0.9, "tags were not told apart"


@pytest.mark.full
def test_numbers(place, squares, tiny_encoders) -> None:
    result, said = searched(
        place,
        squares,
        tiny_encoders,
        "numbers",
        pa.float64(),
        regression_loss="huber",
        scheduler="pareto_asha",
        probe=False,
    )
    assert "task: regression of a number from -3 to 3, huber loss (by its labels, double)" in said
    check(result, place, "mae", {"rmse", "pearson_r", "acc2", "acc7", "weighted_f1"})
    losses = [member["mae"] for member in result.front]
    assert losses == sorted(losses, reverse=True), "what costs more is better"
    assert losses[-1] < 1.33, "no better than guessing"


@pytest.mark.full
def test_without_labels_of_the_test_split(place, squares, tiny_encoders, capsys) -> None:
    """The search goes on without a test score, and a class that train lacks is scored as wrong."""
    tables = {split: pq.read_table(squares / f"{split}.parquet") for split in SPLITS}
    tables["test"] = tables["test"].drop_columns("label")
    labels = ["gold", *tables["validation"]["label"].to_pylist()[1:]]
    tables["validation"] = tables["validation"].drop_columns("label").append_column("label", [labels])
    result, said = searched_in(place, tables, tiny_encoders, "hidden", robustness=True)
    assert "labels: validation: 1 of 12 rows are of a class that train lacks ('gold')" in said
    assert "; test: not scored, its rows have no labels" in said
    assert "probe, a linear model" in said
    assert result.trials == 2
    assert not result.failed
    assert result.front[-1]["accuracy"] == pytest.approx(11 / 12)
    assert "accuracy" in result.front[-1]["standard_error"]
    assert all(row["test_accuracy"] is None and not row["robustness"] for row in result.front)
    assert result.verdict is None
    conclude(result, as_json=False)
    printed = capsys.readouterr().out
    assert "test: not scored, its rows have no labels" in printed
    assert "test\nacc" not in printed
    assert json.loads((Path(result.folder) / "result.json").read_text())["untested"]
