"""What the front of a search means, in a sentence."""

from __future__ import annotations

from search.goals.objectives import MEMORY, Objective
from search.goals.quantities import quantity_of
from search.records.evidence import Evidence
from search.records.history import PROBE, History, TrialRecord

#: Standard errors on each side of a difference that hold the true one in 95 of 100 cases.
BOUND = 1.96
#: A smaller difference than this is rounding.
_RESOLUTION = 1e-6


def verdict(evidence: Evidence) -> str | None:
    """Return whether what was found is better than the probe by more than luck; None if that is unknown.

    What was best on the validation split, see ``History.best_found``, is compared with the probe of all
    modalities on the test split. It is better if the difference is above 1.96 standard errors of a paired
    bootstrap, see ``Evidence.difference``.
    """
    history = evidence.history
    probe, best = history.probes.get(PROBE), history.best_found()
    if probe is None or best is None:
        return None
    objective = next(o for o in history.objectives if o.tested)
    difference = evidence.difference(best, probe, "test", objective)
    if difference is None:
        return None
    by = _amount(abs(difference.mean), BOUND * difference.standard_error, objective)
    other = f"the {_named(probe, history)}"
    if difference.mean > BOUND * difference.standard_error:
        return f"{_named(best, history)} is better than {other} by {by} on test"
    if abs(difference.mean) < _RESOLUTION:
        compared = f"is as good as {other}: {by} on test"
    else:
        compared = f"is {'ahead of' if difference.mean > 0 else 'behind'} {other} by {by} on test"
    nothing = "nothing found is better than the probe by more than luck"
    return f"{nothing}: the best, {_named(best, history)}, {compared}"


def _named(record: TrialRecord, history: History) -> str:
    """Return a configuration by its method and memory, ``pmf at 1.30 GiB``."""
    memory = quantity_of(MEMORY).brief(history.values(record)[MEMORY.name])
    return f"{record.config['method']} at {memory}"


def _amount(mean: float, bound: float, objective: Objective) -> str:
    """Return a difference with its bound in the objective's unit; shares are written in points."""
    if objective.unit == "%":
        return f"{100 * mean:.1f} ± {100 * bound:.1f} points of {objective.name}"
    unit = f" {objective.unit}" if objective.unit else ""
    return f"{mean:.3g} ± {bound:.2g}{unit} of {objective.name}"
