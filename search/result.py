"""What a search has come to: the Python API's result, and the JSON document of ``--json``."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from search.goals.agreement import RankAgreement
from search.goals.objectives import Objective
from search.oneshot import OneShot
from search.records.status import UNFINISHED, Status
from search.reporting.rows import front_rows, memory_rows, method_rows
from search.setup import Setup


@dataclass(frozen=True)
class SearchResult:
    """How a search ended.

    Attributes:
        name: The search's name.
        space: The space's name.
        parent_run_id: MLflow's id of the search; None if the server has not answered yet.
        trials: Trials that ran all epochs.
        infeasible: Candidates above the budget, never started.
        out_of_memory: Trials that ran out of memory, alone or within their share of a device.
        diverged: Trials whose loss or metrics became infinite or not a number.
        failed: Trials that ended in an error, or whose worker died, once more than ``max_failures``.
        hypervolume: Share (0 to 1) of the objectives' box that the front dominates.
        front: The front, cheapest first; one document a member.
        methods: The best trial of each method, best first; documents as the front's.
        interrupted: Whether Ctrl-C ended the search.
        exhausted: Whether the space held no further feasible configuration.
        errors: What happened to each trial that failed.
        depths: Layers of each encoder.
        folder: Where results lie.
        memory: Predicted and measured memory of each trial, see ``memory_rows``.
        objectives: What the documents of ``front`` and ``methods`` say of each trial.
        tracking_uri: MLflow's address.
        strategy: How the space was searched.
        evaluated: With ``oneshot``: subnets evaluated with inherited weights.
        agreement: With ``oneshot``: the random sample's inherited and own results.
    """

    name: str
    space: str
    parent_run_id: str | None
    trials: int
    infeasible: int
    out_of_memory: int
    diverged: int
    failed: int
    hypervolume: float
    front: list[dict[str, Any]]
    methods: list[dict[str, Any]]
    interrupted: bool
    exhausted: bool
    errors: list[str]
    depths: dict[str, int]
    folder: str
    memory: list[dict[str, Any]]
    objectives: tuple[Objective, ...]
    tracking_uri: str
    strategy: str = "trials"
    evaluated: int = 0
    agreement: RankAgreement | None = None

    @property
    def kendall_tau(self) -> float | None:
        """Kendall's tau of inherited against own results; None if the sample's do not tell it."""
        return self.agreement.tau if self.agreement else None

    @classmethod
    def of(
        cls, setup: Setup, folder: Path, oneshot: OneShot | None, *, interrupted: bool, exhausted: bool
    ) -> SearchResult:
        """Return what a search has come to, but for MLflow's id.

        Args:
            setup: The search's, with its history.
            folder: Where results lie.
            oneshot: What went before trials, if anything did.
            interrupted: See the attribute.
            exhausted: Whether there was no further configuration to train.
        """
        config, history = setup.config, setup.history
        return cls(
            name=config.run_name,
            space=config.search.space,
            parent_run_id=None,
            trials=len(history.by_status(Status.FINISHED)),
            infeasible=len(history.infeasible),
            **{str(status): len(history.by_status(status)) for status in UNFINISHED},
            hypervolume=history.hypervolume(),
            front=front_rows(history),
            methods=method_rows(history),
            interrupted=interrupted,
            exhausted=oneshot.exhausted if oneshot else exhausted,
            errors=[record.message for record in history.by_status(Status.FAILED)],
            depths=dict(setup.context.depths),
            folder=str(folder),
            memory=memory_rows(history),
            objectives=history.shown,
            tracking_uri=config.tracking.tracking_uri,
            strategy=config.search.strategy,
            evaluated=oneshot.evaluated if oneshot else 0,
            agreement=oneshot.agreement() if oneshot else None,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the documented JSON document."""
        names = ["name", "space", "parent_run_id", "trials", "infeasible", *map(str, UNFINISHED)]
        names += ["hypervolume", "front", "methods", "memory"]
        if self.strategy == "oneshot":
            names += ["evaluated", "kendall_tau"]
        return {name: getattr(self, name) for name in names}

    def write(self) -> None:
        """Write the document into the search's folder."""
        (Path(self.folder) / "result.json").write_text(json.dumps(self.to_dict(), indent=1))
