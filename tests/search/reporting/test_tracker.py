"""What a search leaves in MLflow, and what it does while MLflow is slow, away or in the middle of things."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import shutil
import socket
import statistics
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.tracking import MlflowClient

from search.backends.base import Material
from search.config import SearchConfig
from search.goals.luck import Luck
from search.goals.objectives import get_objectives
from search.process import prepared_process
from search.records.history import History, Infeasible, TrialRecord
from search.records.status import Ending, Status
from search.reporting import mlflow_server, mlflow_writer
from search.reporting.rows import front_rows
from search.reporting.tracker import Tracker
from search.units import GIB
from tests.search.reporting.test_mlflow_note import make_note
from trainables.errors import UserError
from trainables.memory import MemoryReport

KIND = "mlflow.experimentKind"
CALLS = (
    "get_experiment_by_name",
    "get_experiment",
    "get_metric_history",
    "search_runs",
    "create_run",
    "get_run",
    "log_batch",
    "log_inputs",
    "log_text",
    "set_experiment_tag",
    "log_artifact",
    "set_terminated",
    "update_run",
)


class Server:
    """Stands between the tracker and a store: counts calls, and can be slow, away, or lose an answer."""

    def __init__(self, uri: str) -> None:
        self.client = MlflowClient(uri)
        self.down = False
        self.delay = 0.0
        self.lose: set[str] = set()  # calls that are carried out once more, but whose answer is lost
        self.refuse = ""  # calls in whose arguments this stands
        self.dies_at = 0  # number of the request for a run that is carried out, and after which it is away
        self.calls: Counter[str] = Counter()

    def __call__(self, uri: str) -> Server:
        return self

    def __getattr__(self, name: str) -> Any:
        assert name in CALLS, name

        def call(*args: Any, **options: Any) -> Any:
            self.calls[name] += 1
            time.sleep(self.delay)
            if self.down:
                raise MlflowException("connection refused")
            if self.refuse and self.refuse in str(args):
                raise MlflowException("not like this", INVALID_PARAMETER_VALUE)
            answer = getattr(self.client, name)(*args, **options)
            if name == "create_run" and self.calls[name] == self.dies_at:
                self.down = True
                raise MlflowException("connection reset")
            if name in self.lose:
                self.lose.remove(name)
                raise MlflowException("connection reset")
            return answer

        return call


@pytest.fixture(autouse=True)
def process() -> Iterator[None]:
    """A process in which MLflow's client leaves waiting to the tracker, as searches have it."""
    with prepared_process():
        yield


@pytest.fixture
def uri(empty_store: Path, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A store's address; pauses between writes are short."""
    monkeypatch.setattr(mlflow_writer, "_ROUND", 0.02)
    shutil.copy(empty_store, workplace / "mlflow.db")
    return f"sqlite:///{workplace}/mlflow.db"


@pytest.fixture
def server(uri: str, monkeypatch: pytest.MonkeyPatch) -> Server:
    """A server at ``http://mlflow``."""
    server = Server(uri)
    monkeypatch.setattr(mlflow_server, "MlflowClient", server)
    return server


def make_history() -> History:
    return History(get_objectives(("memory", "accuracy")), {"memory": 2.0, "accuracy": 0.0})


def add(history: History, epochs: int = 0, **given: Any) -> TrialRecord:
    """Take up the next trial, of which each takes more memory and is more accurate, after some epochs."""
    number = len(history.trials)
    report = MemoryReport((number + 1) * GIB // 8, 10, 20, 30, 40, 50, 1000 + number, 4000)
    config = {"method": "pmf", "learning_rate": 1e-3 * (number + 1)}
    record = TrialRecord(**{"trial_id": f"trial-{number:03d}", "config": config, "memory": report, **given})
    for _ in range(epochs):
        train(record)
    history.add(record)
    return record


def train(record: TrialRecord) -> None:
    number = len(record.epochs) + 1
    accuracy = 0.1 * number + record.memory.total / GIB / 10
    values = {"epoch": number, "accuracy": accuracy, "loss": 1 / number, "train_loss": 2 / number}
    memory = {"expected_memory": 0.5, "measured_memory": 0.6} if number == 1 else {}
    record.epochs.append({**values, **memory, "time": 1_700_000_000.5 + number})


def make_tracker(
    uri: str | None, history: History, warnings: list[str] | None = None, **given: Any
) -> Tracker:
    """Return a tracker that has begun."""
    tracker = opened_tracker(uri, history, warnings, **given)
    tracker.begin()
    return tracker


def opened_tracker(
    uri: str | None,
    history: History,
    warnings: list[str] | None = None,
    search_id: str = "id-of-mine",
    max_memory: int | None = None,
    **given: Any,
) -> Tracker:
    warn = (warnings if warnings is not None else []).append
    config = SearchConfig(space="pmf_nas", name="mine", tracking_uri=uri, max_memory=max_memory)
    return Tracker(config, history, {"dataset.fingerprint": "f00"}, search_id, warn, **given)


def runs(uri: str) -> tuple[list[Run], dict[str, Run]]:
    """Return the parents and the children, which are checked to be one a trial."""
    found = sorted(MlflowClient(uri).search_runs(["1"]), key=lambda run: run.info.run_name)
    parents = [run for run in found if run.data.tags["kind"] == "search"]
    children = [run for run in found if run.data.tags["kind"] == "trial"]
    names = [run.data.tags["trial_id"] for run in children]
    assert len(set(names)) == len(names)
    assert all(run.data.tags["mlflow.parentRunId"] == parents[0].info.run_id for run in children)
    return parents, dict(zip(names, children, strict=True))


def steps(uri: str, run: Run, metric: str) -> list[int]:
    return sorted(entry.step for entry in MlflowClient(uri).get_metric_history(run.info.run_id, metric))


def wait_for(condition: Any, seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_all_that_is_to_be_said_of_a_search(uri, workplace) -> None:
    history, warnings = make_history(), []
    tracker = make_tracker(uri, history, warnings)
    first = add(history)
    tracker.update(first)
    for _ in range(3):
        train(first)
        tracker.update(first)
    history.settle(first, Status.FINISHED)
    tracker.update(first)
    history.mark()
    tracker.progress()
    full = add(
        history, status=Status.RETRIED, message="no room", ending=Ending(Status.OUT_OF_MEMORY, "training", "")
    )
    retry = add(history, 1, status=Status.OUT_OF_MEMORY, retry_of=full.trial_id, failures=2, legs=3)
    retry.ending = Ending(Status.OUT_OF_MEMORY, "validation", "")
    repeat = add(history, 3, repeat_of=first.trial_id, seed=7, config=first.config, memory=first.memory)
    paused = add(history, 1, status=Status.PAUSED)
    stopped = add(history, 1, status=Status.STOPPED)
    for record in (full, retry, repeat, paused, stopped):
        tracker.update(record)
    history.settle(repeat, Status.FINISHED)
    history.mark()
    tracker.progress()
    first.test, first.robustness = {"accuracy": 0.25}, {"image": {"accuracy": 0.125}}
    first.luck = Luck(0.875, None, {"accuracy": 0.0625})
    history.infeasible["x"] = Infeasible({"method": "pmf"}, first.memory)
    picture = workplace / "front.png"
    picture.write_bytes(b"png")
    rows = [{"trial_id": "trial-000", "memory": 0.125, "config": first.config}]
    assert tracker.close("FINISHED", {"front.json": rows, "methods.json": []}, picture)
    assert warnings == []

    (parent,), children = runs(uri)
    assert parent.info.run_id == tracker.parent_id
    assert (parent.info.run_name, parent.info.status) == ("mine", "FINISHED")
    assert parent.data.tags["paretofuse.search_id"] == "id-of-mine"
    assert parent.data.params == {"space": "pmf_nas"}, "what differs from the defaults"
    document = Path(MlflowClient(uri).download_artifacts(parent.info.run_id, "settings.json")).read_text()
    settings = json.loads(document)
    assert settings["settings"]["trial"]["epochs"] == SearchConfig(space="pmf_nas").trial.epochs
    assert settings["settings"]["trial"]["feature_cache_size"] == "8GiB"
    assert settings["resolved"] == {"dataset": {"fingerprint": "f00"}}
    assert {"torch", "python"} <= settings["versions"].keys()
    assert steps(uri, parent, "hypervolume") == [1, 2]
    assert parent.data.metrics["front_size"] == 1
    assert parent.data.metrics["out_of_memory"] == 1
    assert parent.data.metrics["best.memory"] == 0.125
    client = MlflowClient(uri)
    artifacts = {file.path for file in client.list_artifacts(parent.info.run_id)}
    assert artifacts == {"settings.json", "front.json", "front.png", "infeasible.json"}
    table = client.load_table("1", "front.json")
    assert table.to_dict("records") == [{"trial_id": "trial-000", "memory": 0.125, **first.config}]

    assert list(children) == [f"trial-{number:03d}" for number in range(6)]
    assert {name: run.info.run_name for name, run in children.items()} == {name: name for name in children}
    assert [record.run_id for record in history.trials.values()] == [r.info.run_id for r in children.values()]
    finished = children["trial-000"]
    assert {"method": "pmf", "trial_id": "trial-000"}.items() <= finished.data.params.items()
    assert finished.data.metrics["predicted.total"] == finished.data.metrics["memory"] == 0.125
    assert finished.data.metrics["predicted.activations"] == 40 / GIB
    assert finished.data.metrics["memory_error"] == pytest.approx(0.2)
    assert finished.data.metrics["test.accuracy"] == 0.25
    assert finished.data.metrics["test.accuracy.without_image"] == 0.125
    assert finished.data.metrics["p_front"] == 0.875
    assert finished.data.metrics["standard_error.accuracy"] == 0.0625
    assert "p_better" not in finished.data.metrics
    assert "time" not in finished.data.metrics
    assert steps(uri, finished, "accuracy") == [1, 2, 3]
    assert [m.timestamp for m in client.get_metric_history(finished.info.run_id, "loss")] == [
        1_700_000_001_500,
        1_700_000_002_500,
        1_700_000_003_500,
    ]
    statuses = ["FINISHED", "FAILED", "FAILED", "FINISHED", "SCHEDULED", "KILLED"]
    assert [run.info.status for run in children.values()] == statuses
    tags = [run.data.tags for run in children.values()]
    assert [tag["front"] for tag in tags] == ["true", "false", "false", "true", "false", "false"]
    assert [tag["status"] for tag in tags] == [record.status for record in history.trials.values()]
    assert (tags[1]["retried_as"], tags[2]["retry_of"]) == ("trial-002", "trial-001")
    assert (tags[1]["message"], tags[1]["stage"], "infeasible" in tags[1]) == ("no room", "training", False)
    assert (tags[2]["infeasible"], tags[2]["failures"], tags[2]["legs"]) == ("true", "2", "3")
    assert tags[3]["repeat_of"] == "trial-000"
    assert [run.data.params.get("seed") for run in children.values()] == [None, None, None, "7", None, None]


def test_nodes_are_a_table_to_which_those_are_added_that_join(uri, server) -> None:
    first = {"hostname": "one", "node_ip": "10.0.0.1", "torch": "2.13.0"}
    rows, history = [first], make_history()
    tracker = make_tracker("http://mlflow", history, nodes=lambda: list(rows))
    client = MlflowClient(uri)

    def holds() -> bool:
        with contextlib.suppress(MlflowException):  # there is no such table yet
            return client.load_table("1", "nodes.json").to_dict("records") == rows
        return False

    wait_for(holds)
    rows.append({**first, "hostname": "two", "node_ip": "10.0.0.2"})
    written = server.calls["log_text"]
    tracker.started(add(history))
    tracker.started(add(history))
    wait_for(holds)
    assert server.calls["log_text"] == written + 1, "what has not changed is not written again"
    assert tracker.close("FINISHED", {"front.json": [{"trial_id": "trial-000", "config": {}}]}, None)
    (parent,), _ = runs(uri)
    shown = json.loads(parent.data.tags["mlflow.loggedArtifacts"])
    assert [table["path"] for table in shown] == ["nodes.json", "front.json"]


def test_what_it_hears_of_a_trial_is_written(uri) -> None:
    history = make_history()
    tracker = make_tracker(uri, history)
    record = add(history)
    tracker.started(record)
    wait_for(lambda: record.run_id and runs(uri)[1]["trial-000"].info.status == "RUNNING")
    train(record)
    tracker.reported(record)
    wait_for(lambda: "accuracy" in runs(uri)[1]["trial-000"].data.metrics)
    history.settle(record, Status.FINISHED)
    history.mark()
    tracker.ended(record)
    wait_for(lambda: runs(uri)[1]["trial-000"].info.status == "FINISHED")
    wait_for(lambda: runs(uri)[0][0].data.metrics.get("trials") == 1)
    assert tracker.close("FINISHED", {}, None)


def test_what_is_known_about_luck_is_the_latest(uri) -> None:
    history = make_history()
    for chance in (0.9, 0.4):  # the search was resumed, and then it was less sure
        tracker = make_tracker(uri, history)
        if not history.trials:
            history.settle(add(history, 2), Status.FINISHED)
        history.trials["trial-000"].luck = Luck(chance)
        tracker.begin()
        assert tracker.close("FINISHED", {}, None)
        assert runs(uri)[1]["trial-000"].data.metrics["p_front"] == chance


def test_what_is_known_no_more_does_not_stay(uri) -> None:
    history = make_history()
    history.settle(add(history, 2), Status.FINISHED)
    trial = history.trials["trial-000"]
    written = []
    known = (Luck(0.9, 0.8, {"accuracy": 0.02}), "better"), (Luck(0.1), None), (Luck(0.1), None)
    for trial.luck, verdict in known:
        assert make_tracker(uri, history).close("FINISHED", {}, None, verdict=verdict)
        (parent,), children = runs(uri)
        assert parent.data.tags.get("verdict") == verdict
        run_id = children["trial-000"].info.run_id
        written.append(len(MlflowClient(uri).get_metric_history(run_id, "p_better")))
    metrics = children["trial-000"].data.metrics
    assert metrics["p_front"] == 0.1
    assert math.isnan(metrics["p_better"])
    assert math.isnan(metrics["standard_error.accuracy"])
    assert written == [1, 2, 2], "once"


def test_the_training_of_a_supernet_is_a_run_of_its_own_kind(uri) -> None:
    history = make_history()
    tracker = make_tracker(uri, history)
    report = MemoryReport(GIB, 10, 20, 30, 40, 50, 1000, 4000)
    record = TrialRecord("whatever", {"method": "pmf"}, report, kind="supernet")  # not in the history
    train(record)
    tracker.update(record)
    assert tracker.close("FINISHED", {}, None)
    (run,) = (run for run in MlflowClient(uri).search_runs(["1"]) if run.data.tags["kind"] == "supernet")
    assert (run.info.run_id, run.data.tags["trial_id"]) == (record.run_id, "whatever")
    assert steps(uri, run, "accuracy") == [1]


def test_the_front_is_told_again_when_it_moves(uri) -> None:
    history = make_history()
    tracker = make_tracker(uri, history)
    worse = add(history, 1)
    history.settle(worse, Status.FINISHED)
    tracker.update(worse)
    history.mark()
    tracker.progress()
    wait_for(lambda: worse.run_id and runs(uri)[1]["trial-000"].data.tags["front"] == "true")
    better = add(history, 3, memory=worse.memory)
    history.settle(better, Status.FINISHED)
    tracker.update(better)
    history.mark()
    tracker.progress()
    assert tracker.close("KILLED", {}, None)
    (parent,), children = runs(uri)
    assert parent.info.status == "KILLED"
    assert [run.data.tags["front"] for run in children.values()] == ["false", "true"]


@pytest.mark.parametrize(
    "wrong", ["ftp://here", "mlruns", "sqlite:////proc/none/mlflow.db", "postgresql://x"]
)
def test_a_wrong_address_is_refused_at_once(workplace, wrong) -> None:
    started = time.monotonic()
    with pytest.raises(UserError, match=rf"--tracking-uri {wrong}: cannot be used \(.+\)$"):
        make_tracker(wrong, make_history())
    assert time.monotonic() - started < 3


def test_a_server_that_is_not_there_costs_nothing(workplace) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        address = f"http://127.0.0.1:{taken.getsockname()[1]}"
        history, warnings = make_history(), []
        started = time.monotonic()
        tracker = make_tracker(address, history, warnings)
        assert time.monotonic() - started < 3
        record = add(history)
        assert typical(tracker, record) < 1e-3
        history.mark()
        tracker.progress()
        started = time.monotonic()
        assert not tracker.close("FINISHED", {}, None, patience=0.5)
        assert 0.4 < time.monotonic() - started < 1.5
    assert len(warnings) == 1
    assert warnings[0].startswith("MLflow does not answer (API request to http://127.0.0.1")
    assert tracker.parent_id is None
    assert record.run_id is None


def typical(tracker: Tracker, record: TrialRecord) -> float:
    """Return the seconds that telling of an epoch takes; a median, as other tests use the processor, too."""
    taken = []
    for _ in range(100):
        train(record)
        started = time.perf_counter()
        tracker.update(record)
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)


def test_a_slow_server_slows_nothing_and_gets_many_epochs_at_once(uri, server) -> None:
    history = make_history()
    tracker = make_tracker("http://mlflow", history)
    server.delay = 0.1
    record = add(history)
    assert typical(tracker, record) < 1e-3
    history.settle(record, Status.FINISHED)
    assert tracker.close("FINISHED", {}, None)
    _, children = runs(uri)
    assert steps(uri, children["trial-000"], "accuracy") == list(range(1, 101))
    # settings; what is known of the trial; what was reported until then and after, front among it
    assert server.calls["log_batch"] <= 5
    assert server.calls["create_run"] == 2


def test_what_happens_during_an_outage_is_written_later_and_once(uri, server) -> None:
    history, warnings = make_history(), []
    tracker = make_tracker("http://mlflow", history, warnings)
    first = add(history, 1)
    tracker.update(first)
    wait_for(lambda: first.run_id)
    for outage in (1, 2):
        server.down = True
        train(first)
        tracker.update(first)
        second = add(history, outage)
        tracker.update(second)
        wait_for(lambda outage=outage: len(warnings) == outage)
        time.sleep(0.1)
        server.down = False
        wait_for(lambda second=second: second.run_id)
        time.sleep(0.2)  # until the rest is written, too
    assert tracker.close("FINISHED", {}, None)
    assert len(warnings) == 2
    (parent,), children = runs(uri)
    assert parent.info.status == "FINISHED"
    written = {name: steps(uri, run, "accuracy") for name, run in children.items()}
    assert written == {"trial-000": [1, 2, 3], "trial-001": [1], "trial-002": [1, 2]}


def test_a_server_that_comes_up_late_gets_all(uri, server) -> None:
    server.down = True
    history, warnings = make_history(), []
    tracker = make_tracker("http://mlflow", history, warnings)
    tracker.update(add(history, 2))
    history.mark()
    tracker.progress()
    server.down = False
    assert tracker.close("FINISHED", {}, None)
    (parent,), children = runs(uri)
    assert steps(uri, parent, "hypervolume") == [0]
    assert steps(uri, children["trial-000"], "loss") == [1, 2]
    assert len(warnings) == 1


def test_answers_that_are_lost_leave_nothing_twice(uri, server) -> None:
    history = make_history()
    server.lose = {"create_run"}  # the search's
    tracker = make_tracker("http://mlflow", history)
    wait_for(lambda: tracker.parent_id)
    server.lose = {"create_run", "log_batch"}
    record = add(history, 2)
    tracker.update(record)
    wait_for(lambda: record.run_id and not server.lose)
    time.sleep(0.2)
    server.lose = {"log_batch", "set_terminated"}
    train(record)
    history.settle(record, Status.FINISHED)
    tracker.update(record)
    history.mark()
    tracker.progress()
    assert tracker.close("FINISHED", {}, None)
    assert server.lose == set()
    parents, children = runs(uri)
    assert len(parents) == 1
    assert steps(uri, children["trial-000"], "accuracy") == [1, 2, 3]
    assert steps(uri, parents[0], "hypervolume") == [1]


def test_what_is_refused_is_left_out_and_the_rest_written(uri, server) -> None:
    history, warnings = make_history(), []
    tracker = make_tracker("http://mlflow", history, warnings)
    server.refuse = "trial-001"
    for _ in range(3):
        tracker.update(add(history, 1))
    wait_for(lambda: history.trials["trial-002"].run_id)
    for record in history.trials.values():
        train(record)
        tracker.update(record)
    assert not tracker.close("FINISHED", {}, None)
    (parent,), children = runs(uri)
    assert set(children) == {"trial-000", "trial-002"}
    assert steps(uri, children["trial-002"], "accuracy") == [1, 2]
    assert parent.info.status == "FINISHED"
    assert warnings == ["MLflow does not take trial-001 (not like this); the rest is written"]


def test_an_error_of_a_trial_s_own_does_not_end_the_rest(uri, server) -> None:
    history, warnings = make_history(), []
    tracker = make_tracker("http://mlflow", history, warnings)
    broken = add(history, 1)
    broken.epochs[0]["loss"] = "much"  # type: ignore[assignment]
    tracker.update(broken)
    tracker.update(add(history, 1))
    assert not tracker.close("FINISHED", {}, None)
    assert len(warnings) == 1
    assert "trial-000" in warnings[0]
    (parent,), children = runs(uri)
    assert parent.info.status == "FINISHED"
    assert steps(uri, children["trial-001"], "loss") == [1]


def test_a_search_that_goes_on_goes_on_in_its_runs(uri, server) -> None:
    history = make_history()
    tracker = make_tracker("http://mlflow", history)
    done, half = add(history, 2, status=Status.FINISHED), add(history, 1)
    rows = [{"trial_id": "trial-000", "config": {}}]
    for record in (done, half):
        tracker.update(record)
    half.status = Status.STOPPED
    assert tracker.close("KILLED", {"front.json": rows}, None)
    before, _ = runs(uri)

    again = make_history()
    for record in (done, half):
        record.run_id = None
        again.add(record)
    half.status = Status.RUNNING
    server.calls.clear()
    tracker = make_tracker("http://mlflow", again)
    wait_for(lambda: runs(uri)[1]["trial-001"].info.status == "RUNNING")
    (parent,), children = runs(uri)
    assert parent.info.run_id == before[0].info.run_id == tracker.parent_id
    assert (parent.info.status, children["trial-000"].info.status) == ("RUNNING", "FINISHED")
    assert server.calls["log_batch"] <= 1, "a finished trial is not written again"
    train(half)
    again.settle(half, Status.FINISHED)
    tracker.update(half)
    tracker.update(add(again, 1, status=Status.FAILED))
    assert tracker.close("FINISHED", {"front.json": rows * 2}, None)
    (parent,), children = runs(uri)
    assert parent.info.status == "FINISHED"
    assert [run.info.status for run in children.values()] == ["FINISHED", "FINISHED", "FAILED"]
    assert [steps(uri, run, "accuracy") for run in children.values()] == [[1, 2], [1, 2], [1]]
    document = Path(MlflowClient(uri).download_artifacts(parent.info.run_id, "front.json")).read_text()
    assert len(json.loads(document)["data"]) == 2, "the end's table replaces the interruption's"


@pytest.mark.parametrize("run", [1, 2])
def test_a_search_killed_while_a_run_was_made_takes_it_up(uri, server, run) -> None:
    history = make_history()
    record = add(history, 1)
    server.dies_at = run  # the search's, its trial's
    killed = make_tracker("http://mlflow", history)
    wait_for(lambda: server.down)
    assert not killed.close("KILLED", {}, None, patience=0.0)
    parents, children = runs(uri)
    assert (len(parents), len(children), record.run_id) == (1, run - 1, None)
    server.dies_at, server.down = 0, False
    tracker = make_tracker("http://mlflow", history)
    assert tracker.close("FINISHED", {}, None)
    (parent,), children = runs(uri)
    assert parent.info.run_id == parents[0].info.run_id
    assert parent.data.params["space"] == "pmf_nas"
    assert children["trial-000"].data.params["method"] == "pmf"
    assert steps(uri, children["trial-000"], "accuracy") == [1]


def finish_some(history: History, count: int = 3) -> None:
    for _ in range(count):
        history.settle(add(history, 1), Status.FINISHED)
        history.mark()


def series(uri: str, run: Run, metric: str = "hypervolume") -> list[tuple[int, float]]:
    found = MlflowClient(uri).get_metric_history(run.info.run_id, metric)
    return sorted((entry.step, entry.value) for entry in found)


def test_before_it_begins_it_changes_nothing(uri, server) -> None:
    history = make_history()
    tracker = make_tracker("http://mlflow", history)
    finish_some(history)
    assert tracker.close("FINISHED", {}, None)
    before = runs(uri)
    server.calls.clear()
    # As when a search is resumed, and something fails before its trials are read from the store.
    tracker = opened_tracker("http://mlflow", make_history())
    time.sleep(0.1)
    assert tracker.close("FAILED", {}, None)
    assert set(server.calls) == {"get_experiment_by_name"}
    (parent,), children = runs(uri)
    assert parent.to_dictionary() == before[0][0].to_dictionary()
    assert {name: run.to_dictionary() for name, run in children.items()} == {
        name: run.to_dictionary() for name, run in before[1].items()
    }


def test_a_new_search_that_ends_before_it_begins_has_no_run(uri) -> None:
    tracker = opened_tracker(uri, make_history())
    assert tracker.close("FAILED", {}, None)
    assert runs(uri) == ([], {})


def test_a_search_that_fails_as_it_begins_is_closed(uri) -> None:
    tracker = make_tracker(uri, make_history())
    assert tracker.close("FAILED", {}, None)
    (parent,), _ = runs(uri)
    assert parent.info.status == "FAILED"


def test_a_search_whose_news_are_not_all_written_is_closed(uri, server) -> None:
    history = make_history()
    tracker = make_tracker("http://mlflow", history)
    wait_for(lambda: tracker.parent_id)
    server.delay = 0.2
    for _ in range(20):
        tracker.update(add(history, 1))
    assert not tracker.close("KILLED", {}, None, patience=1.0)
    (parent,), children = runs(uri)
    assert parent.info.status == "KILLED"
    assert len(children) < 20


def test_progress_that_mlflow_never_heard_of_is_written_after_a_resume(uri, server) -> None:
    history = make_history()
    undisturbed = make_tracker("http://mlflow", history, search_id="another")
    finish_some(history)
    assert undisturbed.close("FINISHED", {}, None)
    (whole,), _ = runs(uri)
    MlflowClient(uri).delete_run(whole.info.run_id)
    for record in history.trials.values():
        MlflowClient(uri).delete_run(record.run_id or "")

    server.down = True
    assert not make_tracker("http://mlflow", history).close("KILLED", {}, None, patience=0.2)
    server.down = False
    tracker = make_tracker("http://mlflow", history)
    assert tracker.close("FINISHED", {}, None)
    (parent,), _ = runs(uri)
    for metric in whole.data.metrics:
        assert series(uri, parent, metric) == series(uri, whole, metric)
    assert [step for step, _ in series(uri, parent)] == [1, 2, 3]
    # MLflow has all of it: nothing is written again, except for what is new.
    server.calls.clear()
    tracker = make_tracker("http://mlflow", history)
    finish_some(history, 1)
    tracker.progress()
    assert tracker.close("FINISHED", {}, None)
    assert [step for step, _ in series(uri, parent)] == [1, 2, 3, 4]


def test_a_long_outage_fits_into_mlflow_s_requests(uri, server) -> None:
    history = make_history()
    for number in range(300):
        history.mark()
        point = history.points[-1]
        history.points[-1] = type(point)(1e9 + number, number, point.values)
    assert make_tracker("http://mlflow", history).close("FINISHED", {}, None)
    (parent,), _ = runs(uri)
    assert [step for step, _ in series(uri, parent)] == list(range(300))


MATERIAL = Material("posts", "f00d", True, {"train": 3}, {"text": ("text", "text")}, None)


def test_every_run_has_the_dataset_and_its_origin_and_none_of_it_twice(uri, server) -> None:
    history = make_history()
    tracker = make_tracker("http://mlflow", history, material=MATERIAL)
    tracker.update(add(history, 1))
    server.lose = {"log_inputs", "set_experiment_tag"}
    tracker.update(add(history, 1))
    assert tracker.close("FINISHED", {}, None)
    (parent,), children = runs(uri)
    for run in (parent, *children.values()):
        (entry,) = run.inputs.dataset_inputs
        assert (entry.dataset.name, entry.dataset.digest) == ("posts", "f00d")
        assert run.data.tags["mlflow.user"]
        assert run.data.tags["mlflow.source.name"].startswith("python ")
    written = server.calls["log_inputs"]
    again = make_history()
    for record in history.trials.values():
        again.add(record)
    tracker = make_tracker("http://mlflow", again, material=MATERIAL)
    tracker.update(add(again, 1))
    assert tracker.close("FINISHED", {}, None)
    assert server.calls["log_inputs"] == written + 1, "only for the new trial"


def test_a_server_without_datasets_gets_the_rest(uri, server) -> None:
    history, warnings = make_history(), []
    server.refuse = "DatasetInput"
    tracker = make_tracker("http://mlflow", history, warnings, material=MATERIAL)
    tracker.update(add(history, 1))
    assert not tracker.close("FINISHED", {}, None)
    (parent,), children = runs(uri)
    assert parent.info.status == "FINISHED"
    assert steps(uri, children["trial-000"], "accuracy") == [1]
    assert warnings == ["MLflow does not take the dataset (not like this); the rest is written"]


@pytest.mark.parametrize("said", [None, "genai_development"])
def test_the_experiment_is_one_of_training_unless_somebody_says_otherwise(uri, said) -> None:
    client = MlflowClient(uri)
    if said is not None:
        client.set_experiment_tag("1", KIND, said)
    for _ in range(2):
        assert make_tracker(uri, make_history()).close("FINISHED", {}, None)
        assert client.get_experiment("1").tags[KIND] == (said or "custom_model_development")


def test_a_search_of_an_earlier_version_keeps_its_parameters_and_goes_on(uri) -> None:
    client = MlflowClient(uri)
    tags = {"paretofuse.search_id": "id-of-mine", "kind": "search"}
    run = client.create_run("1", tags=tags)
    client.log_param(run.info.run_id, "space", "('pmf_nas',)")
    client.log_param(run.info.run_id, "epochs", "3")
    history, warnings = make_history(), []
    tracker = opened_tracker(uri, history, warnings, max_memory=2**30)
    tracker.begin()
    assert tracker.close("FINISHED", {}, None)
    assert warnings == []
    (parent,), _ = runs(uri)
    assert parent.info.run_id == run.info.run_id
    assert parent.data.params == {"space": "('pmf_nas',)", "epochs": "3", "max_memory": "1GiB"}


def test_the_description_is_the_latest_note_and_what_users_wrote(uri, server) -> None:
    history = make_history()
    tracker = make_tracker("http://mlflow", history)
    history.settle(add(history, 1), Status.FINISHED)
    note = make_note(front=front_rows(history), methods=[])
    assert tracker.close("KILLED", {}, None, verdict=note.verdict, note=note)
    (parent,), children = runs(uri)
    text = parent.data.tags["mlflow.note.content"]
    run_id = children["trial-000"].info.run_id
    assert f"[trial-000](#/experiments/1/runs/{run_id}?workflowType=machine_learning)" in text
    MlflowClient(uri).set_tag(parent.info.run_id, "mlflow.note.content", f"mine\n{text}")
    tracker = make_tracker("http://mlflow", history)
    server.down = True
    time.sleep(0.1)
    server.down = False
    server.lose = {"get_run", "log_batch"}
    later = make_note(standing="many more")
    assert tracker.close("FINISHED", {}, None, verdict=later.verdict, note=later)
    (parent,), _ = runs(uri)
    text = parent.data.tags["mlflow.note.content"]
    assert text.startswith("mine\n<!-- paretofuse -->")
    assert "many more" in text
    assert text.count("<!-- paretofuse -->") == 1
    assert tracker.page == "#/experiments/1/runs?workflowType=machine_learning"


def test_a_copy_is_tied_to_the_first(uri) -> None:
    assert make_tracker(uri, make_history()).close("FINISHED", {}, None)
    (first,), _ = runs(uri)
    for name, original in (("copy", "id-of-mine"), ("orphan", "id-of-nobody")):
        copied = make_tracker(uri, make_history(), search_id=name, copied_from=original)
        assert copied.close("FINISHED", {}, None)
    tags = {run.data.tags["paretofuse.search_id"]: run.data.tags for run in runs(uri)[0]}
    assert tags["copy"]["paretofuse.copied_from"] == "id-of-mine"
    assert tags["copy"]["paretofuse.copied_from_run"] == first.info.run_id
    assert tags["orphan"]["paretofuse.copied_from"] == "id-of-nobody"
    assert not {"paretofuse.copied_from_run"} & tags["orphan"].keys()
    assert not {"paretofuse.copied_from"} & tags["id-of-mine"].keys()


def test_it_says_that_the_address_is_from_the_variable(uri, monkeypatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    warnings: list[str] = []
    assert make_tracker(None, make_history(), warnings).close("FINISHED", {}, None)
    assert warnings == [f"MLflow: {uri}, from MLFLOW_TRACKING_URI"]
    assert len(runs(uri)[0]) == 1
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "ftp://here")
    with pytest.raises(UserError, match=r"^MLFLOW_TRACKING_URI ftp://here: cannot be used"):
        make_tracker(None, make_history())


@pytest.mark.parametrize("away", [True, False])
def test_a_password_is_in_no_message_and_no_log(uri, server, capfd, away) -> None:
    def speaks(uri: str) -> Any:
        logging.getLogger("mlflow").error("cannot reach %s", uri, exc_info=ValueError(uri))
        error = MlflowException(f"API request to {uri} failed; geheim, gehe%40im")
        raise error if away else ValueError(str(error))

    history, warnings = make_history(), []
    handlers = logging.getLogger("mlflow").handlers
    filters = [handler.filters[:] for handler in handlers]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mlflow_server, "MlflowClient", speaks)
        tracker = None
        try:
            tracker = make_tracker("http://me:gehe%40im@mlflow", history, warnings)
        except UserError as error:
            warnings.append(str(error))
        if tracker:
            tracker.close("FAILED", {}, None, patience=0.1)
    assert len(warnings) == 1
    assert "API request to http://***@mlflow failed; geheim, ***" in warnings[0]
    out, err = capfd.readouterr()
    assert "cannot reach http://" in err
    assert not any(secret in text for secret in ("gehe%40im", "gehe@im") for text in (out, err, *warnings))
    assert [handler.filters[:] for handler in handlers] == filters
