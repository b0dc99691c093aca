"""What a trial needs on its device: in its steps, and on a CPU while its head starts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from search import SearchConfig
from search.engine.gate import Gate, HeadStart
from search.engine.searcher import ParetoSearcher
from search.execution.cluster import require_room
from search.nodes import Node
from search.oneshot.ordering import order_supernet
from search.oneshot.strategy import OneShot
from search.placement import Placement, place
from search.records.store import SearchStore
from search.samplers.common import DEVICE_MEMORY
from search.setup import Setup, look_up, set_up
from tests.pairs import encoders_of_pairs, write_pairs
from trainables.errors import UserError
from trainables.probe.memory import ridge_memory, solver_memory
from trainables.units import GIB

#: Rows whose features take some GiB, so that the steps' memory is little beside it.
MANY = {"train": 4_000_000, "validation": 500_000}
CPU = Node(cpus=2, memory=16 * GIB)
GPU = Node(cpus=2, gpus=1, gpu_memory=16 * GIB)


@pytest.fixture
def settings(workplace, tiny_encoders, squares) -> dict[str, Any]:
    return {
        "space": "pmf_nas",
        "dataset": str(squares),
        "text_encoder": str(tiny_encoders["bert"]),
        "image_encoder": str(tiny_encoders["vit"]),
        "image_size": 32,
        "batch_size": 8,
        "target": "cpu",
        "storage_path": str(workplace / "runs"),
    }


@pytest.fixture
def gate_of(tmp_path) -> Callable[..., Gate]:
    """Returns the gate of a search's trials."""

    def gate_of(setup: Setup, placement: Placement) -> Gate:
        store = SearchStore.create(tmp_path / f"search-{len(list(tmp_path.iterdir()))}", {})
        try:
            return ParetoSearcher(setup, placement, store).gate
        finally:
            store.close()

    return gate_of


def ready(settings: dict[str, Any], rows: dict[str, int]) -> Setup:
    """Return the setup of a search over a dataset of so many rows."""
    setup = set_up(look_up(SearchConfig(**settings)).in_precision("fp32"), Console(quiet=True))
    return replace(setup, details={**setup.details, **{f"dataset.{s}": count for s, count in rows.items()}})


def first_of(setup: Setup) -> dict[str, Any]:
    return setup.space.at(setup.space.first_points(setup.context)[0], setup.context).config


def test_a_head_that_starts_from_the_probe_needs_the_features_of_all_rows(settings, gate_of) -> None:
    setup, placement = ready(settings, MANY), place([CPU], 4)
    gate, first = gate_of(setup, placement), first_of(setup)
    expected = gate.expected(first, setup.predictor)
    solver = sum(solver_memory(*MANY.values(), expected.head_features, setup.backend.task))
    assert solver > 2 * GIB > expected.memory
    assert gate.needed(first, setup.predictor) == placement.needed(expected.weights + solver)
    steps = placement.needed(max(expected.memory, gate.filling))
    assert gate.needed({**first, "head_start": "random"}, setup.predictor) == steps
    few = ready(settings, {"train": 40, "validation": 10})
    assert gate_of(few, placement).needed(first, setup.predictor) == steps
    random = ready({**settings, "head_start": "random"}, MANY)
    assert gate_of(random, placement).needed(first, setup.predictor) == steps
    small = place([Node(cpus=2, memory=2 * GIB)], 4)
    for of, fits in ((setup, False), (random, True)):
        assessed = gate_of(of, small).assess(first, of.predictor)
        assert (assessed.violations[DEVICE_MEMORY] <= 0) is assessed.feasible is fits


def test_on_a_gpu_no_memory_of_the_device_is_needed_for_it(settings, gate_of) -> None:
    setup, placement = ready(settings, MANY), place([GPU], 4)
    gate, first = gate_of(setup, placement), first_of(setup)
    steps = max(gate.expected(first, setup.predictor).memory, gate.filling)
    assert gate.needed(first, setup.predictor) == placement.needed(steps)


def test_of_a_query_the_features_are_there_as_well(workplace, gate_of) -> None:
    encoders = tuple(f"{modality}={name}" for modality, name in encoders_of_pairs().items())
    settings = {"space": "linear", "dataset": str(write_pairs(workplace / "pairs")), "encoder": encoders}
    settings |= {"task": "retrieval", "query": "slant", "embedding_size": 16, "target": "cpu"}
    setup, placement = ready(settings, MANY), place([CPU], 4)
    gate, first = gate_of(setup, placement), first_of(setup)
    expected = gate.expected(first, setup.predictor)
    assert expected.head_features > expected.query_features > 0
    solver = sum(ridge_memory(*MANY.values(), expected.head_features, expected.query_features))
    assert gate.needed(first, setup.predictor) == placement.needed(expected.weights + solver)


def test_trials_that_inherit_their_weights_start_no_head_but_their_supernet_does(settings, gate_of) -> None:
    oneshot = {**settings, "strategy": "oneshot", "name": "one"}
    setup, placement = ready(oneshot, MANY), place([CPU], 4)
    first, steps = first_of(setup), 2 * GIB
    gate = gate_of(setup, placement)
    assert gate.needed(first, setup.predictor) < steps
    scratch = ready({**oneshot, "from_scratch": True}, MANY)
    assert gate_of(scratch, placement).needed(first, setup.predictor) > steps
    unused: Any = None
    prepared: Any = setup.backend.prepare(setup.space, Console(quiet=True))
    for of, needs in ((setup, False), (scratch, True)):
        search = OneShot(of, prepared, placement, unused, unused, Console(quiet=True))
        assert (search.gate.needed(first, of.predictor) > steps) is needs
    message = (
        r"^--head-start probe: the supernet of space 'pmf_nas' needs .* to start its head, and a device has"
    )
    with pytest.raises(UserError, match=message):
        order_supernet(setup, prepared, place([Node(cpus=2, memory=2 * GIB)], 4), gate, print)


def test_a_search_whose_heads_cannot_start_is_refused(settings) -> None:
    small = place([Node(cpus=2, memory=2 * GIB)], 4)
    message = (
        r"^--head-start probe: the smallest configuration of space 'pmf_nas' needs .* to start its head, and "
        r"a trial can have 2\.00 GiB here; use --head-start random$"
    )
    with pytest.raises(UserError, match=message):
        require_room(ready(settings, MANY), small)
    require_room(ready({**settings, "head_start": "random"}, MANY), small)


def test_without_data_no_head_starts(settings) -> None:
    setup = ready(settings, MANY)
    assert HeadStart.of(replace(setup, details={})) is None
