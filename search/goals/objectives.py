"""What a search can minimise or maximise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from search.units import GIB
from trainables.errors import UserError, unknown
from trainables.memory import MemoryReport

MIB = 2**20

#: Objectives that are exact before anything is trained.
KNOWN = ("memory", "params", "checkpoint")

#: From this many times the first finished trial's step time on, a step time is worth nothing. The first trial
#: runs a paper's setting; fusing every layer at the greatest sizes takes seven or eight times as long.
FROM_FIRST = 10.0


@dataclass(frozen=True)
class Objective:
    """One objective.

    Attributes:
        name: As trials report it.
        direction: ``minimize`` or ``maximize``.
        description: One line for listings.
    """

    name: str
    direction: str
    description: str

    def loss(self, value: float) -> float:
        """Return the value with the sign that makes less better."""
        return value if self.direction == "minimize" else -value


OBJECTIVES = {
    objective.name: objective
    for objective in (
        Objective("memory", "minimize", "predicted peak of training memory, GiB"),
        Objective("params", "minimize", "trained parameters"),
        Objective("checkpoint", "minimize", "weights that a checkpoint holds, MiB"),
        Objective("step_time", "minimize", "seconds of an optimisation step, as the search ran it"),
        Objective("accuracy", "maximize", "validation accuracy after the last epoch"),
        Objective("macro_f1", "maximize", "validation macro F1 after the last epoch"),
        Objective("loss", "minimize", "validation cross entropy after the last epoch"),
    )
}


def get_objectives(names: Sequence[str]) -> tuple[Objective, ...]:
    """Return objectives by name.

    Raises:
        UserError: If one does not exist, is named twice, or there are none.
    """
    if not names or len(set(names)) != len(names):
        raise UserError(f"--objectives {','.join(names)}: name each of one or more objectives once")
    for name in names:
        if name not in OBJECTIVES:
            raise unknown("objective", name, OBJECTIVES)
    return tuple(OBJECTIVES[name] for name in names)


def known_values(memory: MemoryReport) -> dict[str, float]:
    """Return what is known without training: memory in GiB, trained parameters, checkpoint in MiB."""
    return {
        "memory": memory.total / GIB,
        "params": float(memory.trainable_parameters),
        "checkpoint": memory.checkpoint / MIB,
    }


def reference_values(
    objectives: Sequence[Objective], *, guess: Mapping[str, float], **largest: float
) -> dict[str, float]:
    """Return, for each objective, the value from which on a result is worth nothing.

    The hypervolume is measured from this point, so it stays fixed during a search. The time of a step is not
    known before one was timed: it is not among those returned, see ``late_reference``.

    Args:
        objectives: The objectives.
        guess: What is reached without having learnt anything; the loss counts from there.
        **largest: For each of ``KNOWN`` among the objectives, in its unit, the budget, or a tenth more than
            the space's largest configuration has.
    """
    known = {**largest, "accuracy": 0.0, "macro_f1": 0.0, "loss": guess["loss"]}
    return {o.name: known[o.name] for o in objectives if o.name != "step_time"}


def late_reference(objective: Objective, first: Mapping[str, float]) -> float:
    """Return the reference of an objective that ``reference_values`` leaves out; from then on it is fixed.

    Args:
        objective: The objective; minimised.
        first: Values of the first trial that finished.
    """
    return FROM_FIRST * first[objective.name]


def normalised(
    objectives: Sequence[Objective], reference: Mapping[str, float], values: Mapping[str, float]
) -> tuple[float, ...]:
    """Return values as losses on a scale where the reference is 1 and the ideal is 0.

    The ideal is 0 for what is minimised and 1 for what is maximised (accuracy, F1). An objective that has no
    reference yet stands at it, at 1: until the first trial has finished, the hypervolume is 0.
    """

    def loss(objective: Objective) -> float:
        name = objective.name
        if name not in reference:
            return 1.0
        return values[name] / reference[name] if objective.direction == "minimize" else 1 - values[name]

    return tuple(loss(objective) for objective in objectives)
