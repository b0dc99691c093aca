"""The MLflow experiment that a search is written to, and the meaning of MLflow's errors."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mlflow.entities import Run
from mlflow.exceptions import InvalidUrlException, MlflowException
from mlflow.store.db.db_types import DATABASE_ENGINES
from mlflow.tracking import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NAME
from sqlalchemy import create_engine
from sqlalchemy.engine import make_url

_PAGE = 200  # runs in one request: with their parameters, half a megabyte
_LONGEST_REASON = 160  # characters


@dataclass(frozen=True)
class Experiment:
    """An experiment on a server or in a database.

    Attributes:
        client: MLflow's client for it.
        experiment_id: MLflow's id of the experiment.
    """

    client: MlflowClient
    experiment_id: str

    @classmethod
    def open(cls, uri: str, name: str) -> Experiment:
        """Find an experiment, or create it.

        Raises:
            ValueError: If the experiment is deleted.
            Exception: If the address is wrong, or the server does not answer; see ``is_mistake``.
        """
        if _is_database(uri):
            _require_database(uri)
        client = MlflowClient(uri)
        experiment = client.get_experiment_by_name(name)
        if experiment is not None and experiment.lifecycle_stage == "deleted":
            raise ValueError(
                f"experiment '{name}' is deleted there; restore it or choose another --experiment"
            )
        return cls(client, experiment.experiment_id if experiment else client.create_experiment(name))

    def require_answer(self) -> None:
        """Ask the server for the experiment; raise MLflow's exception if it does not answer."""
        self.client.get_experiment(self.experiment_id)

    def create_run(self, name: str, tags: Mapping[str, str], started: float | None = None) -> Run:
        """Create a run; ``started`` is in seconds since 1970, and None means now."""
        all_tags = {MLFLOW_RUN_NAME: name, "mlflow.user": os.environ.get("USER", "unknown"), **tags}
        start_time = None if started is None else int(started * 1000)
        return self.client.create_run(self.experiment_id, start_time, all_tags)

    def search_runs(self, condition: str) -> list[Run]:
        """Return the runs that fulfil a condition, oldest first."""
        found: list[Run] = []
        token = None
        while True:
            page = self.client.search_runs(
                [self.experiment_id],
                condition,
                max_results=_PAGE,
                order_by=["attributes.start_time ASC"],
                page_token=token,
            )
            found += page
            token = page.token
            if not token:
                return found


def is_mistake(error: Exception, uri: str) -> bool:
    """Return whether an error of ``Experiment.open`` means a wrong address, not an outage."""
    if not uri.startswith(("http://", "https://")):
        return True
    if not isinstance(error, MlflowException) or isinstance(error, InvalidUrlException):
        return True
    status = error.get_http_status_code()
    return status < 500 and status not in (408, 429)


def is_refusal(error: Exception) -> bool:
    """Return whether the server refused a request, so that repeating the request is useless."""
    if not isinstance(error, MlflowException):
        return False
    status = error.get_http_status_code()
    return 400 <= status < 500 and status not in (401, 403, 408, 429)


def reason(error: Exception) -> str:
    """Return an error's text in one line."""
    text = (str(error).strip() or type(error).__name__).splitlines()[0]
    return text if len(text) <= _LONGEST_REASON else f"{text[: _LONGEST_REASON - 1]}…"


def _is_database(uri: str) -> bool:
    return uri.split(":", 1)[0].split("+")[0] in DATABASE_ENGINES


def _require_database(uri: str) -> None:
    """Raise the error of a database that cannot be opened; MLflow itself would retry for minutes."""
    url = make_url(uri)
    if url.get_backend_name() == "sqlite" and url.database:
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(url)
    try:
        engine.connect().close()
    finally:
        engine.dispose()
