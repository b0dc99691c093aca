"""MLflow: one parent run a search, one child run a trial, the front tagged."""

from __future__ import annotations

import dataclasses
import logging
import os
import platform
import time
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mlflow.entities import Metric, Param, RunStatus, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID, MLFLOW_RUN_NAME

from search.config import SearchConfig
from search.history import UNFINISHED, History, TrialRecord
from search.units import GIB
from trainables.errors import UserError

#: MLflow's status of a child run; any other trial's is FAILED.
_STATUS = {"finished": RunStatus.FINISHED, "stopped": RunStatus.KILLED}
_PACKAGES = ("torch", "ray", "optuna", "transformers", "mlflow", "pyarrow")


class Tracker:
    """Writes a search to MLflow.

    The parent run holds the search's settings, environment, dataset fingerprint, the hypervolume over time
    and the front as table and picture. Each child holds one trial: parameters, every objective each epoch,
    predicted memory with its parts, and tags: ``front`` (true or false), so that the filter
    ``tags.front = "true"`` leaves the front; ``status``, as in ``TrialRecord``; ``infeasible``, true if it
    ran out of memory; ``stage`` and ``message``, what happened where; ``failures``, how often it was started
    again; ``retry_of`` and ``retried_as``, a trial's id, where a configuration was tried again alone.

    Args:
        config: The search's settings.
        history: Its trials.
        details: More parameters of the parent: what was resolved (sizes, fingerprints).

    Raises:
        UserError: If the tracking server or store cannot be used.
    """

    def __init__(self, config: SearchConfig, history: History, details: Mapping[str, Any]) -> None:
        logging.getLogger("alembic").setLevel(logging.WARNING)
        logging.getLogger("mlflow").setLevel(logging.WARNING)
        self.history = history
        self._tags: dict[str, str] = {}
        self._written: dict[str, int] = {}  # epochs of each run
        self._closed: dict[str, str] = {}  # status with which a run was closed
        try:
            self.client = MlflowClient(config.tracking_uri)
            experiment = self.client.get_experiment_by_name(config.experiment)
            self.experiment_id = (
                experiment.experiment_id if experiment else self.client.create_experiment(config.experiment)
            )
        except (MlflowException, OSError) as error:
            reason = str(error).strip().splitlines()[0]
            raise UserError(f"--tracking-uri {config.tracking_uri}: cannot be used ({reason})") from error
        tags = {"kind": "search", "space": config.space, "dataset": config.dataset}
        self.parent_id = self._create_run(config.run_name, tags)
        environment = {f"version.{name}": version(name) for name in _PACKAGES}
        environment |= {"version.python": platform.python_version(), "platform": platform.platform()}
        self._log_params(self.parent_id, {**_flat(config), **details, **environment})
        self.client.log_text(self.parent_id, config.to_json(), "config.json")

    def start(self, record: TrialRecord) -> None:
        """Open a trial's child run; a trial that starts once more keeps the one it has."""
        if record.run_id:
            return
        number = len([r for r in self.history.trials.values() if r.run_id])
        tags = {"kind": "trial", "front": "false", "status": "running"}
        if record.retry_of:
            tags["retry_of"] = record.retry_of
            first = self.history.trials[record.retry_of].run_id
            if first:
                self.client.set_tag(first, "retried_as", record.trial_id)
        record.run_id = self._create_run(
            f"trial-{number:03d}", {MLFLOW_PARENT_RUN_ID: self.parent_id, **tags}
        )
        self._log_params(record.run_id, {**record.config, "trial_id": record.trial_id})
        parts = {f"predicted.{name}": size / GIB for name, size in record.memory.to_dict().items()}
        known = {"memory": record.values["memory"], "params": record.values["params"]}
        self._log_metrics(record.run_id, {**known, **parts}, step=0)

    def epoch(self, record: TrialRecord) -> None:
        """Write a trial's epochs, each once: one that started again may report an epoch twice."""
        if not record.run_id:
            return
        known = {name: record.values[name] for name in ("memory", "params")}
        if record.memory_error is not None:
            known["memory_error"] = record.memory_error
        for epoch in record.epochs[self._written.get(record.run_id, 0) :]:
            self._log_metrics(record.run_id, {**epoch, **known}, step=int(epoch["epoch"]))
        self._written[record.run_id] = len(record.epochs)

    def end(self, record: TrialRecord) -> None:
        """Close a trial's child run, and write how the front stands."""
        self._close(record)
        done = len(self.history.by_status("finished"))
        self._log_metrics(
            self.parent_id,
            {
                "hypervolume": self.history.hypervolume(),
                "front_size": len(self.history.front()),
                "trials": done,
                "infeasible": len(self.history.infeasible),
                **{status: len(self.history.by_status(status)) for status in UNFINISHED},
                **{f"best.{name}": value for name, value in self.history.best().items()},
            },
            step=done,
        )
        self._tag_front()

    def close(self, status: str, tables: Mapping[str, list[dict[str, Any]]], picture: Path | None) -> None:
        """Write the front and close the parent run.

        Args:
            status: ``FINISHED``, ``KILLED`` (interrupted) or ``FAILED``.
            tables: Rows of trials by the artifact's name.
            picture: A file to attach, or None.
        """
        self._tag_front()
        for record in self.history.trials.values():
            if record.run_id and self._closed.get(record.run_id) != record.status:
                self._close(record)
            if record.run_id and record.test:
                test = {f"test.{name}": value for name, value in record.test.items()}
                self._log_metrics(record.run_id, test, step=len(record.epochs))
        for name, table in tables.items():
            flat = [{**{k: v for k, v in row.items() if k != "config"}, **row["config"]} for row in table]
            columns = list(dict.fromkeys(column for row in flat for column in row))
            if columns:
                data = {column: [row.get(column) for row in flat] for column in columns}
                self.client.log_table(self.parent_id, data, name)
        if self.history.infeasible:
            rows = [
                {**candidate.config, "memory": candidate.memory.total / GIB}
                for candidate in self.history.infeasible.values()
            ]
            self.client.log_dict(self.parent_id, {"infeasible": rows}, "infeasible.json")
        if picture:
            self.client.log_artifact(self.parent_id, str(picture))
        self.client.set_terminated(self.parent_id, status)

    def _close(self, record: TrialRecord) -> None:
        if not record.run_id:
            return
        tags = {"status": record.status, "failures": str(record.failures)}
        if record.status == "out_of_memory":
            tags["infeasible"] = "true"
        if record.ending is not None:
            tags["stage"] = record.ending.stage
        if record.message:
            tags["message"] = record.message[:4000]
        self.client.log_batch(record.run_id, tags=[RunTag(*tag) for tag in tags.items()])
        status = _STATUS.get(record.status, RunStatus.FAILED)
        self.client.set_terminated(record.run_id, RunStatus.to_string(status))
        self._closed[record.run_id] = record.status

    def _tag_front(self) -> None:
        front = {record.trial_id for record in self.history.front()}
        for record in self.history.trials.values():
            tag = "true" if record.trial_id in front else "false"
            if record.run_id and tag != self._tags.get(record.run_id, "false"):
                self.client.set_tag(record.run_id, "front", tag)
                self._tags[record.run_id] = tag

    def _create_run(self, name: str, tags: Mapping[str, str]) -> str:
        user = os.environ.get("USER", "unknown")
        all_tags = {MLFLOW_RUN_NAME: name, "mlflow.user": user, **tags}
        return self.client.create_run(self.experiment_id, tags=all_tags).info.run_id

    def _log_params(self, run_id: str, params: Mapping[str, Any]) -> None:
        entries = [Param(name, str(value)) for name, value in params.items()]
        self.client.log_batch(run_id, params=entries)

    def _log_metrics(self, run_id: str, metrics: Mapping[str, float], step: int) -> None:
        now = int(time.time() * 1000)
        self.client.log_batch(
            run_id, metrics=[Metric(name, float(value), now, step) for name, value in metrics.items()]
        )


def _flat(config: SearchConfig) -> dict[str, Any]:
    return {k: v for k, v in dataclasses.asdict(config).items() if k != "created"}
