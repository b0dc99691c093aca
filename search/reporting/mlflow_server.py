"""The MLflow experiment that a search is written to, and the meaning of MLflow's errors."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mlflow.entities import LoggedModel, Run
from mlflow.exceptions import InvalidUrlException, MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_ALREADY_EXISTS, ErrorCode
from mlflow.tracking import MlflowClient
from mlflow.utils.file_utils import local_file_uri_to_path
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NAME
from mlflow.utils.uri import is_local_uri

from search.config.address import TrackingAddress
from search.reporting.mlflow_database import is_database, make_private_folder, open_database

_PAGE = 200  # runs in one request: with their parameters, half a megabyte
_LONGEST_REASON = 160  # characters
#: The tag of an experiment that says what MLflow's pages take it for, and its value for training.
_KIND = "mlflow.experimentKind"
_TRAINING = "custom_model_development"
_EXISTS = ErrorCode.Name(RESOURCE_ALREADY_EXISTS)


class Mask(logging.Filter):
    """Hides the secrets of an address in what MLflow logs.

    Args:
        address: The address.
    """

    def __init__(self, address: TrackingAddress) -> None:
        super().__init__()
        self._address = address
        self._handlers: list[logging.Handler] = []

    def put_on(self) -> None:
        """Begin to filter."""
        if self._address.secrets:
            self._handlers = [*logging.getLogger("mlflow").handlers, *logging.getLogger().handlers]
            for handler in self._handlers:
                handler.addFilter(self)

    def take_off(self) -> None:
        """End to filter."""
        for handler in self._handlers:
            handler.removeFilter(self)

    def filter(self, record: logging.LogRecord) -> bool:
        """Hide the secrets in a record; every record passes."""
        text = record.getMessage()
        if record.exc_info:
            text += "\n" + logging.Formatter().formatException(record.exc_info)
        record.msg, record.args, record.exc_info, record.exc_text = self._address.masked(text), (), None, None
        return True


@dataclass(frozen=True)
class Experiment:
    """An experiment on a server or in a database.

    Attributes:
        client: MLflow's client for it.
        experiment_id: MLflow's id of the experiment.
        kind: What MLflow's pages take the experiment for; None if nobody has said it.
    """

    client: MlflowClient
    experiment_id: str
    kind: str | None = None

    @classmethod
    def open(cls, address: TrackingAddress, name: str) -> Experiment:
        """Find an experiment, or create it.

        Raises:
            ValueError: If the experiment is deleted.
            Exception: If the address is wrong, or the server does not answer; see ``is_mistake``.
        """
        if is_database(address):
            return open_database(address, lambda: cls._opened(address, name))
        return cls._opened(address, name)

    @classmethod
    def _opened(cls, address: TrackingAddress, name: str) -> Experiment:
        client = MlflowClient(address.full)
        experiment = client.get_experiment_by_name(name)
        if experiment is not None and experiment.lifecycle_stage == "deleted":
            raise ValueError(
                f"experiment '{name}' is deleted there; restore it, or start a new search with another "
                "--experiment"
            )
        if experiment is not None:
            return cls(client, experiment.experiment_id, experiment.tags.get(_KIND))
        try:
            created = cls(client, client.create_experiment(name))
        except MlflowException as error:
            if error.error_code != _EXISTS:
                raise
            return cls._opened(address, name)  # another search has created it in the meantime
        if is_database(address):
            created._keep_private()
        return created

    def _keep_private(self) -> None:
        """Create the folder of the experiment's artifacts, which MLflow would let everybody read."""
        location = self.client.get_experiment(self.experiment_id).artifact_location
        if is_local_uri(location):
            make_private_folder(Path(local_file_uri_to_path(location)))

    def page(self, run_id: str | None = None) -> str:
        """Return the address of the list of runs, or of a run, from the address of MLflow's pages on.

        Without its parameter, the pages would open among those for language models, whatever the
        experiment's kind is, unless the user's browser has been at the others before.
        """
        inside = "runs" if run_id is None else f"runs/{run_id}"
        return f"#/experiments/{self.experiment_id}/{inside}?workflowType=machine_learning"

    def say_kind(self) -> None:
        """Say that the experiment is one of training, unless somebody has said what it is."""
        if self.kind is None:
            self.client.set_experiment_tag(self.experiment_id, _KIND, _TRAINING)

    def require_answer(self) -> None:
        """Ask the server for the experiment; raise MLflow's exception if it does not answer."""
        self.client.get_experiment(self.experiment_id)

    def create_run(self, name: str, tags: Mapping[str, str], started: float | None = None) -> Run:
        """Create a run; ``started`` is in seconds since 1970, and None means now."""
        start_time = None if started is None else int(started * 1000)
        return self.client.create_run(self.experiment_id, start_time, {MLFLOW_RUN_NAME: name, **tags})

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

    def search_models(self, condition: str) -> list[LoggedModel]:
        """Return the logged models that fulfil a condition, oldest first."""
        found: list[LoggedModel] = []
        token = None
        while True:
            page = self.client.search_logged_models(
                [self.experiment_id],
                condition,
                order_by=[{"field_name": "creation_time", "ascending": True}],
                page_token=token,
            )
            found += page
            token = page.token
            if not token:
                return found


def is_mistake(error: Exception, address: TrackingAddress) -> bool:
    """Return whether an error of ``Experiment.open`` means a wrong address, not an outage."""
    if not address.is_server:
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


def reason(error: Exception, address: TrackingAddress) -> str:
    """Return an error's text in one line, without the secrets of an address."""
    text = (address.masked(str(error)).strip() or type(error).__name__).splitlines()[0]
    return text if len(text) <= _LONGEST_REASON else f"{text[: _LONGEST_REASON - 1]}…"
