"""What a search can minimise or maximise, as data: the rest of the program reads it and knows no name.

An objective is one entry here, or one call of ``register_objective``; a task brings its metrics.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from search.units import GIB, MIB
from trainables.errors import UserError, unknown
from trainables.memory import MemoryReport
from trainables.tasks import TASKS, Direction, Metric

#: An objective without a worst value is worth nothing from so many times the first finished trial's distance
#: from the ideal on. For step times: the first trial runs a paper's setting; fusing every layer at the
#: greatest sizes takes seven or eight times as long.
FROM_FIRST = 10.0


@dataclass(frozen=True)
class Objective:
    """One objective.

    Attributes:
        name: As trials report it.
        direction: ``minimize`` or ``maximize``.
        worst: The value from which on a result is worth nothing. None if it depends on the search: for what
            is known before training, the budget or what the space's largest configuration has; else what
            guessing reaches, if the task says that; else see ``late_reference``.
        ideal: The best possible value.
        unit: Of the values, and how people write them, see ``search.goals.quantities``: ``GiB``, ``MiB``,
            ``s``, ``%`` for a share of 1, ``parameters``; any other one is shown behind plain numbers.
        description: One line for listings.
        value: Returns the value from what is known of a configuration before it is trained; None if training
            decides it, so that trials report it.
        tested: Whether the front is measured by it on the test split, too: so it is with a task's metrics.
        share_of_rows: Whether it is a share of the split's rows, each of which is right or wrong.
        title: What a picture's axis calls it; its name by default.
        short: What a table's column calls it; its name by default.
    """

    name: str
    direction: Direction
    worst: float | None = None
    ideal: float = 0.0
    unit: str = ""
    description: str = ""
    value: Callable[[MemoryReport], float] | None = None
    tested: bool = False
    share_of_rows: bool = False
    title: str = ""
    short: str = ""

    @property
    def known(self) -> bool:
        """Whether it is exact before anything is trained."""
        return self.value is not None

    def loss(self, value: float) -> float:
        """Return the value with the sign that makes less better."""
        return value if self.direction == "minimize" else -value

    @classmethod
    def of(cls, metric: Metric) -> Objective:
        """Return the objective that a task's metric is."""
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
    return report.total / GIB


def _params(report: MemoryReport) -> float:
    return float(report.trainable_parameters)


def _checkpoint(report: MemoryReport) -> float:
    return report.checkpoint / MIB


#: The objective that the program is about.
MEMORY = Objective(
    "memory",
    "minimize",
    unit="GiB",
    description="predicted peak of training memory, GiB",
    value=_memory,
    title="predicted training memory",
)
#: What every row of a report holds, too, as ``trainable_parameters``.
PARAMS = Objective(
    "params",
    "minimize",
    unit="parameters",
    description="trained parameters",
    value=_params,
    short="trained params",
)

#: Objectives of every search, by name; those of its task come on top.
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
            "step_time",
            "minimize",
            unit="s",
            description="seconds of an optimisation step, as the search ran it",
        ),
    )
}


def register_objective(objective: Objective) -> Objective:
    """Make an objective one of those that a search can be told by name.

    What trials report can be registered as it is (e.g. ``epoch_seconds``); what is known before training
    brings a ``value``.

    Raises:
        UserError: If the name is taken or no word, if the unit could not be told from a number before it, if
            the worst value is no worse than the ideal, or if a known one is maximised and has no worst value.
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


def available_objectives(task: str | None = None) -> dict[str, Objective]:
    """Return the objectives of a task by name; without one, those of all tasks."""
    kinds = TASKS.values() if task is None else [TASKS[task]]
    metrics = [Objective.of(metric) for kind in kinds for metric in kind.metrics]
    found = dict(OBJECTIVES)
    for metric in metrics:
        found.setdefault(metric.name, metric)
    return found


def get_objectives(names: Sequence[str], task: str | None = None) -> tuple[Objective, ...]:
    """Return objectives by name.

    Args:
        names: Their names.
        task: Whose metrics they may be; None is any task's.

    Raises:
        UserError: If one does not exist, is named twice, or there are none.
    """
    if not names or len(set(names)) != len(names):
        raise UserError(f"--objectives {','.join(names)}: name each of one or more objectives once")
    there = available_objectives(task)
    for name in names:
        if name not in there:
            raise unknown("objective", name, there)
    return tuple(there[name] for name in names)


def always_reported(task: str) -> tuple[Objective, ...]:
    """Return what reports say of every trial, whatever is searched for: memory, the task's first metric."""
    return MEMORY, Objective.of(TASKS[task].metrics[0])


def known_values(memory: MemoryReport) -> dict[str, float]:
    """Return what is known without training, e.g. memory in GiB, trained parameters, checkpoint in MiB."""
    return {o.name: o.value(memory) for o in OBJECTIVES.values() if o.value is not None}


def reference_values(
    objectives: Sequence[Objective], largest: Mapping[str, float], guess: Mapping[str, float]
) -> dict[str, float]:
    """Return, for each objective, the value from which on a result is worth nothing.

    The hypervolume is measured from this point, so it stays fixed during a search. What is not known before a
    trial has finished is not among those returned, see ``late_reference``.

    Args:
        objectives: The objectives.
        largest: For each of those that are known, the budget, or a tenth more than the space's largest
            configuration has.
        guess: What is reached without having learnt anything, as far as the task says it.
    """
    depends = {**guess, **largest}
    found = {}
    for o in objectives:
        worst = depends.get(o.name) if o.worst is None else o.worst
        if worst is not None and o.loss(worst) > o.loss(o.ideal):
            found[o.name] = worst
    return found


def late_reference(objective: Objective, first: Mapping[str, float]) -> float | None:
    """Return the reference of an objective that ``reference_values`` leaves out; from then on it is fixed.

    Args:
        objective: The objective.
        first: Values of the first trial that finished.

    Returns:
        The reference; None if the trial is at the ideal, so that it says nothing of the scale.
    """
    value, ideal = first[objective.name], objective.ideal
    return ideal + FROM_FIRST * (value - ideal) if objective.loss(value) > objective.loss(ideal) else None


def normalised(
    objectives: Sequence[Objective], reference: Mapping[str, float], values: Mapping[str, float]
) -> tuple[float, ...]:
    """Return values as losses on a scale where the reference is 1 and the ideal is 0.

    An objective that has no reference yet stands at it, at 1: until the first trial has finished, the
    hypervolume is 0.
    """

    def loss(objective: Objective) -> float:
        if objective.name not in reference:
            return 1.0
        best, worst = objective.loss(objective.ideal), objective.loss(reference[objective.name])
        return (objective.loss(values[objective.name]) - best) / (worst - best)

    return tuple(loss(objective) for objective in objectives)
