"""Which settings mattered, by Optuna's evaluator."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from search.goals.objectives import MEMORY, Objective
from search.records.history import History

#: Least number of finished configurations, and of those that have a setting which others lack.
LEAST, LEAST_OF_SOME = 10, 20
#: Share of the configurations that count as good, for PED-ANOVA.
_GOOD = 0.25
#: Most configurations for fANOVA, which takes seconds for some hundreds, and its number of trees.
_MOST, _TREES = 200, 32

_WORDS = "importance of settings: "
_FANOVA = (
    f"{_WORDS}the share of the variance that a setting explains by itself (fANOVA); those that some "
    "trials lack are left out"
)
_PED_ANOVA = (
    f"{_WORDS}how much a setting decides whether a trial is among the best quarter (PED-ANOVA, which takes "
    f"methods with different settings); settings that fewer than {LEAST_OF_SOME} trials have are left out"
)


def importance_of(
    history: History, trials: Sequence[Mapping[str, Any]], parameters: Sequence[Mapping[str, Any]]
) -> tuple[dict[str, dict[str, float]], list[str]]:
    """Return how much each parameter matters for each trained objective, and for memory if it varies.

    If all configurations are of one method, it is the share of the variance by fANOVA (Hutter et al., ICML
    2014) of the parameters that all have. If not, it is PED-ANOVA (Watanabe et al., IJCAI 2023) with its
    extension to parameters that only some configurations have.

    Args:
        history: The trials.
        trials: Their rows, see ``trial_rows``.
        parameters: What differs between them, see ``parameter_rows``.

    Returns:
        Shares that add up to 1 by objective and parameter, the largest first, and notes.
    """
    first = {record.trial_id for record in history.configurations()}
    done = [row for row in trials if row["id"] in first]
    if not parameters:
        return {}, []
    if len(done) < LEAST:
        return {}, [f"{_WORDS}takes {LEAST} finished configurations, and there are {len(done)}"]
    counts = {each["name"]: sum(_has(row, each["name"]) for row in done) for each in parameters}
    alike = len({row["method"] for row in done}) == 1
    least = len(done) if alike else min(LEAST_OF_SOME, len(done))
    used = [each for each in parameters if counts[each["name"]] >= least]
    distributions = {each["name"]: _distribution(each, done) for each in used}
    distributions = {name: each for name, each in distributions.items() if not each.single()}
    found = {}
    for objective in history.shown:
        rows = [row for row in done if objective.name in row["values"]]
        values = {row["values"][objective.name] for row in rows}
        asked = not objective.known or objective.name == MEMORY.name
        if asked and distributions and len(values) > 1 and len(rows) >= LEAST:
            found[objective.name] = _shares(objective, rows, distributions, alike=alike)
    return found, [_FANOVA if alike else _PED_ANOVA] if found else []


def _shares(
    objective: Objective,
    rows: Sequence[Mapping[str, Any]],
    distributions: Mapping[str, Any],
    *,
    alike: bool,
) -> dict[str, float]:
    import optuna
    from optuna.importance import (
        BaseImportanceEvaluator,
        FanovaImportanceEvaluator,
        PedAnovaImportanceEvaluator,
        get_param_importances,
    )

    evaluator: BaseImportanceEvaluator = PedAnovaImportanceEvaluator(target_quantile=_GOOD)
    if alike:
        evaluator = FanovaImportanceEvaluator(n_trees=_TREES, seed=0)
        rows = rows[:: -(-len(rows) // _MOST)]

    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(0))
        for row in rows:
            settings = {name: _value(row, name) for name in distributions if _has(row, name)}
            trial = optuna.trial.create_trial(
                value=objective.loss(row["values"][objective.name]),
                params=settings,
                distributions={name: distributions[name] for name in settings},
            )
            study.add_trial(trial)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of parameters that few trials have
            shares = get_param_importances(study, evaluator=evaluator)
    finally:
        optuna.logging.set_verbosity(level)
    ordered = sorted(shares.items(), key=lambda item: (-item[1], item[0]))
    return {name: float(share) for name, share in ordered}


def _distribution(parameter: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> Any:
    """Return what a parameter's values are drawn from, as far as trials show it."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    values = [_value(row, parameter["name"]) for row in rows if _has(row, parameter["name"])]
    if parameter["kind"] != "number":
        return CategoricalDistribution(sorted({*values}))
    low, high = min(values), max(values)
    kind = IntDistribution if all(isinstance(value, int) for value in values) else FloatDistribution
    return kind(low, high, log=parameter["log"])


def _has(row: Mapping[str, Any], name: str) -> bool:
    return name == "method" or name in row["config"]


def _value(row: Mapping[str, Any], name: str) -> Any:
    """Return a setting as Optuna takes it: a choice as a text, which tells 1 from true."""
    value = row["method"] if name == "method" else row["config"][name]
    return value if isinstance(value, int | float) and not isinstance(value, bool) else json.dumps(value)
