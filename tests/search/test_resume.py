"""Searches that are killed, interrupted, extended and taken up by others: nothing is lost or repeated."""

from __future__ import annotations

import glob
import io
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray
from mlflow.tracking import MlflowClient
from ray.tune.search import Searcher
from rich.console import Console

from search import SearchConfig, run_search
from search.api import resume_search
from search.engine.searcher import ParetoSearcher
from search.records.history import TrialRecord, canonical
from search.records.status import Status
from search.records.store import SearchStore
from search.records.versions import installed
from search.reporting import mlflow_writer
from search.testing.searching import CONTEXT, end, finish, make_searcher, out_of_memory, result
from spaces import SPACES, Space
from tests.search.on_ray import kill_family, ray_in
from tests.trials import DAMAGE
from trainables.errors import DiskFullError, UserError
from trainables.memory import MemoryReport
from trainables.step.setting import TrainingSetting

EPOCHS = 4


# Without Ray: everything that a search decides, cut off between any two of Ray Tune's events.


def _events(searcher: ParetoSearcher) -> Iterator[None]:
    """Run a search with one trial at a time, as Ray Tune would; stop after each of its events."""
    for number in range(1_000_000):
        tune_id = f"{id(searcher)}-{number}"
        handed = searcher.suggest(tune_id)
        if handed == Searcher.FINISHED:
            return
        assert isinstance(handed, dict)
        yield
        record = searcher.history.leg(tune_id)
        saved = int(record.checkpoint.rsplit("-", 1)[1]) if record.checkpoint else 0
        stops = False
        while not stops:
            saved += 1
            reported = result(saved, _accuracy(handed["assignment"].config, saved))
            stops = not searcher.recorder.report(tune_id, reported) or saved == EPOCHS
            yield
            searcher.recorder.save(tune_id, f"trial/checkpoint-{saved}")
            yield
        end(searcher, tune_id, reported)
        yield


def _accuracy(config: Mapping[str, Any], epoch: int) -> float:
    best = 0.3 + 0.05 * config["n_fusion_layers"] + config["translator_width"] / 4000
    return best * (1 - 0.5**epoch)


def _searched(folder: Path, pieces: random.Random | None, **settings: Any) -> ParetoSearcher:
    """Run a search to its end, in pieces of random length if so wanted."""
    settings = {"epochs": EPOCHS, "num_samples": 14, "max_memory": 600 * 2**20, **settings}
    while True:
        searcher = make_searcher(folder=folder, **settings)
        events = _events(searcher)
        # Three events are an epoch's progress: handed out, reported, saved.
        left = 10**6 if pieces is None else pieces.randint(3, 12)
        if not any(left == number for number, _ in enumerate(events, 1)):
            return searcher
        searcher.store.close()


def _state(record: TrialRecord) -> tuple[Any, ...]:
    epochs = [{name: value for name, value in epoch.items() if name != "time"} for epoch in record.epochs]
    return record.trial_id, record.status, record.config, epochs


@pytest.mark.parametrize("scheduler", ["none", "pareto_asha"])
@pytest.mark.parametrize("sampler", ["tpe", "nsga2", "random"])
def test_a_search_in_pieces_is_the_search_in_one(tmp_path, sampler, scheduler) -> None:
    settings = {"sampler": sampler, "scheduler": scheduler}
    whole = _searched(tmp_path / "whole", None, **settings)
    pieces = _searched(tmp_path / "pieces", random.Random(1), **settings)
    assert sum(record.legs for record in pieces.history.trials.values()) > 20
    assert list(map(_state, pieces.history.trials.values())) == list(
        map(_state, whole.history.trials.values())
    )
    assert pieces.history.infeasible == whole.history.infeasible
    proposals = [[trial.params for trial in searcher.study.study.trials] for searcher in (pieces, whole)]
    assert proposals[0] == proposals[1]
    ids = [[record.trial_id for record in searcher.history.front()] for searcher in (pieces, whole)]
    assert ids[0] == ids[1]


def test_a_trial_whose_end_was_not_heard_of_is_not_trained_on(tmp_path) -> None:
    searcher = make_searcher(folder=tmp_path, epochs=2, num_samples=2)
    for number in (0, 1):
        searcher.suggest(f"leg{number}")
        searcher.recorder.report(f"leg{number}", result(1, 0.5))
    searcher.recorder.report("leg0", result(2, 0.6))
    searcher.recorder.save("leg0", "trial/checkpoint-2")
    searcher.store.close()

    resumed = make_searcher(folder=tmp_path, epochs=2, num_samples=2)
    assert [record.status for record in resumed.history.trials.values()] == ["finished", "running"]
    assert resumed.study.frozen(0).values[1] == 0.6
    handed = resumed.suggest("leg2")
    assert isinstance(handed, dict)
    assert handed["assignment"].trial_id == "trial-001"
    finish(resumed, "leg2", 0.7)
    assert resumed.suggest("leg3") == Searcher.FINISHED


def test_a_trial_that_has_yet_to_save_is_not_promoted() -> None:
    searcher = make_searcher(epochs=2, scheduler="pareto_asha", reduction_factor=2, num_samples=4)

    def goes_on(tune_id: str, accuracy: float) -> bool:
        return searcher.recorder.report(tune_id, result(1, accuracy))

    searcher.history.losses = lambda values: (-values["accuracy"],) * 2  # type: ignore[method-assign]
    for number in range(4):
        searcher.suggest(f"leg{number}")
    assert goes_on("leg0", 0.9)
    assert not goes_on("leg1", 0.8)
    goes_on("leg2", 0.1)
    goes_on("leg3", 0.2)  # the second of four is good enough now, and still busy
    finish(searcher, "leg0", 0.9)
    assert searcher.suggest("leg4") is None
    end(searcher, "leg1", result(1, 0.8))
    handed = searcher.suggest("leg4")
    assert isinstance(handed, dict)
    assert handed["assignment"].folder == "trial-001.2"


def test_a_second_attempt_is_promoted_as_any_other() -> None:
    searcher = make_searcher(epochs=2, scheduler="pareto_asha", reduction_factor=2, num_samples=2)
    for number in (0, 1):
        searcher.suggest(f"leg{number}")
    end(searcher, "leg0", out_of_memory(below_share=True))
    finish(searcher, "leg1", 0.1)
    second = searcher.suggest("leg2")
    assert isinstance(second, dict)
    record = searcher.history.leg("leg2")
    assert record.retry_of == "trial-000"
    searcher.recorder.report("leg2", result(1, 0.5))
    record.status = Status.PAUSED
    searcher.on_trial_complete("leg2")
    searcher.suggest("leg3")
    assert searcher.history.leg("leg3") is record
    finish(searcher, "leg3", 0.6)
    assert searcher.study.frozen(0).values[1] == 0.6


# With Ray: killed in earnest. Recorded trials stand in for training.


def _write_table(path: Path) -> Path:
    """Write a table of 30 made-up trials."""
    draw = random.Random(0)
    setting = TrainingSetting(batch_size=16, text_length=16, image_size=56, target="cpu")
    rows = []
    for number in range(30):
        config = {
            "method": "pmf",
            "n_fusion_layers": 1 + number % 5,
            "n_query_prompts": draw.randint(1, 32),
            "n_query_context_prompts": draw.randint(1, 32),
            "n_fusion_context_prompts": draw.randint(1, 32),
            "translator_width": 48 * draw.randint(1, 8),
            "learning_rate": 2e-3,
        }
        total = (100 + 20 * config["n_fusion_layers"] + config["translator_width"] // 10) * 2**20
        report = MemoryReport(total, total, 0, 0, 0, 0, trainable_parameters=1000, checkpoint=4000)
        memory = {f"memory.{name}": size for name, size in asdict(report).items()}
        known = {"number": number, "params": "{}", "config": json.dumps(config), **memory}
        for epoch in range(1, EPOCHS + 1):
            accuracy = _accuracy(config, epoch) + draw.gauss(0, 0.02)
            rows.append({**known, "epoch": float(epoch), "accuracy": accuracy, "loss": 1 - accuracy})
    described = {
        "space": "pmf_nas",
        "dataset": "openclipart",
        "classes": 13,
        "majority": 0.2,
        "depths": CONTEXT.depths,
        "widths": CONTEXT.widths,
        "epochs": EPOCHS,
        "setting": asdict(setting),
    }
    table = pa.Table.from_pylist(rows).replace_schema_metadata({"paretofuse": json.dumps(described)})
    pq.write_table(table, path)
    return path


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, ray_address: str, empty_store: Path) -> Iterator[Path]:
    """One folder and MLflow database for the module."""
    folder = tmp_path_factory.mktemp("searches")
    with pytest.MonkeyPatch.context() as patch, ray_in(folder, ray_address, empty_store):
        patch.setattr(mlflow_writer, "_ROUND", 0.05)
        yield folder


@pytest.fixture(scope="module")
def settings(place) -> dict[str, Any]:
    """Settings of a search."""
    return {
        "space": "pmf_nas",
        "replay": str(_write_table(place / "table.parquet")),
        "target": "cpu",
        "epochs": EPOCHS,
        "num_samples": 10,
        "max_concurrent": 2,
        "sampler": "random",
        "storage_path": str(place / "runs"),
        "tracking_uri": f"sqlite:///{place}/mlflow.db",
    }


@pytest.fixture(scope="module")
def whole(settings) -> Any:
    """A search that nothing happened to."""
    return run_search(SearchConfig(**settings, name="whole"))


@contextmanager
def _driver(settings: Mapping[str, Any], *more: str) -> Iterator[subprocess.Popen[str]]:
    """Run the command line in a process of its own; nothing of it is left over."""
    pairs = [x for name, value in settings.items() for x in (f"--{name.replace('_', '-')}", str(value))]
    command = [sys.executable, "-m", "search", *pairs, *more]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        yield process
    finally:
        kill_family(process)


class _Checkpoints:
    """Counts the checkpoints of a running search, whose store is closed to others, as they come and go."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._seen: set[str] = set()

    def count(self) -> int:
        """Return how many there have been."""
        self._seen |= set(glob.glob("trial-*/checkpoint_*", root_dir=self._folder))
        return len(self._seen)


def _wait_for_checkpoints(process: subprocess.Popen[str], folder: Path, count: int) -> None:
    deadline = time.monotonic() + 120
    checkpoints = _Checkpoints(folder)
    while checkpoints.count() < count:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.02)


@contextmanager
def _ctrl_c_at(folder: Path, count: int) -> Iterator[None]:
    """Interrupt this process as soon as so many checkpoints were saved."""

    def wait() -> None:
        checkpoints = _Checkpoints(folder)
        while not ended.wait(0.02):
            if checkpoints.count() >= count:
                os.kill(os.getpid(), signal.SIGINT)
                return

    ended = threading.Event()
    thread = threading.Thread(target=wait)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _trials(folder: Path) -> dict[str, TrialRecord]:
    store = SearchStore.read(folder)
    return {name: TrialRecord.from_dict(name, *rest) for name, *rest in store.trials()}


def _stopped_in_the_middle(trials: Mapping[str, TrialRecord], folder: Path) -> None:
    """Some ran; at most the epoch after the last checkpoint is to be done again."""
    running = [record for record in trials.values() if record.status == Status.RUNNING]
    assert running
    for record in running:
        saved = 0
        if record.checkpoint is not None:
            saved = json.loads((folder / record.checkpoint / "replay.json").read_text())["epoch"]
        assert 0 <= len(record.epochs) - saved <= 1


def _unchanged(before: Mapping[str, TrialRecord], after: Mapping[str, TrialRecord]) -> None:
    """What was reported before stays as it was, and what had finished was not handed out again."""
    for name, record in before.items():
        assert after[name].config == record.config
        assert after[name].epochs[: len(record.epochs)] == record.epochs
        if record.status == Status.FINISHED:
            assert (after[name].status, after[name].legs) == ("finished", record.legs)


def _one_run_a_trial(uri: str, name: str, trials: Mapping[str, TrialRecord], parent_id: str | None) -> None:
    client = MlflowClient(uri)
    (parent,) = client.search_runs(["1"], f"tags.`mlflow.runName` = '{name}' and tags.kind = 'search'")
    assert parent.info.run_id == parent_id
    assert parent.info.status == "FINISHED"
    children = client.search_runs(["1"], f"tags.`mlflow.parentRunId` = '{parent_id}'")
    assert Counter(child.data.tags["trial_id"] for child in children) == Counter(list(trials))
    for child in children:
        record = trials[child.data.tags["trial_id"]]
        epochs = client.get_metric_history(child.info.run_id, "accuracy")
        assert [m.value for m in sorted(epochs, key=lambda m: m.step)] == [
            epoch["accuracy"] for epoch in record.epochs
        ]
        if record.status == Status.FINISHED:
            assert child.info.status == "FINISHED"


def _found(front: list[dict[str, Any]]) -> list[tuple[str, float, float]]:
    return [(canonical(row["config"]), row["memory"], row["accuracy"]) for row in front]


def _interrupted_and_ended(name: str, before: Mapping[str, TrialRecord], whole: Any, place: Path) -> None:
    """Go on with a search, interrupt it, and end it: it is the search that nothing happened to."""
    folder, storage = place / "runs" / name, str(place / "runs")
    with _ctrl_c_at(folder, 10):
        assert resume_search(name, storage_path=storage).interrupted
    interrupted = _trials(folder)
    _stopped_in_the_middle(interrupted, folder)
    _unchanged(before, interrupted)

    ended = resume_search(name, storage_path=storage, replay_seconds=0)
    trials = _trials(folder)
    _unchanged(interrupted, trials)
    undisturbed = _trials(place / "runs" / "whole")
    assert [_state(trials[name]) for name in trials] == [_state(undisturbed[name]) for name in trials]
    assert len(trials) == len(undisturbed) == 10
    assert max(record.legs for record in trials.values()) <= 3
    assert _found(ended.front) == _found(whole.front)
    assert ended.hypervolume == whole.hypervolume
    assert not ended.interrupted
    _one_run_a_trial(f"sqlite:///{place}/mlflow.db", name, trials, ended.parent_run_id)


@pytest.mark.ray
@pytest.mark.full
def test_interrupted_twice_it_is_the_search_in_one(whole, settings, place) -> None:
    folder = place / "runs" / "interrupted"
    with _ctrl_c_at(folder, 5):
        assert run_search(SearchConfig(**settings, replay_seconds=0.3, name="interrupted")).interrupted
    interrupted = _trials(folder)
    _stopped_in_the_middle(interrupted, folder)
    _interrupted_and_ended("interrupted", interrupted, whole, place)


def _damage(search: Path, damages: list[str]) -> list[str]:
    """Damage the last checkpoint of the trials that ran; return what is said of them."""
    running = [record for record in _trials(search).values() if record.status == Status.RUNNING]
    said = []
    for record, damage in zip((r for r in running if r.checkpoint), damages, strict=False):
        assert record.checkpoint is not None
        DAMAGE[damage](search / record.checkpoint / "replay.json")
        said.append(f"{record.trial_id} {record.checkpoint} is damaged (replay.json ")
    return said


@pytest.mark.ray
def test_after_a_power_loss_it_is_the_search_in_one(whole, settings, place) -> None:
    folder, storage = place / "runs" / "power", settings["storage_path"]
    with _ctrl_c_at(folder, 6):  # both trials have run three of their four epochs
        assert run_search(SearchConfig(**settings, replay_seconds=0.4, name="power")).interrupted
    said = _damage(folder, ["cut", "zeroed"])
    assert said
    heard = io.StringIO()
    resumed = resume_search(
        "power", storage_path=storage, replay_seconds=0, console=Console(file=heard, width=300)
    )
    assert all(what in heard.getvalue() for what in said)
    trials, undisturbed = _trials(folder), _trials(place / "runs" / "whole")
    assert [_state(trials[name]) for name in trials] == [_state(undisturbed[name]) for name in trials]
    assert len(trials) == 10
    assert resumed.failed == 0
    assert _found(resumed.front) == _found(whole.front)
    _one_run_a_trial(settings["tracking_uri"], "power", trials, resumed.parent_run_id)


@pytest.mark.ray
@pytest.mark.full
def test_killed_with_all_of_ray_it_is_the_search_in_one(whole, settings, place) -> None:
    folder = place / "runs" / "killed"
    slow = {**settings, "replay_seconds": 0.3, "address": "local"}
    with _driver(slow, "--name", "killed") as process:
        _wait_for_checkpoints(process, folder, 5)
        names = {child.name() for child in psutil.Process(process.pid).children(recursive=True)}
        assert {"gcs_server", "raylet"} <= names
        assert kill_family(process) == []
    killed = _trials(folder)
    _stopped_in_the_middle(killed, folder)
    _interrupted_and_ended("killed", killed, whole, place)


@pytest.mark.ray
@pytest.mark.full
def test_halving_goes_on_where_its_driver_was_killed(settings, place) -> None:
    folder = place / "runs" / "halving"
    here = {"address": ray.get_runtime_context().gcs_address, "replay_seconds": 0.1, "name": "halving"}
    # One at a time, so that what comes when is known: a trial pauses early, and goes on after later ones.
    halving = {**settings, "num_samples": 16, "max_concurrent": 1}
    halving |= {"scheduler": "pareto_asha", "reduction_factor": 1.5, "seed": 3}
    with _driver({**halving, **here}) as process:
        _wait_for_checkpoints(process, folder, 15)
        with pytest.raises(UserError, match=f"search 'halving' is being run by process {process.pid} on "):
            resume_search("halving", storage_path=settings["storage_path"])
        process.kill()
        process.wait()
    killed = _trials(folder)
    _stopped_in_the_middle(killed, folder)
    paused = {name: record for name, record in killed.items() if record.status == Status.PAUSED}
    assert paused

    ended = resume_search("halving", storage_path=settings["storage_path"], replay_seconds=0)
    trials = _trials(folder)
    _unchanged(killed, trials)
    assert len(trials) == 16
    assert {record.status for record in trials.values()} <= {"finished", "paused"}
    assert all([e["epoch"] for e in t.epochs] == list(range(1, len(t.epochs) + 1)) for t in trials.values())
    promoted = [name for name, record in paused.items() if len(trials[name].epochs) > len(record.epochs)]
    assert promoted
    assert all(trials[name].legs > paused[name].legs for name in promoted)
    finished = [record for record in trials.values() if record.status == Status.FINISHED]
    assert ended.trials == len(finished) < 12
    _one_run_a_trial(settings["tracking_uri"], "halving", trials, ended.parent_run_id)


@pytest.mark.ray
def test_a_finished_search_is_extended(whole, settings, place) -> None:
    before = _trials(Path(whole.folder))
    longer = resume_search("whole", storage_path=settings["storage_path"], num_samples="+3")
    trials = _trials(Path(whole.folder))
    assert (longer.trials, len(trials)) == (13, 13)
    assert longer.parent_run_id == whole.parent_run_id
    _unchanged(before, trials)
    assert len({canonical(record.config) for record in trials.values()}) == 13
    _one_run_a_trial(settings["tracking_uri"], "whole", trials, whole.parent_run_id)


@pytest.mark.ray
def test_what_cannot_be_gone_on_with_is_refused(whole, settings, tmp_path) -> None:
    places = {"storage_path": settings["storage_path"]}
    with pytest.raises(UserError, match=r"nowhere: no search was started there; .* holds .*whole"):
        resume_search("nowhere", **places)
    with pytest.raises(UserError, match=r"--epochs 9: search 'whole' was started with 4; leave it out"):
        resume_search("whole", **places, epochs=9)
    table = Path(settings["replay"])
    content = table.read_bytes()
    rows = pq.read_table(table)
    try:
        pq.write_table(rows.slice(EPOCHS), table)
        with pytest.raises(UserError, match=r"--resume whole: replay.fingerprint was \w+ and is \w+ now; "):
            resume_search("whole", **places)
    finally:
        table.write_bytes(content)


@pytest.mark.ray
def test_another_version_is_named(whole, settings, monkeypatch) -> None:
    store = SearchStore.open(Path(whole.folder))
    before = store.fact("versions")
    assert before == installed()
    store.put_facts({"versions": {**before, "optuna": "4.0"}})
    store.close()
    monkeypatch.delitem(SPACES, "pmf_nas")  # the search is not resumed
    console = Console(file=io.StringIO(), width=200)
    with pytest.raises(UserError, match="unknown space 'pmf_nas'"):
        resume_search("whole", storage_path=settings["storage_path"], console=console)
    said = console.file.getvalue()
    assert said == f"search 'whole' was started with optuna 4.0; this is {before['optuna']}\n"
    store = SearchStore.open(Path(whole.folder))
    store.put_facts({"versions": before})
    store.close()


@pytest.mark.ray
def test_a_space_that_changed_is_refused(whole, settings, monkeypatch) -> None:
    space = SPACES["pmf_nas"]

    def sample(trial: Any, context: Any) -> dict[str, Any]:
        return {**space.sample(trial, context), "dropout": trial.suggest_float("dropout", 0, 0.5)}

    changed = Space("pmf_nas", "", sample, lambda _: [])
    monkeypatch.setitem(SPACES, "pmf_nas", changed)
    with pytest.raises(UserError, match=r"--resume whole: parameter dropout was absent and is \{.*\} now; "):
        resume_search("whole", storage_path=settings["storage_path"])


def _files(folder: Path) -> dict[str, bytes]:
    """Return the content of all files of a search, except the note about the latest driver."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != "driver.json")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def _on_the_front(uri: str, parent_id: str | None) -> set[str]:
    runs = MlflowClient(uri).search_runs(
        ["1"], f"tags.`mlflow.parentRunId` = '{parent_id}' and tags.front = 'true'"
    )
    return {run.info.run_id for run in runs}


@pytest.mark.ray
def test_a_moved_search_goes_on_where_it_is(whole, settings, place, tmp_path, monkeypatch) -> None:
    # The folder from which the search is resumed holds another one of its first name.
    moved, beside = tmp_path / "new place" / "renamed", tmp_path / "runs" / "moving"
    shutil.copytree(whole.folder, beside)
    untouched = _files(beside)
    with _ctrl_c_at(place / "runs" / "moving", 5):
        first = run_search(SearchConfig(**settings, replay_seconds=0.3, name="moving"))
    assert first.interrupted
    before = _trials(place / "runs" / "moving")
    moved.parent.mkdir()
    shutil.move(place / "runs" / "moving", moved)
    monkeypatch.chdir(tmp_path)
    ended = resume_search("new place/renamed", replay_seconds=0)
    after = _trials(moved)
    _unchanged(before, after)
    assert not any(record.failures for record in after.values()), "each checkpoint was found"
    kept = [record.checkpoint for record in after.values() if record.checkpoint]
    assert len(kept) == len(ended.front)
    assert all((moved / checkpoint).is_dir() for checkpoint in kept)
    assert (ended.name, ended.folder, ended.trials) == ("renamed", str(moved), 10)
    assert ended.parent_run_id == first.parent_run_id
    assert _found(ended.front) == _found(whole.front)
    assert _files(beside) == untouched
    assert not (place / "runs" / "moving").exists()


@pytest.mark.ray
@pytest.mark.full
def test_a_full_disk_ends_a_search_in_a_line_and_it_goes_on(whole, settings, small_disk) -> None:
    folder, filling = small_disk / "runs" / "full", small_disk / "filling"

    def fill() -> None:
        checkpoints = _Checkpoints(folder)
        while checkpoints.count() < 4:
            time.sleep(0.02)
        with filling.open("wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(512))

    thread = threading.Thread(target=fill)
    thread.start()
    with pytest.raises(DiskFullError, match=f"^no space left on the disk or quota of {folder} .*--resume"):
        run_search(
            SearchConfig(
                **{**settings, "storage_path": str(folder.parent)}, replay_seconds=0.3, name=folder.name
            )
        )
    thread.join()
    filling.unlink()
    before = _trials(folder)
    ended = resume_search(str(folder), replay_seconds=0)
    _unchanged(before, _trials(folder))
    assert (ended.trials, ended.failed) == (10, 0)
    assert _found(ended.front) == _found(whole.front)


@pytest.mark.ray
def test_a_copy_becomes_a_search_of_its_own(whole, settings, place, capsys) -> None:
    original, copy = Path(whole.folder), place / "runs" / "backup"
    shutil.copytree(original, copy)
    untouched, front = _files(original), _on_the_front(settings["tracking_uri"], whole.parent_run_id)
    longer = resume_search("backup", storage_path=settings["storage_path"], num_samples="+1")
    assert f"{copy} is a copy of {original}, and becomes a search of its own" in capsys.readouterr().err
    assert longer.trials == len(_trials(copy)) == len(_trials(original)) + 1
    assert _files(original) == untouched
    assert longer.parent_run_id != whole.parent_run_id
    tags = MlflowClient(settings["tracking_uri"]).get_run(longer.parent_run_id).data.tags
    assert tags["paretofuse.copied_from"] == SearchStore.id_at(original)
    assert tags["paretofuse.copied_from_run"] == whole.parent_run_id
    assert _on_the_front(settings["tracking_uri"], whole.parent_run_id) == front
    _one_run_a_trial(settings["tracking_uri"], "backup", _trials(copy), longer.parent_run_id)
    assert SearchStore.id_at(copy) not in (None, SearchStore.id_at(original))
    again = resume_search("backup", storage_path=settings["storage_path"])
    assert again.parent_run_id == longer.parent_run_id, "it is a copy only once"


@pytest.mark.ray
def test_what_cannot_be_restored_is_not_touched(whole, settings, place) -> None:
    damaged = place / "runs" / "damaged"
    shutil.copytree(whole.folder, damaged)
    with closing(sqlite3.connect(damaged / "search.sqlite")) as connection, connection:
        connection.execute("UPDATE asked SET document = '{}' WHERE number = 3")
    client = MlflowClient(settings["tracking_uri"])
    untouched, runs = _files(damaged), client.search_runs(["1"], max_results=500)
    with pytest.raises(UserError, match="damaged"):
        resume_search("damaged", storage_path=settings["storage_path"])
    assert {n: c for n, c in _files(damaged).items() if n != "search.sqlite-wal"} == untouched
    now = client.search_runs(["1"], max_results=500)
    assert [run.to_dictionary() for run in now] == [run.to_dictionary() for run in runs]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        *((name, "use up to 200 letters, digits") for name in ("..", ".", "x" * 300, "-x", "a/b", "a b")),
        ("folder", "exists already and holds no search; choose another name$"),
        ("taken", "holds a search of that name already; go on with it by `paretofuse --resume .*/taken`, or"),
    ],
)
def test_a_name_that_no_new_search_can_have_is_refused_at_once(name, message, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("sys.argv", ["paretofuse"])
    (tmp_path / "folder").mkdir()
    SearchStore.create(tmp_path / "taken", {}).close()
    config = SearchConfig(space="pmf_nas", name=name, storage_path=str(tmp_path))
    with pytest.raises(UserError, match=message) as refused:
        run_search(config)
    assert "\n" not in str(refused.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "taken"]


def test_a_path_needs_no_storage_path() -> None:
    with pytest.raises(UserError, match="--storage-path other: --resume a/b is a path already; leave it out"):
        resume_search("a/b", storage_path="other")


@pytest.mark.ray
def test_a_warm_start_tries_the_front_first(whole, settings, place, capsys) -> None:
    # Other tests may have gone on with it since
    found = json.loads((Path(whole.folder) / "result.json").read_text())
    front = [canonical(row["config"]) for row in found["front"]]
    more = {"num_samples": len(front) + 2, "seed": 1, "sampler": "tpe"}
    warm = run_search(SearchConfig(**{**settings, **more}, warm_start="whole", name="warm"))
    trials = list(_trials(place / "runs" / "warm").values())
    assert warm.trials == len(trials) == len(front) + 2
    assert set(front) <= {canonical(record.config) for record in trials}
    assert warm.hypervolume >= found["hypervolume"]
    assert "warm start from 'whole'" in capsys.readouterr().err
