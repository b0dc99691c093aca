"""MLflow: one parent run a search, one child run a trial, the front tagged; written beside the search."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import platform
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mlflow.entities import Experiment, Metric, Param, Run, RunStatus, RunTag
from mlflow.exceptions import InvalidUrlException, MlflowException
from mlflow.store.db.db_types import DATABASE_ENGINES
from mlflow.tracking import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_LOGGED_ARTIFACTS, MLFLOW_PARENT_RUN_ID, MLFLOW_RUN_NAME
from sqlalchemy import create_engine
from sqlalchemy.engine import make_url

from search.config import SearchConfig
from search.records.history import UNFINISHED, History, TrialRecord
from search.units import GIB
from trainables.errors import UserError

#: MLflow's status of a child run; any other trial's is FAILED.
_STATUS = {"running": "RUNNING", "paused": "SCHEDULED", "finished": "FINISHED", "stopped": "KILLED"}
#: The name of the supernet's record, which is written as a trial's is.
SUPERNET = "supernet"
_PACKAGES = ("torch", "ray", "optuna", "transformers", "mlflow", "pyarrow")
_SEARCH_ID = "paretofuse.search_id"

_OPENING = 5.0  # seconds that the search waits for a wrong address to show
_ROUND = 1.0  # seconds between writes, so that what a trial reports meanwhile goes into one
_LONGEST = 30.0  # seconds between attempts to reach a server that does not answer
_TRIES = 5  # times that what fails though the server answers is tried
_SWITCH = 0.0005  # seconds that this thread may keep the interpreter while the search waits for it
_PAGE = 200  # runs asked for at once: with their parameters, half a megabyte


class Tracker:
    """Writes a search to MLflow, from a thread of its own: the search never waits for it.

    The parent run holds the search's settings, environment, dataset fingerprint, the hypervolume over time
    and the front as table and picture. Each child holds one trial: parameters, every objective each epoch,
    predicted memory with its parts, and tags: ``front`` (true or false), so that the filter
    ``tags.front = "true"`` leaves the front; ``status``, as in ``TrialRecord``; ``infeasible``, true if it
    ran out of memory; ``stage`` and ``message``, what happened where; ``legs``, how often it was handed out;
    ``failures``, how often it was started again; ``retry_of`` and ``retried_as``, a trial's id, where a
    configuration was tried again alone; ``repeat_of``, a trial's id, where its configuration was trained
    again with another seed, which is a parameter then. The training of a supernet is a child as well, with
    the tag ``kind`` = ``supernet``.

    The thread compares what MLflow holds with the latest that it was told of each trial, and writes the
    difference. While a server does not answer, that difference waits: at most one snapshot a trial. The tags
    ``paretofuse.search_id`` and ``trial_id`` say whose a run is, so that a search that goes on, or that did
    not hear the answer to its request for a run, takes up the run that is there. Metrics carry the time at
    which they were reported: MLflow keeps one that is written twice once. Parameters of a run that has some
    are left alone; MLflow does not let them change.

    Args:
        config: The search's settings.
        history: Its trials; those that it holds already are written, too.
        details: More parameters of the parent: what was resolved (sizes, fingerprints).
        search_id: What tells this search from all others, and stays when it is resumed.
        warn: Told, in one line each, of outages and of what MLflow refuses; called from the thread.

    Attributes:
        parent_id: MLflow's id of the parent run; None until the server has answered.

    Raises:
        UserError: If the address is wrong: of an unknown kind, of a database that cannot be opened, of a
            server that refuses. A server that does not answer is no mistake.
    """

    def __init__(
        self,
        config: SearchConfig,
        history: History,
        details: Mapping[str, Any],
        search_id: str,
        warn: Callable[[str], None],
    ) -> None:
        logging.getLogger("alembic").setLevel(logging.WARNING)
        logging.getLogger("mlflow").setLevel(logging.WARNING)
        # Waiting is done here, where a request for a new run is not repeated blindly.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # it belongs to --json
        self.parent_id: str | None = None
        self._config = config
        self._history = history
        self._details = dict(details)
        self._search_id = search_id
        self._warn = warn
        # What is to be written; the search adds, the thread removes.
        self._lock = threading.Lock()
        self._pending: dict[str, _Snapshot] = {}
        self._points: list[_Point] = []
        self._retried: dict[str, str] = {}
        self._final: _Final | None = None
        # What MLflow holds; the thread's.
        self._client: MlflowClient | None = None
        self._experiment_id = ""
        self._runs: dict[str, _Held] = {}
        self._parent: _Held | None = None
        self._described = False
        self._unsure: set[str] = set()  # trials whose run was asked for, and no answer heard
        self._tries: Counter[str] = Counter()
        self._skipped: set[str] = set()

        self._work = threading.Event()
        self._work.set()
        self._opened = threading.Event()
        self._closing = threading.Event()
        self._given_up = threading.Event()
        self._done = threading.Event()
        self._mistake: Exception | None = None
        self._away = False
        self._constructed = False
        for record in history.trials.values():
            self.update(record)
        self._front = self._members()
        # After each flush to the disk, the driver would wait for as long as the other thread may keep the
        # interpreter: 5 ms by default.
        sys.setswitchinterval(_SWITCH)
        threading.Thread(target=self._run, name="mlflow", daemon=True).start()
        self._opened.wait(_OPENING)
        with self._lock:
            self._constructed = True
        if self._mistake is not None:
            reason = _reason(self._mistake)
            raise UserError(f"--tracking-uri {config.tracking_uri}: cannot be used ({reason})")

    def update(self, record: TrialRecord) -> None:
        """Have a trial written as it is now: after its start, each epoch and its end."""
        if record.retry_of and record.retry_of not in self._retried:
            self._retried[record.retry_of] = record.trial_id
            self.update(self._history.trials[record.retry_of])
        now = time.time()
        earlier = self._pending.get(record.trial_id)
        started = earlier.started if earlier else now
        changed = earlier.changed if earlier and earlier.status == record.status else now
        snapshot = _Snapshot.of(record, self._retried.get(record.trial_id), started, changed)
        with self._lock:
            self._pending[record.trial_id] = snapshot
        self._work.set()

    def progress(self) -> None:
        """Have it written how the search stands: counts, front and hypervolume, after a trial's end."""
        history = self._history
        front = history.front()
        counts = Counter(record.status for record in history.trials.values())
        values = {
            "hypervolume": history.hypervolume(),
            "front_size": len(front),
            "trials": counts["finished"],
            "infeasible": len(history.infeasible),
            **{status: counts[status] for status in UNFINISHED},
            **{f"best.{name}": value for name, value in history.best().items()},
        }
        point = _Point(time.time(), counts["finished"], {name: float(v) for name, v in values.items()})
        with self._lock:
            self._points.append(point)
            self._front = self._members()
        self._work.set()

    def wait(self, patience: float = 10.0) -> None:
        """Wait until MLflow holds what it was told so far, so that runs have ids; not if it is away."""
        deadline = time.monotonic() + patience
        while (self._pending or self.parent_id is None) and time.monotonic() < deadline and not self._away:
            self._work.set()
            time.sleep(0.05)

    def close(
        self,
        status: str,
        tables: Mapping[str, list[dict[str, Any]]],
        picture: Path | None,
        patience: float = 30.0,
    ) -> bool:
        """Write all that is left and close the parent run.

        Args:
            status: ``FINISHED``, ``KILLED`` (interrupted) or ``FAILED``.
            tables: Rows of trials by the artifact's name.
            picture: A file to attach, or None.
            patience: Seconds to wait for MLflow; what is not written by then, is not.

        Returns:
            Whether MLflow took everything.
        """
        for record in self._history.trials.values():
            self.update(record)
        infeasible = [
            {**candidate.config, "memory": candidate.memory.total / GIB}
            for candidate in self._history.infeasible.values()
        ]
        texts = {name: _table(rows) for name, rows in tables.items() if rows}
        shown = [{"path": name, "type": "table"} for name in texts]
        if infeasible:
            texts["infeasible.json"] = json.dumps({"infeasible": infeasible}, indent=2)
        with self._lock:
            self._front = self._members()
            self._final = _Final(status, time.time(), texts, shown, picture)
        self._closing.set()
        self._work.set()
        finished = self._done.wait(patience)
        self._given_up.set()
        self._work.set()
        return finished and not self._skipped

    def _members(self) -> frozenset[str]:
        """The trials of the front, with their repeats."""
        history = self._history
        return frozenset(run.trial_id for first in history.front() for run in history.finished(first))

    # From here on, all runs in the thread.

    def _run(self) -> None:
        delay = _ROUND
        while self._work.wait() and not self._given_up.is_set():
            self._work.clear()
            try:
                left = self._write()
                delay, self._away = _ROUND, False
            except Exception as error:
                with self._lock:
                    if not self._constructed and self._client is None and self._is_mistake(error):
                        self._mistake = error
                if not self._away and self._mistake is None:
                    self._warn(
                        f"MLflow does not answer ({_reason(error)}); the search goes on, and what it finds "
                        "is written once MLflow does"
                    )
                left, delay, self._away = True, min(2 * delay, _LONGEST), True
            self._opened.set()
            if self._done.is_set() or self._mistake is not None:
                return
            if left:
                self._work.set()
            if not self._closing.is_set():
                self._closing.wait(delay)
            elif left:
                self._given_up.wait(min(delay, 1.0))

    def _write(self) -> bool:
        """Write what MLflow lacks; return whether anything is left.

        Raises:
            Exception: If the server does not answer.
        """
        with self._lock:
            points = list(self._points)
            final = self._final  # before the trials: all there is to say of them is pending by now
        client = self._client = self._client or self._connect()
        self._opened.set()
        parent = self._parent = self._parent or self._find_parent(client)
        self.parent_id = parent.run_id
        left = not self._try("the search's settings", partial(self._describe, client, parent))
        left |= not self._write_trials(client, parent.run_id)
        metrics = [metric for point in points for metric in point.metrics()]
        if self._try("the front's history", partial(parent.log, client, {}, metrics)):
            with self._lock:
                del self._points[: len(points)]
        else:
            left = True
        for trial_id, run in self._runs.items():
            tag = self._front_tag(trial_id)
            if run.tags.get("front") != tag:
                left |= not self._try(trial_id, partial(run.log, client, {"front": tag}))
        if final is not None and not left:
            left = not self._finish(client, parent, final)
        return left

    def _write_trials(self, client: MlflowClient, parent_id: str) -> bool:
        """Write the trials there is news of; return whether all of it is written."""
        done = True
        for trial_id in list(self._pending):
            if self._given_up.is_set():
                return False
            snapshot = self._pending[trial_id]
            if self._try(trial_id, partial(self._write_trial, client, parent_id, snapshot)):
                with self._lock:
                    if self._pending[trial_id] is snapshot:  # else there is more recent news
                        del self._pending[trial_id]
            else:
                done = False
        return done

    def _write_trial(self, client: MlflowClient, parent_id: str, snapshot: _Snapshot) -> None:
        record = snapshot.record
        run = self._runs.get(record.trial_id)
        if run is None:
            run = self._runs[record.trial_id] = self._find_child(client, parent_id, snapshot)
        record.run_id = run.run_id
        metrics: list[Metric] = []
        params: list[Param] = []
        if not run.described:
            metrics += _metrics(snapshot.predicted, snapshot.started, step=0)
            params += [Param(name, str(value)) for name, value in snapshot.params.items()]
        epochs = [epoch for epoch in snapshot.epochs if epoch["epoch"] > run.epochs]
        for epoch in epochs:
            # The number last: where MLflow holds it, it holds the epoch.
            values = {name: value for name, value in epoch.items() if name not in ("time", "epoch")}
            values = {**values, **snapshot.known, "epoch": epoch["epoch"]}
            metrics += _metrics(values, epoch["time"], step=int(epoch["epoch"]))
        if snapshot.test != run.test:
            metrics += _metrics(snapshot.test, snapshot.epochs[-1]["time"], step=len(snapshot.epochs))
        run.log(client, {**snapshot.tags, "front": self._front_tag(record.trial_id)}, metrics, params)
        run.described = True
        run.epochs = max([run.epochs, *(epoch["epoch"] for epoch in epochs)])
        run.test = dict(snapshot.test)
        run.set_status(client, _STATUS.get(snapshot.status, "FAILED"), snapshot.changed)

    def _try(self, what: str, write: Callable[[], object]) -> bool:
        """Write something; return whether that is done with, be it that MLflow refuses it for good.

        Raises:
            Exception: If the server does not answer.
        """
        if what in self._skipped:
            return True
        try:
            write()
        except Exception as error:
            if not _is_refusal(error):
                assert self._client is not None
                self._client.get_experiment(self._experiment_id)  # raises where the server is the cause
                self._tries[what] += 1
                if self._tries[what] < _TRIES:
                    return False
            self._skipped.add(what)
            self._warn(f"MLflow does not take {what} ({_reason(error)}); the rest is written")
        else:
            self._tries.pop(what, None)
        return True

    def _connect(self) -> MlflowClient:
        uri = self._config.tracking_uri
        if _is_database(uri):
            _require_database(uri)
        client = MlflowClient(uri)
        name = self._config.experiment
        experiment: Experiment | None = client.get_experiment_by_name(name)
        if experiment is not None and experiment.lifecycle_stage == "deleted":
            raise ValueError(
                f"experiment '{name}' is deleted there; restore it or choose another --experiment"
            )
        self._experiment_id = experiment.experiment_id if experiment else client.create_experiment(name)
        return client

    def _is_mistake(self, error: Exception) -> bool:
        """Whether the address is at fault, not a server that is away for now."""
        if not self._config.tracking_uri.startswith(("http://", "https://")):
            return True
        if not isinstance(error, MlflowException) or isinstance(error, InvalidUrlException):
            return True
        status = error.get_http_status_code()
        return status < 500 and status not in (408, 429)

    def _find_parent(self, client: MlflowClient) -> _Held:
        """Take up the search's run and those of its trials, or have one created."""
        found = self._search(client, f"tags.`{_SEARCH_ID}` = '{self._search_id}'")
        if not found:
            tags = {"kind": "search", "space": self._config.space, "dataset": self._config.dataset}
            return self._create(client, self._config.run_name, {_SEARCH_ID: self._search_id, **tags})
        parent = _Held.of(_fullest(found))
        children: dict[str, list[Run]] = {}
        for run in self._search(client, f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{parent.run_id}'"):
            children.setdefault(run.data.tags.get("trial_id", ""), []).append(run)
        self._runs = {trial_id: _Held.of(_fullest(runs)) for trial_id, runs in children.items() if trial_id}
        parent.set_status(client, "RUNNING", time.time())
        return parent

    def _find_child(self, client: MlflowClient, parent_id: str, snapshot: _Snapshot) -> _Held:
        """Have a trial's run created, unless that was tried before and the answer did not arrive."""
        trial_id = snapshot.record.trial_id
        if trial_id in self._unsure:
            found = self._search(
                client, f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{parent_id}' and tags.trial_id = '{trial_id}'"
            )
            if found:
                return _Held.of(_fullest(found))
        self._unsure.add(trial_id)
        tags = {MLFLOW_PARENT_RUN_ID: parent_id, "kind": "trial", "trial_id": trial_id}
        tags["front"] = self._front_tag(trial_id)
        run = self._create(client, trial_id, {**tags, **snapshot.tags}, snapshot.started)
        self._unsure.remove(trial_id)
        return run

    def _front_tag(self, trial_id: str) -> str:
        return str(trial_id in self._front).lower()

    def _create(
        self, client: MlflowClient, name: str, tags: Mapping[str, str], started: float | None = None
    ) -> _Held:
        all_tags = {MLFLOW_RUN_NAME: name, "mlflow.user": os.environ.get("USER", "unknown"), **tags}
        start_time = None if started is None else int(started * 1000)
        return _Held.of(client.create_run(self._experiment_id, start_time, all_tags))

    def _search(self, client: MlflowClient, condition: str) -> list[Run]:
        """Return the runs that fulfil a condition, oldest first."""
        found: list[Run] = []
        token = None
        while True:
            page = client.search_runs(
                [self._experiment_id],
                condition,
                max_results=_PAGE,
                order_by=["attributes.start_time ASC"],
                page_token=token,
            )
            found += page
            token = page.token
            if not token:
                return found

    def _describe(self, client: MlflowClient, parent: _Held) -> None:
        if self._described:
            return
        if not parent.described:
            environment = {f"version.{name}": version(name) for name in _PACKAGES}
            environment |= {"version.python": platform.python_version(), "platform": platform.platform()}
            params = {**_flat(self._config), **self._details, **environment}
            parent.log(client, {}, params=[Param(name, str(value)) for name, value in params.items()])
            parent.described = True
        client.log_text(parent.run_id, self._config.to_json(), "config.json")
        self._described = True

    def _finish(self, client: MlflowClient, parent: _Held, final: _Final) -> bool:
        """Write the end's documents and status; return whether all of it is written."""
        done = True
        for name, text in final.texts.items():
            done &= self._try(name, partial(client.log_text, parent.run_id, text, name))
        if final.picture:
            path = str(final.picture)
            done &= self._try(final.picture.name, partial(client.log_artifact, parent.run_id, path))
        # MLflow shows those as tables; its own log_table would append to those of an earlier end.
        tables = {MLFLOW_LOGGED_ARTIFACTS: json.dumps(final.tables)} if final.tables else {}
        done &= self._try("the list of tables", partial(parent.log, client, tables))
        done &= self._try("the search's end", partial(parent.set_status, client, final.status, final.when))
        if done:
            self._done.set()
        return done


@dataclass(frozen=True)
class _Snapshot:
    """What there is to write of a trial, as it was at a time.

    Attributes:
        record: The trial, to be told its run's id; all else is as it was.
        status: The trial's.
        started: When it was first heard of, in seconds since 1970.
        changed: When its status was first seen, in seconds since 1970.
        params: Parameters.
        tags: Tags.
        predicted: Metrics known from the start.
        known: Metrics that hold for each epoch.
        epochs: As in ``TrialRecord``.
        test: As in ``TrialRecord``, by the metric's name.
    """

    record: TrialRecord
    status: str
    started: float
    changed: float
    params: dict[str, Any]
    tags: dict[str, str]
    predicted: dict[str, float]
    known: dict[str, float]
    epochs: tuple[dict[str, float], ...]
    test: dict[str, float]

    @classmethod
    def of(cls, record: TrialRecord, retried_as: str | None, started: float, changed: float) -> _Snapshot:
        """Take a trial's."""
        tags = {"status": record.status, "failures": str(record.failures), "legs": str(record.legs)}
        if record.trial_id == SUPERNET:
            tags["kind"] = "supernet"
        if record.status == "out_of_memory":
            tags["infeasible"] = "true"
        if record.ending is not None:
            tags["stage"] = record.ending.stage
        if record.message:
            tags["message"] = record.message[:4000]
        others = {"retry_of": record.retry_of, "retried_as": retried_as, "repeat_of": record.repeat_of}
        tags |= {name: trial_id for name, trial_id in others.items() if trial_id}
        params = {**record.config, "trial_id": record.trial_id}
        if record.repeat_of:
            params["seed"] = record.seed
        measured = record.epochs[-1] if record.epochs else {}
        known = {name: value for name, value in record.values.items() if name not in measured}
        parts = {f"predicted.{name}": size / GIB for name, size in record.memory.to_dict().items()}
        known |= {f"inherited_{name}": value for name, value in record.inherited.items()}
        error = {} if record.memory_error is None else {"memory_error": record.memory_error}
        return cls(
            record=record,
            status=record.status,
            started=started,
            changed=changed,
            params=params,
            tags=tags,
            predicted={**known, **parts},
            known={**known, **error},
            epochs=tuple(record.epochs),
            test={f"test.{name}": float(value) for name, value in record.test.items()},
        )


@dataclass(frozen=True)
class _Point:
    """How the search stood: at a time, in seconds since 1970, after some finished trials."""

    time: float
    trials: int
    values: dict[str, float]

    def metrics(self) -> list[Metric]:
        """Return it as MLflow's."""
        return _metrics(self.values, self.time, self.trials)


@dataclass(frozen=True)
class _Final:
    """What is written last: status, time in seconds since 1970, documents by name, and what they are."""

    status: str
    when: float
    texts: dict[str, str]
    tables: list[dict[str, str]]
    picture: Path | None


@dataclass
class _Held:
    """What MLflow holds of a run.

    Attributes:
        run_id: MLflow's id.
        status: MLflow's.
        tags: Its tags.
        described: Whether its parameters, and what is known from the start, are there.
        epochs: Number of the last epoch that is there.
        test: Metrics on the test split, by the metric's name.
    """

    run_id: str
    status: str
    tags: dict[str, str] = field(default_factory=dict)
    described: bool = False
    epochs: float = 0
    test: dict[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, run: Run) -> _Held:
        """Read a run."""
        metrics = run.data.metrics
        return cls(
            run_id=run.info.run_id,
            status=run.info.status,
            tags=dict(run.data.tags),
            described=bool(run.data.params) and ("predicted.total" in metrics or _SEARCH_ID in run.data.tags),
            epochs=metrics.get("epoch", 0),
            test={name: value for name, value in metrics.items() if name.startswith("test.")},
        )

    def log(
        self,
        client: MlflowClient,
        tags: Mapping[str, str],
        metrics: list[Metric] | None = None,
        params: list[Param] | None = None,
    ) -> None:
        """Write metrics, parameters, and the tags that are new or others."""
        new = {name: value for name, value in tags.items() if self.tags.get(name) != value}
        if new or metrics or params:
            entries = [RunTag(name, value) for name, value in new.items()]
            client.log_batch(self.run_id, metrics or [], params or [], entries)
        self.tags |= new

    def set_status(self, client: MlflowClient, status: str, when: float) -> None:
        """Write the status, if it is another; ``when`` is the run's end, if it is one."""
        if status == self.status:
            return
        if RunStatus.is_terminated(RunStatus.from_string(status)):
            client.set_terminated(self.run_id, status, int(when * 1000))
        else:
            client.update_run(self.run_id, status)
        self.status = status


def _metrics(values: Mapping[str, float], when: float, step: int) -> list[Metric]:
    return [Metric(name, float(value), int(when * 1000), step) for name, value in values.items()]


def _fullest(runs: list[Run]) -> Run:
    """Return the run that was written to, or the oldest; there is one, unless requests crossed."""
    return max(runs, key=lambda run: len(run.data.params))


def _flat(config: SearchConfig) -> dict[str, Any]:
    return {k: v for k, v in dataclasses.asdict(config).items() if k != "created"}


def _table(rows: list[dict[str, Any]]) -> str:
    """Return rows in the format of MLflow's tables, each configuration's parameters as columns."""
    flat = [{**{k: v for k, v in row.items() if k != "config"}, **row["config"]} for row in rows]
    columns = list(dict.fromkeys(column for row in flat for column in row))
    return json.dumps({"columns": columns, "data": [[row.get(column) for column in columns] for row in flat]})


def _is_database(uri: str) -> bool:
    return uri.split(":", 1)[0].split("+")[0] in DATABASE_ENGINES


def _require_database(uri: str) -> None:
    """Raise what is wrong with a database: MLflow itself would try a wrong one again for minutes."""
    url = make_url(uri)
    if url.get_backend_name() == "sqlite" and url.database:
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(url)
    try:
        engine.connect().close()
    finally:
        engine.dispose()


def _is_refusal(error: Exception) -> bool:
    """Whether the server answered that it will not: asked again, it would say the same."""
    if not isinstance(error, MlflowException):
        return False
    status = error.get_http_status_code()
    return 400 <= status < 500 and status not in (401, 403, 408, 429)


def _reason(error: Exception) -> str:
    text = (str(error).strip() or type(error).__name__).splitlines()[0]
    return text if len(text) <= 160 else f"{text[:159]}…"
