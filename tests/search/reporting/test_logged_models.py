"""Models of the front as logged models in MLflow."""

from __future__ import annotations

import json
import time
from pathlib import Path

import mlflow
import pytest
from mlflow.entities import LoggedModel
from mlflow.tracking import MlflowClient

from search.config import SearchConfig
from search.exporting.mlflow_model import add_mlflow
from search.records.history import History
from search.records.status import Status
from search.reporting import tracker as tracker_module
from search.reporting.forgetting import forget
from tests.search.exporting.models import exported
from tests.search.reporting import test_tracker
from tests.search.reporting.test_tracker import Server, add, make_history, make_tracker, runs
from tests.search.reporting.test_tracker import process as process
from tests.search.reporting.test_tracker import server as server
from tests.search.reporting.test_tracker import uri as uri

MODEL_CALLS = (
    "search_logged_models",
    "create_logged_model",
    "delete_logged_model",
    "log_model_artifacts",
    "log_model_artifact",
    "log_outputs",
    "get_run",
    "finalize_logged_model",
    "set_logged_model_tags",
)


@pytest.fixture(autouse=True)
def calls(monkeypatch) -> None:
    """The calls that are made for models, too."""
    monkeypatch.setattr(test_tracker, "CALLS", test_tracker.CALLS + MODEL_CALLS)


@pytest.fixture
def folder(trial_spec, tmp_path) -> Path:
    """A model's folder."""
    folder = exported(trial_spec, tmp_path / "models" / "trial-001")
    add_mlflow(folder)
    return folder


def finished(count: int = 2) -> History:
    """Return a history of trials each of which is on the front."""
    history = make_history()
    for _ in range(count):
        history.settle(add(history, 2, test={"accuracy": 0.5}), Status.FINISHED)
    return history


def models(uri: str) -> dict[str, LoggedModel]:
    """Return the models by trial, of which each has one."""
    found = list(MlflowClient(uri).search_logged_models(["1"]))
    names = [model.tags["trial_id"] for model in found]
    assert len(set(names)) == len(names)
    return dict(zip(names, found, strict=True))


def test_a_member_s_model_belongs_to_its_run_and_loads_by_its_id(uri, folder) -> None:
    history = finished()
    assert make_tracker(uri, history).close("FINISHED", {}, None, models={"trial-001": folder})

    (model,), (_, children) = models(uri).values(), runs(uri)
    run = children["trial-001"]
    assert (model.name, model.status, model.source_run_id) == ("trial-001", "READY", run.info.run_id)
    assert model.tags["front"] == "true"
    assert model.tags["paretofuse.search_id"] == "id-of-mine"
    assert model.params == run.data.params
    assert model.tags["mlflow.user"] == run.data.tags["mlflow.user"]
    note = model.tags["mlflow.note.content"]
    assert f'load_model("models:/{model.model_id}")' in note
    assert "- `image`: a picture's file, in base64" in note
    assert note.endswith("# A model\n")
    linked = {metric.key: metric.value for metric in model.metrics}
    assert (
        linked["accuracy"] == run.data.metrics["accuracy"] == history.trials["trial-001"].values["accuracy"]
    )
    assert linked["memory"] == 0.25
    assert linked["test.accuracy"] == 0.5
    assert [output.model_id for output in run.outputs.model_outputs] == [model.model_id]
    for metric in linked:  # the run has them once
        history_of = MlflowClient(uri).get_metric_history(run.info.run_id, metric)
        assert len({(entry.step, entry.timestamp) for entry in history_of}) == len(history_of)

    mlflow.set_tracking_uri(uri)
    try:
        loaded = mlflow.pyfunc.load_model(f"models:/{model.model_id}")
    finally:
        mlflow.set_tracking_uri(None)
    assert loaded.metadata.run_id == run.info.run_id
    assert loaded.model_id == model.model_id
    here = mlflow.pyfunc.load_model(str(folder))
    rows = [{"text": "a red square"}]
    assert loaded.predict(rows).equals(here.predict(rows))


def test_a_search_that_goes_on_writes_differences_only(uri, server, folder) -> None:
    history = finished(2)
    given = {"trial-001": folder}
    assert make_tracker("http://mlflow", history).close("FINISHED", {}, None, models=given)
    (before,) = models(uri).values()
    server.calls.clear()
    assert make_tracker("http://mlflow", history).close("FINISHED", {}, None, models=given)
    written = {name: count for name, count in server.calls.items() if name in MODEL_CALLS}
    assert written == {"search_logged_models": 1}

    card = json.loads((folder / "config.json").read_text())
    card["about"] = {"p_front": 0.7}
    (folder / "config.json").write_text(json.dumps(card))
    assert make_tracker("http://mlflow", history).close("FINISHED", {}, None, models=given)
    (same,) = models(uri).values()
    assert same.model_id == before.model_id
    held = Path(same.artifact_location, "config.json")
    assert json.loads(held.read_text())["about"] == {"p_front": 0.7}

    weights = folder / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\0\0\0")
    assert make_tracker("http://mlflow", history).close("FINISHED", {}, None, models=given)
    (other,) = models(uri).values()
    assert other.model_id != before.model_id
    assert other.status == "READY"


def test_a_member_that_leaves_the_front_keeps_its_model(uri, folder) -> None:
    history = finished(1)
    assert make_tracker(uri, history).close("FINISHED", {}, None, models={"trial-000": folder})
    better = add(history, 0, memory=history.trials["trial-000"].memory)
    history.note(better, {"epoch": 1, "accuracy": 0.99, "time": 1_700_000_000.0})
    history.settle(better, Status.FINISHED)
    assert make_tracker(uri, history).close("FINISHED", {}, None, models={better.trial_id: folder})
    assert {name: model.tags["front"] for name, model in models(uri).items()} == {
        "trial-000": "false",
        "trial-001": "true",
    }


def test_what_is_forgotten_are_the_models_too(uri, folder) -> None:
    assert make_tracker(uri, finished(2)).close("FINISHED", {}, None, models={"trial-001": folder})
    config = SearchConfig(space="pmf_nas", tracking_uri=uri)
    assert forget(config.tracking.address, "paretofuse", "another") == 0
    assert len(models(uri)) == 1
    assert forget(config.tracking.address, "paretofuse", "id-of-mine") == 3
    assert not models(uri)


@pytest.mark.parametrize("lost", MODEL_CALLS[:2] + MODEL_CALLS[3:])
def test_answers_that_are_lost_leave_no_model_twice(uri, server, folder, lost) -> None:
    history = finished(2)
    server.lose = {lost}
    assert make_tracker("http://mlflow", history).close("FINISHED", {}, None, models={"trial-001": folder})
    (model,), (_, children) = models(uri).values(), runs(uri)
    assert model.status == "READY"
    outputs = children["trial-001"].outputs.model_outputs
    assert [output.model_id for output in outputs] == [model.model_id]


def test_a_server_that_refuses_models_gets_the_rest(uri, server, folder) -> None:
    warnings: list[str] = []
    server.refuse = str(folder)
    tracker = make_tracker("http://mlflow", finished(2), warnings)
    assert not tracker.close("FINISHED", {}, None, models={"trial-001": folder})
    (parent,), _ = runs(uri)
    assert parent.info.status == "FINISHED"
    assert warnings == ["MLflow does not take the model of trial-001 (not like this); the rest is written"]


@pytest.mark.slow
def test_a_slow_server_does_not_keep_the_search_open(uri, server: Server, folder) -> None:
    history, upload = finished(2), server.client.log_model_artifacts

    def slowly(*given: str) -> None:
        time.sleep(2)
        upload(*given)

    server.client.log_model_artifacts = slowly
    tracker = make_tracker("http://mlflow", history)
    tracker.wait()
    assert not tracker.close("FINISHED", {}, None, patience=0.5, models={"trial-001": folder})
    (parent,), _ = runs(uri)
    assert parent.info.status == "FINISHED"

    server.client.log_model_artifacts = upload
    assert make_tracker("http://mlflow", history).close("FINISHED", {}, None, models={"trial-001": folder})
    (model,) = models(uri).values()
    assert model.status == "READY"


def test_a_model_that_is_too_large_is_named_and_stays_where_it_is(uri, folder, monkeypatch) -> None:
    monkeypatch.setattr(tracker_module, "LARGEST", 1000)
    warnings: list[str] = []
    tracker = make_tracker(uri, finished(2), warnings)
    assert tracker.close("FINISHED", {}, None, models={"trial-001": folder})
    assert not models(uri)
    (line,) = warnings
    assert line.startswith(f"MLflow: the model in {folder} has ")
