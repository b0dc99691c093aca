"""What a search can minimise or maximise."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from trainables.errors import UserError, unknown


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


def reference_values(
    objectives: Sequence[Objective], *, memory: float, params: float, n_classes: int
) -> dict[str, float]:
    """Return, for each objective, the value from which on a result is worth nothing.

    The hypervolume is measured from this point, so it stays fixed during a search.

    Args:
        objectives: The objectives.
        memory: The budget, or a tenth more than the space's largest configuration takes, in GiB.
        params: A tenth more than the largest configuration's trained parameters.
        n_classes: Number of classes; the loss counts from that of guessing uniformly.
    """
    known = {
        "memory": memory,
        "params": params,
        "accuracy": 0.0,
        "macro_f1": 0.0,
        "loss": math.log(n_classes),
    }
    return {objective.name: known[objective.name] for objective in objectives}


def normalised(
    objectives: Sequence[Objective], reference: Mapping[str, float], values: Mapping[str, float]
) -> tuple[float, ...]:
    """Return values as losses on a scale where the reference is 1 and the ideal is 0.

    The ideal is 0 for what is minimised and 1 for what is maximised (accuracy, F1).
    """
    return tuple(
        values[o.name] / reference[o.name] if o.direction == "minimize" else 1 - values[o.name]
        for o in objectives
    )
