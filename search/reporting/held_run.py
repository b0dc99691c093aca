"""What MLflow already holds of a run, so that only differences are written to it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from mlflow.entities import Metric, Param, Run, RunStatus, RunTag
from mlflow.tracking import MlflowClient

_LUCK = ("p_front", "p_better", "standard_error.")  # beginnings of the names of what is known about luck


@dataclass
class HeldRun:
    """The part of a run that MLflow already holds.

    Attributes:
        run_id: MLflow's id of the run.
        status: MLflow's status of the run.
        tags: The run's tags.
        described: Whether MLflow holds a trial's parameters and the metrics known from the start.
        params: Names of its parameters, which cannot change.
        has_dataset: Whether MLflow holds its dataset.
        epochs: Number of the last epoch that MLflow holds.
        test: Metrics on the test split, by the metric's name.
        luck: What is known about luck, by the metric's name. What is known no more has the value NaN.
    """

    run_id: str
    status: str
    tags: dict[str, str] = field(default_factory=dict)
    described: bool = False
    params: set[str] = field(default_factory=set)
    has_dataset: bool = False
    epochs: float = 0
    test: dict[str, float] = field(default_factory=dict)
    luck: dict[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, run: Run) -> HeldRun:
        """Return what MLflow holds of a run."""
        metrics = run.data.metrics
        return cls(
            run_id=run.info.run_id,
            status=run.info.status,
            tags=dict(run.data.tags),
            described=bool(run.data.params) and "predicted.total" in metrics,
            params=set(run.data.params),
            has_dataset=bool(run.inputs and run.inputs.dataset_inputs),
            epochs=metrics.get("epoch", 0),
            test={name: value for name, value in metrics.items() if name.startswith("test.")},
            luck={
                name: value
                for name, value in metrics.items()
                if name.startswith(_LUCK) and not math.isnan(value)
            },
        )

    def log(
        self,
        client: MlflowClient,
        tags: Mapping[str, str],
        metrics: list[Metric] | None = None,
        params: list[Param] | None = None,
    ) -> None:
        """Write metrics, parameters, and the tags that are new or have changed."""
        new = {name: value for name, value in tags.items() if self.tags.get(name) != value}
        if new or metrics or params:
            entries = [RunTag(name, value) for name, value in new.items()]
            client.log_batch(self.run_id, metrics or [], params or [], entries)
        self.tags |= new

    def set_status(self, client: MlflowClient, status: str, when: float) -> None:
        """Write the status if it has changed; ``when`` is the end of the run, for a final status."""
        if status == self.status:
            return
        if RunStatus.is_terminated(RunStatus.from_string(status)):
            client.set_terminated(self.run_id, status, int(when * 1000))
        else:
            client.update_run(self.run_id, status)
        self.status = status


def fullest(runs: list[Run]) -> Run:
    """Return the run with the most parameters, else the oldest; several exist only if requests crossed."""
    return max(runs, key=lambda run: len(run.data.params))
