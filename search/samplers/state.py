"""The state of a sampler as JSON, from which a new sampler continues as the old one would have.

A store is read from a file that somebody else may have written, so it holds numbers and names only. Nothing
in it is run or unpickled.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
from optuna.distributions import BaseDistribution, distribution_to_json, json_to_distribution
from optuna.samplers import BaseSampler, CmaEsSampler
from optuna.samplers._lazy_random_state import LazyRandomState
from optuna.search_space import IntersectionSearchSpace
from optuna.search_space.group_decomposed import _GroupDecomposedSearchSpace

from trainables.errors import UserError


@runtime_checkable
class KeepsState(Protocol):
    """A sampler with state beyond what ``state_of`` finds."""

    def own_state(self) -> Any:
        """Return the further state, which must be valid in JSON."""

    def restore_own(self, state: Any) -> None:
        """Take over what ``own_state`` has returned."""


def state_of(sampler: BaseSampler) -> dict[str, Any]:
    """Return a sampler's state, which is valid in JSON.

    It holds the random generators and the cached search spaces among the sampler's attributes and among those
    of Optuna's samplers inside it. What a sampler has learned is no part of it: it is in the study's trials.

    Raises:
        UserError: If the sampler keeps pickled objects in the study.
    """
    state: dict[str, Any] = {"parts": {path: _read(part) for path, part in _parts(sampler)}}
    if isinstance(sampler, KeepsState):
        state["own"] = sampler.own_state()
    return state


def restore_state(sampler: BaseSampler, state: Mapping[str, Any]) -> None:
    """Give a new sampler the state of another one that was made alike.

    Args:
        sampler: A sampler that has proposed nothing.
        state: What ``state_of`` has returned.

    Raises:
        ValueError: If the state does not fit the sampler.
    """
    parts = dict(_parts(sampler))
    try:
        if parts.keys() != state["parts"].keys():
            raise ValueError(f"it has the parts {', '.join(state['parts'])}, not {', '.join(parts)}")
        for path, part in parts.items():
            _write(part, state["parts"][path])
        if isinstance(sampler, KeepsState):
            sampler.restore_own(state["own"])
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error


def _parts(owner: Any, path: str = "", depth: int = 5) -> Iterator[tuple[str, Any]]:
    """Yield the parts that have a state, with their places: the names of attributes, joined by dots."""
    if isinstance(owner, CmaEsSampler):
        raise UserError(
            "sampler CmaEsSampler: keeps its state as a pickled object, which a search does not store; use "
            "another one"
        )
    for name, value in vars(owner).items():
        if isinstance(value, _KINDS):
            yield path + name, value
        elif depth and type(value).__module__.startswith("optuna.samplers.") and hasattr(value, "__dict__"):
            yield from _parts(value, f"{path}{name}.", depth - 1)


_KINDS = (
    LazyRandomState,
    np.random.RandomState,
    np.random.Generator,
    random.Random,
    IntersectionSearchSpace,
    _GroupDecomposedSearchSpace,
)


def _read(part: Any) -> Any:
    match part:
        case LazyRandomState():
            return _read(part.rng)
        case np.random.RandomState():
            return _plain(part.get_state(legacy=False))
        case np.random.Generator():
            return _plain(part.bit_generator.state)
        case random.Random():
            return part.getstate()
        case IntersectionSearchSpace():
            space = part._search_space
            return {"space": None if space is None else _texts(space), "read": part._cached_trial_number}
        case _:
            return [_texts(space) for space in part._search_space._search_spaces]


def _write(part: Any, state: Any) -> None:
    match part:
        case LazyRandomState():
            _write(part.rng, state)
        case np.random.RandomState():
            part.set_state(_arrays(state))
        case np.random.Generator():
            part.bit_generator.state = _arrays(state)
        case random.Random():
            version, numbers, gauss = state
            part.setstate((version, tuple(numbers), gauss))
        case IntersectionSearchSpace():
            space = state["space"]
            part._search_space = None if space is None else _distributions(space)
            part._cached_trial_number = int(state["read"])
        case _:
            part._search_space._search_spaces = [_distributions(space) for space in state]


def _plain(value: Any) -> Any:
    """Return NumPy's description of a generator with lists instead of arrays."""
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    return {"array": value.tolist(), "type": value.dtype.name} if isinstance(value, np.ndarray) else value


def _arrays(value: Any) -> Any:
    """Return NumPy's description of a generator from one with lists."""
    if not isinstance(value, dict):
        return value
    if value.keys() == {"array", "type"}:
        return np.array(value["array"], dtype=value["type"])
    return {name: _arrays(item) for name, item in value.items()}


def _texts(space: Mapping[str, BaseDistribution]) -> dict[str, str]:
    return {name: distribution_to_json(distribution) for name, distribution in space.items()}


def _distributions(texts: Mapping[str, str]) -> dict[str, BaseDistribution]:
    return {name: json_to_distribution(text) for name, text in texts.items()}
