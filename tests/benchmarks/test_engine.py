"""A short form of ``benchmarks/engine.py``: all engines solve one problem, and pay for each epoch."""

from __future__ import annotations

import importlib
from collections import Counter
from typing import Any

import pytest

from search.replay import ReplayTable
from tests.conftest import ROOT

TABLE = ROOT / "benchmarks" / "tables" / "pmf_nas.parquet"
CAP = 24
ENGINES = ["random/none", "tpe/pareto_asha", "ray random+fifo", "ray random+asha"]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def engine() -> Any:
    return importlib.import_module("engine")


@pytest.mark.parametrize("name", ENGINES)
def test_every_engine_spends_the_same_epochs(engine, name) -> None:
    """An epoch of any trial counts as one, and no trial runs beyond its last or one trial twice."""
    problem = engine.Problem(ReplayTable.read(TABLE), ("memory", "accuracy"), 4, CAP)
    told: Counter[str] = Counter()
    configs: dict[str, str] = {}

    def make(*given: Any) -> Any:
        made = engine.engines()[name](*given)
        ask, tell = made.ask, made.tell

        def asked(trial: str) -> Any:
            if (found := ask(trial)) is not None:
                configs[trial] = str(sorted(found[0].items()))
            return found

        def telling(trial: str, values: dict[str, float], *, last: bool) -> bool:
            told[configs[trial]] += 1
            assert last is (told[configs[trial]] == problem.table.epochs)
            return tell(trial, values, last=last)

        made.ask, made.tell = asked, telling
        return made

    curve = engine.simulate(make, problem, 0)
    assert told.total() == CAP
    assert curve[0] == (0, 0.0)
    assert curve == sorted(curve)
    assert all(0 <= volume <= problem.full and spent <= CAP for spent, volume in curve)


def test_optuna_in_ray_is_told_of_what_was_trained(engine) -> None:
    """Each proposal is replaced by a recorded trial, as it is for the engines of this project."""
    problem = engine.Problem(ReplayTable.read(TABLE), ("memory", "accuracy"), 4, CAP)
    recordings = engine.Recordings(problem)
    made = engine.engines()["ray optuna+fifo"](problem, recordings.space, 0)
    for number in range(4):
        config, _ = made.ask(f"trial {number}")
        trained = recordings.train(config)
        assert trained.config == config
        told = made.searcher._ot_study.trials[number].params
        assert told == {name: trained.params[name] for name in told}


def test_engines_are_compared_at_the_same_epochs(run) -> None:
    names = ENGINES[::2]
    document = run("engine", "--seeds", "2", "--cap", "35", "--workers", "1", "--engines", ";".join(names))
    assert document["checkpoints"] == [20, 35]
    assert list(document["engines"]) == names
    for row in document["engines"].values():
        assert row["seeds"] == 2
        assert 0 <= row["mean"][0] <= row["mean"][1] <= 1
        assert row["mean"][1] > 0  # of four trials at once, none need have run its 8 epochs after 20
        assert all(
            low <= mean <= high for (low, high), mean in zip(row["interval"], row["mean"], strict=True)
        )


def test_above_a_guess_what_has_learnt_nothing_counts_for_nothing(engine) -> None:
    table = ReplayTable.read(TABLE.with_name("pmf_nas_match.parquet"))
    plain, above = (engine.Problem(table, ("memory", "accuracy"), 4, CAP, guess) for guess in (False, True))
    assert table.guess["accuracy"] == 0.5
    half, better = (plain.point({"memory": 0.2, "accuracy": accuracy}) for accuracy in (0.5, 0.75))
    assert above.hypervolume([half]) == 0 < plain.hypervolume([half])
    assert above.hypervolume([better]) == pytest.approx(plain.hypervolume([better]) / 3)
