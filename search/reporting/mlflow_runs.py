"""The runs of a search in MLflow: they are found or created, and only differences are written to them."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from mlflow.entities import DatasetInput, Metric, Param, Run
from mlflow.utils.mlflow_tags import MLFLOW_LOGGED_ARTIFACTS, MLFLOW_PARENT_RUN_ID, MLFLOW_RUN_NOTE

from search.records.points import Point
from search.records.status import Status
from search.reporting.held_run import HeldRun, fullest
from search.reporting.mlflow_dataset import dataset_input
from search.reporting.mlflow_note import Note
from search.reporting.mlflow_server import Experiment
from search.reporting.news import About, Snapshot, as_text

#: MLflow's status of a child run; any other trial's is FAILED.
_STATUS = {
    Status.RUNNING: "RUNNING",
    Status.PAUSED: "SCHEDULED",
    Status.FINISHED: "FINISHED",
    Status.STOPPED: "KILLED",
    Status.SET_ASIDE: "KILLED",
}
#: The tag of a search's run with its id.
SEARCH_ID = "paretofuse.search_id"
_COPIED_FROM = "paretofuse.copied_from"
_LAST = "hypervolume"  # the metric of a point that is written last
_NODES = "nodes.json"
_SETTINGS = "settings.json"
_VERDICT = "verdict"
_POINTS = 50  # points of progress in one request


class SearchRuns:
    """The run of a search and the runs of its trials.

    Each method writes what MLflow lacks. A method that failed can be called again. If the server does not
    answer, a method raises MLflow's exception.

    Args:
        experiment: The experiment that holds the runs.
        about: The search.
    """

    def __init__(self, experiment: Experiment, about: About) -> None:
        self._experiment = experiment
        self._client = experiment.client
        self._about = about
        self._parent: HeldRun | None = None
        self._children: dict[str, HeldRun] = {}
        self._described = False
        self._kind_said = False
        self._dataset: DatasetInput | None = None
        self._nodes: str | None = None  # the table of nodes that MLflow holds
        self._points: set[tuple[int, int]] = set()  # steps and times of the points that MLflow holds
        self._unsure: set[str] = set()  # trials whose run was requested, without an answer so far

    @property
    def parent(self) -> HeldRun:
        """The search's run; on first use it is found, with the runs of its trials, or created."""
        if self._parent is None:
            self._parent = self._take_up() or self._create_parent()
        return self._parent

    def describe(self) -> None:
        """Write the search's settings."""
        if self._described:
            return
        lacking = {name: v for name, v in self._about.params.items() if name not in self.parent.params}
        self.parent.log(self._client, {}, params=[Param(name, value) for name, value in lacking.items()])
        self.parent.params |= lacking.keys()
        self.write_text(_SETTINGS, self._about.settings)
        self._described = True

    def say_kind(self) -> None:
        """Say once that the experiment is one of training, unless somebody has said what it is."""
        if not self._kind_said:
            self._experiment.say_kind()
            self._kind_said = True

    def without_dataset(self) -> list[HeldRun]:
        """Return the runs that lack what the trials learn from."""
        runs = [self.parent, *self._children.values()] if self._about.material else []
        return [run for run in runs if not run.has_dataset]

    def write_dataset(self, run: HeldRun) -> None:
        """Write what the trials learn from as the dataset of a run."""
        if self._dataset is None:
            assert self._about.material is not None
            self._dataset = dataset_input(self._about.material)
        self._client.log_inputs(run.run_id, [self._dataset])
        run.has_dataset = True

    def write_nodes(self, table: str | None) -> None:
        """Write the table of nodes, if there is one that MLflow does not hold."""
        if table is not None and table != self._nodes:
            self.write_text(_NODES, table)
            self.list_tables([_NODES])
            self._nodes = table

    def run_of(self, snapshot: Snapshot, on_front: bool) -> HeldRun:
        """Return a trial's run; on first use it is created."""
        run = self._children.get(snapshot.trial_id)
        if run is None:
            run = self._children[snapshot.trial_id] = self._find_child(snapshot, on_front)
        return run

    def write_trial(self, snapshot: Snapshot, on_front: bool) -> None:
        """Write a trial to its run."""
        run = self.run_of(snapshot, on_front)
        metrics: list[Metric] = []
        params: list[Param] = []
        if not run.described:
            metrics += _metrics(snapshot.predicted, snapshot.started, step=0)
            params += [Param(name, as_text(value)) for name, value in snapshot.params.items()]
        epochs = [epoch for epoch in snapshot.epochs if epoch["epoch"] > run.epochs]
        for epoch in epochs:
            # The epoch's number is written last: if MLflow holds it, it holds the whole epoch.
            values = {name: value for name, value in epoch.items() if name not in ("time", "epoch")}
            values = {**values, **snapshot.known, "epoch": epoch["epoch"]}
            metrics += _metrics(values, epoch["time"], step=int(epoch["epoch"]))
        if snapshot.test != run.test:
            metrics += _metrics(snapshot.test, snapshot.epochs[-1]["time"], step=len(snapshot.epochs))
        if snapshot.luck != run.luck:  # MLflow shows the latest: what is known about luck changes
            unknown = dict.fromkeys(run.luck.keys() - snapshot.luck.keys(), math.nan)
            metrics += _metrics({**unknown, **snapshot.luck}, snapshot.taken, step=len(snapshot.epochs))
        run.log(self._client, {**snapshot.tags, "front": front_tag(on_front)}, metrics, params)
        run.described = True
        run.epochs = max([run.epochs, *(epoch["epoch"] for epoch in epochs)])
        run.test, run.luck = dict(snapshot.test), dict(snapshot.luck)
        run.set_status(self._client, _STATUS.get(snapshot.status, "FAILED"), snapshot.changed)

    def write_points(self, points: Iterable[Point]) -> None:
        """Write the search's progress at several times, except for the points that MLflow holds."""
        lacking = [point for point in points if _step_and_time(point) not in self._points]
        for start in range(0, len(lacking), _POINTS):
            some = lacking[start : start + _POINTS]
            # The hypervolume is written last: if MLflow holds it, it holds the whole point.
            ordered = [
                dict(sorted(point.values.items(), key=lambda item: item[0] == _LAST)) for point in some
            ]
            metrics = [
                metric
                for point, values in zip(some, ordered, strict=True)
                for metric in _metrics(values, point.time, point.trials)
            ]
            self.parent.log(self._client, {}, metrics)
            self._points |= set(map(_step_and_time, some))

    def wrongly_tagged(self, front: frozenset[str]) -> list[str]:
        """Return the trials whose tag ``front`` differs from their membership in the given front."""
        return [
            trial_id
            for trial_id, run in self._children.items()
            if run.tags.get("front") != front_tag(trial_id in front)
        ]

    def tag_front(self, trial_id: str, on_front: bool) -> None:
        """Write the tag that says whether a trial is on the front."""
        self._children[trial_id].log(self._client, {"front": front_tag(on_front)})

    def write_text(self, name: str, text: str) -> None:
        """Attach a document to the search's run; it replaces one of the same name."""
        self._client.log_text(self.parent.run_id, text, name)

    def write_file(self, path: Path) -> None:
        """Attach a file to the search's run."""
        self._client.log_artifact(self.parent.run_id, str(path))

    def list_tables(self, names: Iterable[str]) -> None:
        """Have MLflow show documents as tables, in addition to those that it shows."""
        # MLflow's own log_table would append to the tables that an earlier end of the search wrote.
        tables = json.loads(self.parent.tags.get(MLFLOW_LOGGED_ARTIFACTS, "[]"))
        tables += [table for name in names if (table := {"path": name, "type": "table"}) not in tables]
        self.parent.log(self._client, {MLFLOW_LOGGED_ARTIFACTS: json.dumps(tables)} if tables else {})

    def judge(self, verdict: str | None) -> None:
        """Write what the front means as the search's tag ``verdict``; there is none if that is unknown."""
        if verdict is not None:
            self.parent.log(self._client, {_VERDICT: verdict})
        elif self.parent.tags.pop(_VERDICT, None) is not None:
            self._client.delete_tag(self.parent.run_id, _VERDICT)

    def annotate(self, note: Note | None) -> None:
        """Write the note into the description of the search's run; what users wrote there stays."""
        if note is None:
            return
        there = self._client.get_run(self.parent.run_id).data.tags.get(MLFLOW_RUN_NOTE, "")
        text = note.merged(there, self._page_of)
        self.parent.tags[MLFLOW_RUN_NOTE] = there
        if text is not None:
            self.parent.log(self._client, {MLFLOW_RUN_NOTE: text})

    def _page_of(self, trial_id: str) -> str | None:
        """Return the address of a trial's run on MLflow's pages; None if there is no run."""
        run = self._children.get(trial_id)
        return self._experiment.page(run.run_id) if run is not None else None

    def end(self, status: str, when: float) -> None:
        """Write the search's final status and its time, in seconds since 1970."""
        self.parent.set_status(self._client, status, when)

    def _take_up(self) -> HeldRun | None:
        """Find the search's run and the runs of its trials; return None if there is none."""
        found = self._experiment.search_runs(f"tags.`{SEARCH_ID}` = '{self._about.search_id}'")
        if not found:
            return None
        parent = HeldRun.of(fullest(found))
        children: dict[str, list[Run]] = {}
        for run in self._experiment.search_runs(f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{parent.run_id}'"):
            children.setdefault(run.data.tags.get("trial_id", ""), []).append(run)
        self._children = {
            trial_id: HeldRun.of(fullest(runs)) for trial_id, runs in children.items() if trial_id
        }
        held = self._client.get_metric_history(parent.run_id, _LAST)
        self._points = {(metric.step, metric.timestamp) for metric in held}
        parent.set_status(self._client, "RUNNING", time.time())
        return parent

    def _create_parent(self) -> HeldRun:
        tags = {SEARCH_ID: self._about.search_id, **self._about.tags, **self._about.origin}
        if self._about.copied_from:
            tags[_COPIED_FROM] = self._about.copied_from
            found = self._experiment.search_runs(f"tags.`{SEARCH_ID}` = '{self._about.copied_from}'")
            if found:
                tags[f"{_COPIED_FROM}_run"] = fullest(found).info.run_id
        return HeldRun.of(self._experiment.create_run(self._about.name, tags))

    def _find_child(self, snapshot: Snapshot, on_front: bool) -> HeldRun:
        """Create a trial's run, or find the run of an earlier request whose answer did not arrive."""
        trial_id, parent_id = snapshot.trial_id, self.parent.run_id
        if trial_id in self._unsure:
            found = self._experiment.search_runs(
                f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{parent_id}' and tags.trial_id = '{trial_id}'"
            )
            if found:
                return HeldRun.of(fullest(found))
        self._unsure.add(trial_id)
        tags = {MLFLOW_PARENT_RUN_ID: parent_id, "trial_id": trial_id, "front": front_tag(on_front)}
        run = self._experiment.create_run(
            trial_id, {**tags, **self._about.origin, **snapshot.tags}, snapshot.started
        )
        self._unsure.remove(trial_id)
        return HeldRun.of(run)


def _step_and_time(point: Point) -> tuple[int, int]:
    return point.trials, int(point.time * 1000)


def _metrics(values: Mapping[str, float], when: float, step: int) -> list[Metric]:
    return [Metric(name, float(value), int(when * 1000), step) for name, value in values.items()]


def front_tag(on_front: bool) -> str:
    """Return the value of the tag ``front``."""
    return str(on_front).lower()
