"""A searcher that needs no Ray and trains nothing, and functions that drive it like Ray Tune."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
from rich.console import Console
from torch import Tensor

from search.backends.base import Backend, Material, Prepared
from search.config import SearchConfig, TargetSettings
from search.engine.prior import Prior
from search.engine.searcher import ParetoSearcher
from search.execution.tuning import Results
from search.goals.constraints import parse_constraints
from search.goals.objectives import get_objectives
from search.nodes import Node
from search.placement import place
from search.records.history import OUTPUTS, History, TrialRecord, canonical
from search.records.status import Ending, Status
from search.records.store import SearchStore
from search.schedulers import Rule, make_rule
from search.setup import Setup
from search.units import GIB, MIB
from spaces import Space, SpaceContext, get_space
from trainables.memory import MemoryReport
from trainables.step.setting import TrainingSetting
from trainables.tasks import Task, get_task
from trainables.trial.outputs import Outputs

CONTEXT = SpaceContext({"text": 6, "image": 12}, {"text": 384, "image": 384})
CPU = Node(cpus=8)
GPU = Node(cpus=8, gpus=1, gpu_memory=4 * GIB)

#: Report of a trial that diverged.
DIVERGED = Ending(Status.DIVERGED, "validation", "the loss became nan").to_result()

_SHARED_MEMORY = Path("/dev/shm")


@dataclass(frozen=True)
class FakeBackend:
    """A backend that answers a searcher and runs nothing."""

    predictor: CountingPredictor = field(default_factory=lambda: CountingPredictor())
    context: SpaceContext = CONTEXT
    guess: Mapping[str, float] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)
    task: Task = field(default_factory=lambda: get_task("classification").of_size(2))
    task_decided: str = "for a test"

    precision: None = None
    untested: None = None
    material: Material = field(
        default_factory=lambda: Material(
            "made_up", "f00", True, {"train": 1}, {"text": ("text", "text")}, None
        )
    )
    answers: Mapping[str, Tensor] = field(default_factory=dict)

    def labels(self, split: str) -> Tensor | None:
        """Return the given labels; None if there are none for the split."""
        return self.answers.get(split)

    def in_precision(self, precision: str) -> Backend:
        """Return this backend itself, because nothing is trained."""
        return self

    def on_target(self, target: TargetSettings) -> Backend:
        """Return this backend itself, because its predictions are made up."""
        return self

    def read(self, console: Console) -> Backend:
        """Return this backend itself, because there are no data."""
        return self

    def prepare(self, space: Space, console: Console) -> Prepared:
        """Raise ``NotImplementedError``, because nothing is trained."""
        raise NotImplementedError


class CountingPredictor:
    """Predicts memory that grows with the fused layers, and counts how often it is asked."""

    setting = TrainingSetting(prefix="computed", target="cpu")
    kinds = ("text", "image")

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.as_run: Counter[str] = Counter()

    def encoding_memory(self, target: str) -> int:
        """Return 0, because no layer is computed."""
        return 0

    def predict_as_run(self, config: Mapping[str, Any], *, cached: bool, target: str) -> MemoryReport:
        """Count the call, and predict."""
        self.as_run[canonical(config)] += 1
        return self._report(config)

    def predict_configuration(self, config: Mapping[str, Any]) -> MemoryReport:
        """Count the call, and predict."""
        self.asked[canonical(config)] += 1
        return self._report(config)

    def _report(self, config: Mapping[str, Any]) -> MemoryReport:
        total = (200 + 100 * config.get("n_fusion_layers", 1)) * MIB
        params = 1000 + config.get("translator_width", 0)
        return MemoryReport(total, total, 0, 0, 0, 0, trainable_parameters=params, checkpoint=4 * params)


def make_searcher(
    space: str | Space = "pmf_nas",
    *,
    node: Node = CPU,
    folder: Path | None = None,
    prior: Prior | None = None,
    rule: Rule | None = None,
    listed: Sequence[Mapping[str, Any]] | None = None,
    labels: Mapping[str, Tensor] | None = None,
    **settings: Any,
) -> ParetoSearcher:
    """Return a searcher with a fake predictor; if ``folder`` already holds a search, it is resumed.

    ``labels`` are those of each split, for trials that report outputs; the task is one of two classes.

    Without ``folder``, the store is in a temporary folder that is removed with the searcher. The folder is in
    memory if possible, because every event waits for the disk.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    named = space if isinstance(space, str) else "pmf_nas"
    defaults: dict[str, Any] = {"epochs": 2, "num_samples": 100, "feature_cache": False}
    defaults["objectives"] = ("memory", "accuracy")
    config = SearchConfig(space=named, **{**defaults, **settings})
    objectives = get_objectives(config.search.objectives or ())
    reference = {"memory": 1.0, "params": 2000.0, "checkpoint": 1.0}
    reference |= {"accuracy": 0.0, "macro_f1": 0.0, "loss": 1.0}
    history = History(
        objectives,
        {o.name: reference[o.name] for o in objectives},
        parse_constraints(config.search.all_constraints),
    )
    own = None
    if folder is None:
        folder = own = Path(tempfile.mkdtemp(dir=_SHARED_MEMORY if _SHARED_MEMORY.is_dir() else None))
    resumed = (folder / "search.sqlite").exists()
    setup = Setup(
        config,
        get_space(space) if isinstance(space, str) else space,
        history,
        rule
        or make_rule(
            config.search.scheduler,
            objectives,
            config.trial.epochs,
            config.search.reduction_factor,
            config.first_rung,
        ),
        {},
        FakeBackend(answers=labels or {}),
    )
    store = SearchStore.open(folder) if resumed else SearchStore.create(folder, {})
    history.restore(store)
    searcher = ParetoSearcher(
        setup,
        place([node], config.most_at_once),
        store,
        prior,
        listed,
    )
    if own is not None:
        weakref.finalize(searcher, shutil.rmtree, own, ignore_errors=True)
    return searcher


def result(epoch: int, accuracy: float, **others: Any) -> dict[str, Any]:
    """Return the report of a trial after an epoch."""
    return {"epoch": epoch, "accuracy": accuracy, "macro_f1": accuracy, "loss": 1 - accuracy, **others}


def out_of_memory(below_share: bool | None = None) -> dict[str, Any]:
    """Return the report of a trial that ran out of memory."""
    return Ending(Status.OUT_OF_MEMORY, "training", "CUDA out of memory.", below_share).to_result()


def set_aside(message: str, node: str) -> dict[str, Any]:
    """Return the report of a trial that a user's mistake kept from running on a node."""
    ending = Ending(Status.SET_ASIDE, "building", message)
    return {**ending.to_result(), "node_ip": node, "hostname": f"host-{node}"}


def finish(
    searcher: ParetoSearcher,
    tune_id: str,
    accuracy: float,
    outputs: Mapping[str, Outputs] | None = None,
    **others: Any,
) -> TrialRecord:
    """Run a trial to its end, ignoring the rule, with events in Ray Tune's order.

    Args:
        searcher: The searcher.
        tune_id: Ray Tune's id.
        accuracy: The trial's accuracy in each epoch.
        outputs: Outputs that the last report carries, by split.
        **others: Other entries of each report.
    """
    record = searcher.history.leg(tune_id)
    epochs = searcher.config.trial.epochs
    for epoch in range(len(record.epochs) + 1, epochs):
        searcher.recorder.report(tune_id, result(epoch, accuracy, **others))
    last = {OUTPUTS: dict(outputs)} if outputs is not None else {}
    return end(searcher, tune_id, {**result(epochs, accuracy, **others), **last})


def end(searcher: ParetoSearcher, tune_id: str, reported: dict[str, Any]) -> TrialRecord:
    """Report a trial's last result to the stopper, as Ray Tune does, and end the trial."""
    Results(searcher.recorder)(tune_id, reported)
    searcher.on_trial_complete(tune_id, reported)
    return searcher.history.leg(tune_id)


def report(searcher: ParetoSearcher, tune_id: str, accuracy: float) -> TrialRecord:
    """Report a trial's next epoch as Ray Tune does; end the trial if the epochs or the rule say so."""
    record = searcher.history.leg(tune_id)
    reported = result(len(record.epochs) + 1, accuracy)
    stops = Results(searcher.recorder)(tune_id, reported)
    if stops or reported["epoch"] == searcher.config.trial.epochs:
        searcher.on_trial_complete(tune_id, reported)
    return record
