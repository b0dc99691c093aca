"""The commands ``runs`` and ``rm``."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient
from typer.testing import CliRunner

from search.cli import app
from search.config import SearchConfig
from search.records.shelf import ENDED, State
from search.records.store import SearchStore
from search.reporting.mlflow_runs import SEARCH_ID


@pytest.fixture
def folder(workplace: Path, empty_store: Path) -> Path:
    """The folder of a search that has finished, with its runs in MLflow."""
    (workplace / "mlflow.db").write_bytes(empty_store.read_bytes())
    client = MlflowClient(f"sqlite:///{workplace}/mlflow.db")
    experiment = client.get_experiment_by_name("paretofuse").experiment_id
    for search in ("mine", "other"):
        parent = client.create_run(experiment, tags={SEARCH_ID: search})
        client.create_run(experiment, tags={"mlflow.parentRunId": parent.info.run_id})
    folder = workplace / "runs" / "mine"
    config = SearchConfig(space="pmf_nas", num_samples=3)
    facts = {"search_id": "mine", "begun": True, "config": config.to_json(), ENDED: State.FINISHED}
    SearchStore.create(folder, facts).close()
    (folder / "config.json").write_text(config.to_json())
    return folder


def runs_left(workplace: Path) -> int:
    client = MlflowClient(f"sqlite:///{workplace}/mlflow.db")
    experiment = client.get_experiment_by_name("paretofuse").experiment_id
    return len(client.search_runs([experiment]))


def test_they_are_listed(folder: Path):
    said = CliRunner().invoke(app, ["runs"]).output
    assert "finished" in said
    assert "0 of 3" in said
    (document,) = json.loads(CliRunner().invoke(app, ["runs", "--json"]).output)
    assert (document["name"], document["state"], document["planned"]) == ("mine", "finished", 3)


def test_one_is_removed_once_it_is_sure(folder: Path, workplace: Path):
    refused = CliRunner().invoke(app, ["rm", "mine"], input="n\n")
    assert "was not removed" in str(refused.exception)
    assert folder.exists()
    done = CliRunner().invoke(app, ["rm", "mine"], input="y\n")
    assert done.exit_code == 0
    assert not folder.exists()
    assert runs_left(workplace) == 4


def test_its_runs_in_mlflow_go_on_request(folder: Path, workplace: Path):
    done = CliRunner().invoke(app, ["rm", "mine", "--yes", "--mlflow"])
    assert "and 2 runs in MLflow" in done.output
    assert runs_left(workplace) == 2


def test_while_it_is_run_neither_its_files_nor_its_runs_are_removed(folder: Path, workplace: Path):
    with closing(SearchStore.open(folder)):
        refused = CliRunner().invoke(app, ["rm", "mine", "--yes", "--mlflow"])
    assert "is being run" in str(refused.exception)
    assert folder.exists()
    assert runs_left(workplace) == 4
