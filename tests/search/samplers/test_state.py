"""The state of samplers as JSON: complete, and never run."""

from __future__ import annotations

import json
import pickle
import random
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.samplers import BaseSampler, CmaEsSampler, TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial

from search.records.store import FILE
from search.samplers import make_sampler, restore_state, state_of
from search.samplers.common import DefineByRun
from search.testing.searching import finish, make_searcher
from trainables.errors import UserError


class OfAUser(DefineByRun):
    """A sampler as a plugin may register it: generators of every kind, Optuna's samplers, a counter."""

    def __init__(self, seed: int | None, inner: BaseSampler | None = None) -> None:
        self._inner = inner or TPESampler(seed=seed)
        self._legacy = np.random.RandomState(seed)
        kinds = (np.random.PCG64, np.random.MT19937, np.random.Philox, np.random.SFC64)
        self._pcg, self._twister, self._philox, self._sfc = (
            np.random.Generator(kind(seed)) for kind in kinds
        )
        self._plain = random.Random(seed)
        self._count = 0

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: Any
    ) -> float:
        drawn = [generator.random() for generator in (self._pcg, self._twister, self._philox, self._sfc)]
        drawn += [self._legacy.normal(), self._plain.gauss(0, 1)]
        drawn.append(self._inner.sample_independent(study, trial, param_name, param_distribution))
        self._count += 1
        return (sum(drawn) + 0.1 * self._count) % 1

    def own_state(self) -> int:
        return self._count

    def restore_own(self, state: int) -> None:
        self._count = state


def _drawn(sampler: Any, count: int) -> list[float]:
    study = optuna.create_study(sampler=sampler)
    return [study.ask({"x": FloatDistribution(0, 1)}).params["x"] for _ in range(count)]


@pytest.mark.parametrize("seed", [3, None])
def test_a_sampler_of_a_user_goes_on_from_json(seed) -> None:
    first, second = OfAUser(seed), OfAUser(None)
    _drawn(first, 5)
    restore_state(second, json.loads(json.dumps(state_of(first))))
    assert _drawn(second, 5) == _drawn(first, 5)


def test_a_pickled_state_is_refused_before_a_search_begins() -> None:
    with pytest.raises(UserError, match="CmaEsSampler: keeps its state as a pickled object"):
        state_of(OfAUser(0, CmaEsSampler()))


#: A word of a generator that is larger than its type.
TOO_LARGE = {"array": [2**40] * 624, "type": "uint32"}


@pytest.mark.parametrize(
    "state",
    [
        {},
        [],
        None,
        "text",
        {"parts": {}},
        {"parts": {"_rng": {}}},
        {"parts": state_of(TPESampler(seed=0))["parts"]},
        {"parts": {"_rng": {"bit_generator": "MT19937", "state": {"key": [1], "pos": 0}}}},
        {"parts": {"_rng": {"bit_generator": "MT19937", "state": {"key": TOO_LARGE, "pos": 0}}}},
    ],
    ids=str,
)
def test_a_state_that_does_not_fit_is_refused(state) -> None:
    with pytest.raises(ValueError, match="Error"):
        restore_state(make_sampler("random", 10, 0), state)


class _Marks:
    """An object that writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("sampler", ["ehvi", "gp", "tpe"])
def test_nothing_in_a_store_is_run(tmp_path, sampler) -> None:
    place, marker = tmp_path / "search", tmp_path / "was run"
    settings: dict[str, Any] = {"sampler": sampler, "epochs": 1}
    searcher = make_searcher(folder=place, **settings)
    searcher.suggest("a")
    finish(searcher, "a", 0.5)
    good = searcher.store.fact("sampler")
    searcher.store.close()
    pickled = pickle.dumps(_Marks(marker))
    pickle.loads(pickled)
    assert marker.exists()
    marker.unlink()
    for bad in (pickled, pickled.hex(), {**good, "state": pickled.hex()}, {**good, "planned": "4"}):
        copy = shutil.copytree(place, tmp_path / str(len(list(tmp_path.iterdir()))))
        value = bad if isinstance(bad, bytes) else json.dumps(bad)
        with closing(sqlite3.connect(copy / FILE)) as connection, connection:
            connection.execute("UPDATE facts SET value = ? WHERE name = 'sampler'", (value,))
        with pytest.raises(UserError, match=f"{FILE}: (is damaged|the sampler cannot continue)"):
            make_searcher(folder=copy, **settings)
    assert not marker.exists()
