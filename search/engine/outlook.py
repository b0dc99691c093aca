"""The knowledge of a sampler and of the searcher about a configuration before it is trained."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from search.engine.gate import Gate
from search.goals.objectives import known_values, normalised
from search.goals.pareto import hypervolume
from search.records.evidence import Evidence
from search.records.history import History, canonical
from search.samplers.ehvi import Outlook
from search.setup import Setup
from spaces import Trial
from trainables.memory import MemoryReport

#: Improvement over the best values so far that a candidate is credited with, as a share of the range.
MARGIN = 0.05
#: A candidate is put off if it would add less than this to the hypervolume, even with that improvement.
LEAST_GAIN = 0.01


def outlook(setup: Setup, gate: Gate, evidence: Evidence) -> Outlook:
    """Return what a sampler may know about candidates, and about trials, before it proposes one."""
    history, objectives = setup.history, setup.history.objectives

    def losses(values: Mapping[str, float]) -> tuple[float, ...]:
        return normalised(objectives, history.reference, values)

    def draw(trial: Trial) -> dict[str, Any]:
        return setup.space.sample(trial, setup.context)

    def known(config: dict[str, Any]) -> dict[str, float] | None:
        if history.find(config) is not None or canonical(config) in history.infeasible:
            return None
        found = gate.assess(config, setup.predictor)
        return known_values(found.memory) if found.feasible else None

    def runs(number: int) -> list[list[tuple[float, ...]]]:
        first = history.asked_as(number)
        if first is None:
            return []
        return [
            [losses(run.values_at(epoch)) for epoch in range(1, len(run.epochs) + 1)]
            for run in history.alike(first)
        ]

    def noises() -> Callable[[int], tuple[float, ...] | None]:
        of_trials = evidence.noises()
        spans = [abs(history.reference.get(o.name, math.inf) - o.ideal) for o in objectives]

        def noise(number: int) -> tuple[float, ...] | None:
            first = history.asked_as(number)
            finished = [] if first is None else history.finished(first)
            known = of_trials.get(finished[0].trial_id) if finished else None
            if known is None:
                return None
            return tuple(known.get(o.name, 0.0) / span for o, span in zip(objectives, spans, strict=True))

        return noise

    names = [o.name for o in objectives]
    exact = [o.known for o in objectives]
    return Outlook(names, exact, setup.config.trial.epochs, losses, draw, known, runs, noises)


def promises(history: History, memory: MemoryReport) -> bool:
    """Return whether a candidate with a slightly better result than the best so far is worth its memory."""
    objectives, reference = history.objectives, history.reference
    front = [history.values(record) for record in history.front(probes=False)]
    if not front:
        return True
    points = [normalised(objectives, reference, values) for values in front]
    known = known_values(memory)
    best = {o.name: min((v[o.name] for v in front), key=o.loss) for o in objectives}
    hoped = normalised(objectives, reference, {**best, **known})
    hoped = tuple(loss if o.known else loss - MARGIN for o, loss in zip(objectives, hoped, strict=True))
    ones = [1.0] * len(objectives)
    return hypervolume([*points, hoped], ones) - hypervolume(points, ones) >= LEAST_GAIN
