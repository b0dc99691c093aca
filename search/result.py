"""The result of a search, for the Python API and as the JSON document of ``--json``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from search.goals.agreement import RankAgreement
from search.goals.objectives import Objective
from search.oneshot import OneShot
from search.records.files import write_whole
from search.records.place import Place
from search.records.status import UNFINISHED, Status
from search.reporting.rows import front_rows, memory_rows, method_rows, probe_row, unmet_rows
from search.setup import Setup
from search.signals import ended_by

#: Statuses of trials without a result that are counted.
_COUNTED = (*UNFINISHED, Status.SET_ASIDE)


@dataclass(frozen=True)
class SearchResult:
    """How a search ended.

    Attributes:
        name: The search's name.
        space: The space's name.
        parent_run_id: MLflow's id of the search's run; None if the server has not answered yet.
        trials: Number of trials that ran all epochs.
        infeasible: Number of candidates that broke a constraint before training and were never started.
        out_of_memory: Number of trials that ran out of memory, alone or within their share of a device.
        diverged: Number of trials whose loss or metrics became infinite or not a number.
        failed: Number of trials with more than ``max_failures`` errors or deaths of their worker.
        set_aside: Number of trials that a user's mistake kept from running, such as a dataset that their
            node lacks. They are run when the search is resumed.
        hypervolume: Share (0 to 1) of the objectives' box that the front dominates.
        front: The front, best in the first objective first; one document for each member.
        probe: The probe; a document like those of the front, see ``probe_row``. None if there is none.
        verdict: Whether what was found is better than the probe by more than luck, in a sentence; see
            ``search.reporting.verdict``. None if that is unknown.
        methods: The best trial of each method, best first; documents like those of the front.
        unmet: The constraints that the nearest trial misses, if no trial met all of them, see ``unmet_rows``.
        interrupted: Whether Ctrl-C or a signal ended the search.
        exhausted: Whether the space held no further feasible configuration.
        errors: The message of each trial that failed.
        depths: Number of layers of each encoder.
        place: Where the search is.
        memory: Predicted and measured memory of each trial, see ``memory_rows``.
        objectives: The objectives in the documents of ``front`` and ``methods``.
        tracking_uri: MLflow's address.
        tracking_page: Where MLflow's pages show the runs, from their address on; None if the server has not
            answered yet.
        strategy: The search strategy: ``trials`` or ``oneshot``.
        evaluated: With ``oneshot``: number of subnets evaluated with inherited weights.
        agreement: With ``oneshot``: inherited and own results of the random sample; else None.
        seconds: Wall time of this run of the search by what it was spent on, see ``Clock``.
        signal: Number of the signal that ended the search, that of SIGINT for Ctrl-C; None if none did.
        method: The method that a training trains; None for a search.
        encoders: The folders of the encoders that a training has trained as a whole, by modality.
        untested: Why no trial is scored on the test split, in words; None if trials are.
    """

    name: str
    space: str
    parent_run_id: str | None
    trials: int
    infeasible: int
    out_of_memory: int
    diverged: int
    failed: int
    set_aside: int
    hypervolume: float
    front: list[dict[str, Any]]
    probe: dict[str, Any] | None
    verdict: str | None
    methods: list[dict[str, Any]]
    unmet: list[dict[str, Any]]
    interrupted: bool
    exhausted: bool
    errors: list[str]
    depths: dict[str, int]
    place: Place
    memory: list[dict[str, Any]]
    objectives: tuple[Objective, ...]
    tracking_uri: str
    tracking_page: str | None = None
    strategy: str = "trials"
    evaluated: int = 0
    agreement: RankAgreement | None = None
    signal: int | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)
    method: str | None = None
    encoders: Mapping[str, str] = field(default_factory=dict)
    untested: str | None = None

    @property
    def folder(self) -> str:
        """The search's folder on this machine."""
        return str(self.place.folder)

    @property
    def kendall_tau(self) -> float | None:
        """Kendall's tau of inherited against own results; None if it is unknown."""
        return self.agreement.tau if self.agreement else None

    @classmethod
    def of(
        cls,
        setup: Setup,
        oneshot: OneShot | None,
        *,
        verdict: str | None,
        interrupted: bool,
        exhausted: bool,
    ) -> SearchResult:
        """Return the result of a search, without what MLflow knows, ``seconds`` and ``encoders``.

        Args:
            setup: The setup of the search, with its history.
            oneshot: The phases before trials, for a one-shot search.
            verdict: What the front means.
            interrupted: Whether Ctrl-C or a signal ended the search.
            exhausted: Whether there was no further configuration to train.
        """
        config, history = setup.config, setup.history
        return cls(
            name=config.run_name,
            space=config.search.space,
            parent_run_id=None,
            trials=len(history.by_status(Status.FINISHED)),
            infeasible=len(history.infeasible),
            seconds={},
            encoders={},
            **{str(status): len(history.by_status(status)) for status in _COUNTED},
            hypervolume=history.hypervolume(),
            front=front_rows(history),
            probe=probe_row(history),
            verdict=verdict,
            methods=method_rows(history),
            unmet=unmet_rows(history),
            interrupted=interrupted,
            exhausted=oneshot.exhausted if oneshot else exhausted,
            errors=[record.message for record in history.by_status(Status.FAILED)],
            depths=dict(setup.context.depths),
            place=config.place,
            memory=memory_rows(history),
            objectives=history.shown,
            tracking_uri=str(config.tracking.address),
            tracking_page=None,
            strategy=config.search.strategy,
            method=config.configuration.method,
            evaluated=oneshot.evaluated if oneshot else 0,
            agreement=oneshot.agreement() if oneshot else None,
            signal=ended_by() if interrupted else None,
            untested=setup.backend.untested,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON document of ``--json``."""
        names = ["name", "space", "parent_run_id", "trials", "infeasible", *map(str, _COUNTED)]
        names += ["hypervolume", "front", "probe", "verdict", "untested"]
        names += ["unmet", "methods", "memory", "seconds"]
        if self.strategy == "oneshot":
            names += ["evaluated", "kendall_tau"]
        if self.method is not None:
            names += ["method", "encoders"]
        return {name: getattr(self, name) for name in names}

    def write(self) -> None:
        """Write the document into the search's folder."""
        write_whole(self.place.folder / "result.json", json.dumps(self.to_dict(), indent=1))
