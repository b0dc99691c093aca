"""Objectives, which a search minimises or maximises, as data: the rest of the program needs no names.

An objective is one entry here, or one call of ``register_objective``. A task adds its metrics.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from search.units import GIB, MIB
from trainables.errors import UserError, unknown
from trainables.memory import MemoryReport
from trainables.tasks import TASKS, Direction, Metric, Task

#: For an objective without a worst value, the reference is this many times as far from the ideal as the first
#: finished trial. For step times, the first trial runs a paper's setting; fusing every layer at the largest
#: sizes takes seven or eight times as long.
FROM_FIRST = 10.0


@dataclass(frozen=True)
class Objective:
    """One objective.

    Attributes:
        name: Name under which trials report it.
        direction: ``minimize`` or ``maximize``.
        worst: A result of this value or worse adds nothing to the hypervolume. None if it depends on the
            search. For a value known before training it is then the budget, or that of the space's largest
            configuration; otherwise the value of guessing, if the task has one; otherwise see
            ``late_reference``.
        ideal: The best possible value.
        unit: Unit of the values, which decides how they are written (see ``search.goals.quantities``):
            ``GiB``, ``MiB``, ``s``, ``%`` for a share of 1, or ``parameters``. Any other unit is shown after
            plain numbers.
        description: One line for listings.
        value: Returns the value from the memory report of a configuration, or None if the report lacks it;
            None if training decides the value, so that trials report it.
        inference: Whether the value is about a forward pass without gradient, which is predicted only for
            searches that have such an objective or constraint.
        tested: Whether the front is also evaluated on the test split, as for a task's metrics.
        share_of_rows: Whether the value is a share of the split's rows, each of which is right or wrong.
        title: Name on a picture's axis; ``name`` by default.
        short: Heading of a table's column; ``name`` by default.
    """

    name: str
    direction: Direction
    worst: float | None = None
    ideal: float = 0.0
    unit: str = ""
    description: str = ""
    value: Callable[[MemoryReport], float | None] | None = None
    inference: bool = False
    tested: bool = False
    share_of_rows: bool = False
    title: str = ""
    short: str = ""

    @property
    def known(self) -> bool:
        """Whether the value is exact before training."""
        return self.value is not None

    def loss(self, value: float) -> float:
        """Return a value as a loss, for which less is better: values to maximise are negated."""
        return value if self.direction == "minimize" else -value

    @classmethod
    def of(cls, metric: Metric) -> Objective:
        """Return the objective for a task's metric."""
        return cls(
            metric.name,
            metric.direction,
            metric.worst,
            metric.ideal,
            metric.unit,
            metric.description,
            tested=True,
            share_of_rows=metric.share_of_rows,
            short=metric.short,
        )


def _memory(report: MemoryReport) -> float:
    return report.memory / GIB


def _params(report: MemoryReport) -> float:
    return float(report.trainable_parameters)


def _checkpoint(report: MemoryReport) -> float:
    return report.checkpoint / MIB


def _inference_memory(report: MemoryReport) -> float | None:
    return None if report.inference_memory is None else report.inference_memory / GIB


#: Predicted training memory on the target, which every report shows.
MEMORY = Objective(
    "memory",
    "minimize",
    unit="GiB",
    description="predicted training memory on the target, GiB",
    value=_memory,
    title="predicted training memory",
)
#: Number of trained parameters, which every row of a report holds as ``trainable_parameters``.
PARAMS = Objective(
    "params",
    "minimize",
    unit="parameters",
    description="trained parameters",
    value=_params,
    title="trained parameters",
    short="trained params",
)

#: Objectives of every search, by name; the metrics of its task come in addition.
OBJECTIVES = {
    objective.name: objective
    for objective in (
        MEMORY,
        PARAMS,
        Objective(
            "checkpoint",
            "minimize",
            unit="MiB",
            description="weights that a checkpoint holds, MiB",
            value=_checkpoint,
        ),
        Objective(
            "inference_memory",
            "minimize",
            unit="GiB",
            description="predicted memory of a forward pass without gradient on the target, GiB",
            value=_inference_memory,
            inference=True,
            title="predicted inference memory",
        ),
        Objective(
            "step_time",
            "minimize",
            unit="s",
            description="seconds of an optimization step, as the search ran it",
        ),
    )
}


def register_objective(objective: Objective) -> Objective:
    """Register an objective, so that a search can use it by its name.

    Any number that trials report can be an objective (e.g. ``epoch_seconds``). An objective that is known
    before training needs a ``value``.

    Raises:
        UserError: If the name is taken or is not a word, if the unit could be read as part of a number, if
            the worst value is not worse than the ideal, or if the objective is known before training, is
            maximised and has no worst value.
    """
    name, worst = objective.name, objective.worst
    if not re.fullmatch(r"\w+", name):
        raise UserError(f"objective '{name}': a name has letters, digits and '_'")
    if name in available_objectives():
        raise UserError(f"objective '{name}': is there already; choose another name")
    if re.match(r"[\d.]", objective.unit) or set(objective.unit) & set("<>="):
        raise UserError(
            f"objective '{name}', unit '{objective.unit}': must begin with no digit and have no <, > or ="
        )
    if worst is not None and not objective.loss(worst) > objective.loss(objective.ideal):
        raise UserError(
            f"objective '{name}': the worst value, {worst:g}, is no worse than {objective.ideal:g}"
        )
    if objective.known and objective.direction == "maximize" and worst is None:
        raise UserError(f"objective '{name}': is known and maximised, so it must say what the worst value is")
    OBJECTIVES[name] = objective
    return objective


def available_objectives(task: Task | None = None) -> dict[str, Objective]:
    """Return the objectives of a task, or of all tasks, by name."""
    kinds = TASKS.values() if task is None else [task]
    metrics = [Objective.of(metric) for kind in kinds for metric in kind.metrics]
    found = dict(OBJECTIVES)
    for metric in metrics:
        found.setdefault(metric.name, metric)
    return found


def get_objectives(names: Sequence[str], task: Task | None = None) -> tuple[Objective, ...]:
    """Return objectives by name.

    Args:
        names: Their names.
        task: Task whose metrics are accepted; None accepts those of every task.

    Raises:
        UserError: If a name does not exist or occurs twice, or if there are no names.
    """
    if not names or len(set(names)) != len(names):
        raise UserError(f"--objectives {','.join(names)}: name each of one or more objectives once")
    there = available_objectives(task)
    for name in names:
        if name not in there:
            raise unknown("objective", name, there)
    return tuple(there[name] for name in names)


def always_reported(task: Task | type[Task]) -> tuple[Objective, ...]:
    """Return the objectives that a search has by default, and every report shows.

    They are memory and the task's first metric.
    """
    return MEMORY, Objective.of(task.metrics[0])


def known_values(memory: MemoryReport) -> dict[str, float]:
    """Return the values known before training, e.g. memory in GiB, parameters, checkpoint in MiB.

    Those that the report lacks are left out.
    """
    values = {o.name: o.value(memory) for o in OBJECTIVES.values() if o.value is not None}
    return {name: value for name, value in values.items() if value is not None}


def reference_values(
    objectives: Sequence[Objective], largest: Mapping[str, float], guess: Mapping[str, float]
) -> dict[str, float]:
    """Return the reference of each objective: a result at its reference or worse adds nothing.

    The hypervolume is measured from this point, which stays fixed during a search. Objectives whose reference
    is unknown before a trial has finished are left out, see ``late_reference``.

    Args:
        objectives: The objectives.
        largest: For each objective known before training, the budget, or 1.1 times the value of the space's
            largest configuration.
        guess: Values without having learnt anything, for the metrics for which the task gives one.
    """
    depends = {**guess, **largest}
    found = {}
    for o in objectives:
        worst = depends.get(o.name) if o.worst is None else o.worst
        if worst is not None and o.loss(worst) > o.loss(o.ideal):
            found[o.name] = worst
    return found


def late_reference(objective: Objective, first: Mapping[str, float]) -> float | None:
    """Return the reference of an objective that ``reference_values`` leaves out; it is fixed from now on.

    Args:
        objective: The objective.
        first: Values of the first trial that finished.

    Returns:
        The reference; None if the trial has reached the ideal, which gives no scale.
    """
    value, ideal = first[objective.name], objective.ideal
    return ideal + FROM_FIRST * (value - ideal) if objective.loss(value) > objective.loss(ideal) else None


def normalised(
    objectives: Sequence[Objective], reference: Mapping[str, float], values: Mapping[str, float]
) -> tuple[float, ...]:
    """Return values as losses on a scale where the reference is 1 and the ideal is 0.

    An objective without a reference has the loss 1, so the hypervolume is 0 until the first trial finishes.
    """

    def loss(objective: Objective) -> float:
        if objective.name not in reference:
            return 1.0
        best, worst = objective.loss(objective.ideal), objective.loss(reference[objective.name])
        return (objective.loss(values[objective.name]) - best) / (worst - best)

    return tuple(loss(objective) for objective in objectives)
