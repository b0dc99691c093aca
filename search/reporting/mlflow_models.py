"""The logged models of a search in MLflow: they are found or created, and only differences are written."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from mlflow.entities import LoggedModel, LoggedModelOutput, LoggedModelStatus, Metric
from mlflow.models import Model
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NOTE

from search.exporting.commands import PORT
from search.exporting.mlflow_model import MLMODEL
from search.reporting.front_models import FrontModel
from search.reporting.mlflow_note import LONGEST
from search.reporting.mlflow_runs import SEARCH_ID, front_tag
from search.reporting.mlflow_server import Experiment
from search.reporting.news import as_text
from trainables.model.description import CARD

_WEIGHTS, _DESCRIBED = "paretofuse.weights", "paretofuse.description"  # hashes of what MLflow holds


class LoggedModels:
    """The models of a search's front, each of which belongs to the run of its trial.

    A model whose trial has left the front stays, because something else may have been made of it, and its tag
    ``front`` becomes false. One with other weights replaces the model that its trial had before. Each method
    writes what MLflow lacks. A method that failed can be called again. If the server does not answer, a
    method raises MLflow's exception.

    Args:
        experiment: The experiment that holds the models.
        search_id: Unique id of the search; a resumed search keeps it.
        origin: Tags with the user and the source, as runs have them.
    """

    def __init__(self, experiment: Experiment, search_id: str, origin: Mapping[str, str]) -> None:
        self._experiment = experiment
        self._client = experiment.client
        self._search_id = search_id
        self._origin = dict(origin)
        self._held: dict[str, LoggedModel] | None = None  # None if it must be asked for

    def write(self, model: FrontModel, run_id: str, on_front: bool) -> None:
        """Write a model, and what is known of it.

        Args:
            model: The model.
            run_id: MLflow's id of the trial's run.
            on_front: Whether the trial is on the front.
        """
        weights, described = model.weights(), model.described()
        held = self._found().get(model.trial_id)
        if held is not None and held.tags.get(_WEIGHTS) != weights:
            self._client.delete_logged_model(held.model_id)
            held = None
        if held is None:
            held = self._create(model, run_id, {_WEIGHTS: weights, "front": front_tag(on_front)})
        if held.status != LoggedModelStatus.READY or held.tags.get(_DESCRIBED) != described:
            self._upload(model, held)
            self._link(model, held.model_id, run_id)
            if held.status != LoggedModelStatus.READY:
                self._client.finalize_logged_model(held.model_id, LoggedModelStatus.READY)
            note = _note(model, held.model_id)
            self._client.set_logged_model_tags(held.model_id, {MLFLOW_RUN_NOTE: note, _DESCRIBED: described})
            self._held = None

    def tag(self, front: frozenset[str]) -> None:
        """Write for each model whether its trial is on the given front."""
        for trial_id, held in self._found().items():
            if held.tags.get("front") != front_tag(trial_id in front):
                self._client.set_logged_model_tags(held.model_id, {"front": front_tag(trial_id in front)})
                self._held = None

    def _found(self) -> dict[str, LoggedModel]:
        """Return the search's models by trial."""
        if self._held is None:
            found = self._experiment.search_models(f"tags.`{SEARCH_ID}` = '{self._search_id}'")
            # Several of one trial exist only if requests crossed; one that is ready is better
            ordered = sorted(found, key=lambda held: held.status == LoggedModelStatus.READY)
            self._held = {held.tags["trial_id"]: held for held in ordered}
        return self._held

    def _create(self, model: FrontModel, run_id: str, tags: dict[str, str]) -> LoggedModel:
        self._held = None  # whatever becomes of the request, MLflow is asked afterwards
        return self._client.create_logged_model(
            self._experiment.experiment_id,
            name=model.name,
            source_run_id=run_id,
            tags={SEARCH_ID: self._search_id, "trial_id": model.trial_id, **self._origin, **tags},
            params={name: as_text(value) for name, value in model.params.items()},
        )

    def _upload(self, model: FrontModel, held: LoggedModel) -> None:
        """Copy a model's folder to MLflow; its file MLmodel, which gets the model's id, comes last."""
        self._client.log_model_artifacts(held.model_id, str(model.folder))
        described = Model.load(str(model.folder))
        described.model_id = described.model_uuid = held.model_id
        described.run_id, described.artifact_path = held.source_run_id, held.artifact_location
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / MLMODEL
            described.save(str(path))
            self._client.log_model_artifact(held.model_id, str(path))

    def _link(self, model: FrontModel, model_id: str, run_id: str) -> None:
        """Tie a model to its run, and to the run's metrics."""
        epochs = model.snapshot.epochs
        step, when = len(epochs), epochs[-1]["time"] if epochs else model.snapshot.started
        # As SearchRuns has written them, so that the run does not get them twice
        metrics = [
            Metric(name, float(value), int(when * 1000), step, model_id=model_id, run_id=run_id)
            for name, value in model.metrics().items()
        ]
        self._client.log_batch(run_id, metrics)
        outputs = self._client.get_run(run_id).outputs
        if model_id not in {output.model_id for output in _models(outputs)}:
            self._client.log_outputs(run_id, [LoggedModelOutput(model_id, step)])


def _note(model: FrontModel, model_id: str) -> str:
    """Return the description of a model's page: how to load and serve it, what it takes, and its card."""
    columns = (Model.load(str(model.folder)).metadata or {}).get("columns", {})
    takes = "\n".join(f"- `{name}`: {what}" for name, what in columns.items())
    return f"""```python
mlflow.pyfunc.load_model("models:/{model_id}").predict([{{…}}])
```
```bash
mlflow models serve -m models:/{model_id} --env-manager local --port {PORT}
curl -H 'Content-Type: application/json' -d @serving_input_example.json localhost:{PORT}/invocations
```
A request has these columns; `serving_input_example.json` among the artifacts is one.

{takes}

{(model.folder / CARD).read_text(encoding="utf-8")}"""[:LONGEST]


def _models(outputs: object) -> Iterable[LoggedModelOutput]:
    return getattr(outputs, "model_outputs", None) or ()
