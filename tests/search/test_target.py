"""The target decides what memory is, from the settings to the gate, the placement and the store."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
import torch
from rich.console import Console

from search import SearchConfig, run_search
from search.config import TargetSettings
from search.engine.gate import Gate
from search.execution.cluster import require_room
from search.goals.constraints import parse_constraints
from search.nodes import Node
from search.placement import place
from search.records.store import SearchStore
from search.setup import Setup, look_up, set_up
from search.target import completed, in_words
from trainables.errors import UserError
from trainables.memory.calibration import Calibration, save_calibration
from trainables.step.setting import TrainingSetting
from trainables.units import GIB, MIB

CPU = Node(cpus=2, memory=8 * GIB)
OLD, NEW = (
    Node(8, gpus=1, accelerator=name, gpu_memory=size * GIB, capability=capability)
    for name, size, capability in (("A10G", 24, 8.6), ("H100", 80, 9.0))
)


def calibrate(device: str, context: int, worst: float = 0.02) -> None:
    save_calibration(Calibration(device, torch.__version__, 8.6, context, 0.01, worst, 9))


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        ([CPU], (8.0, 500 * MIB)),
        ([CPU, NEW], (9.0, 555 * MIB)),
        ([NEW, OLD], (8.6, 555 * MIB)),
        ([OLD, replace(NEW, capability=None, accelerator="")], (8.6, 444 * MIB)),
    ],
)
def test_what_is_not_given_is_as_the_gpus_are_that_are_there(workplace, nodes, expected) -> None:
    calibrate("NVIDIA H100 80GB HBM3", 555 * MIB)
    calibrate("NVIDIA A10G", 444 * MIB)
    found = completed(TargetSettings(), nodes)
    assert (found.compute_capability, found.context_size) == expected
    given = TargetSettings(compute_capability=7.5, context_size=0)
    assert completed(given, nodes) == given


def test_it_is_said_in_a_line() -> None:
    on_gpu = TrainingSetting(compute_capability=8.6, context_bytes=300 * MIB)
    assert in_words(on_gpu) == (
        "memory is for a GPU of compute capability 8.6: what its allocator reserves, and 300 MiB of context"
    )
    assert in_words(TrainingSetting(target="cpu")).startswith("memory is for a CPU: ")


@pytest.fixture
def config(workplace, tiny_encoders, squares) -> SearchConfig:
    return SearchConfig(
        space="pmf_nas",
        dataset=str(squares),
        text_encoder=str(tiny_encoders["bert"]),
        image_encoder=str(tiny_encoders["vit"]),
        image_size=32,
        batch_size=8,
        name="mine",
        storage_path=str(workplace / "runs"),
    )


def ready(config: SearchConfig, *nodes: Node) -> Setup:
    """Return the setup of a search on machines."""
    found = look_up(config).in_precision("fp32")
    return set_up(found.on_target(completed(config.target, nodes)), Console(quiet=True))


def values_of(setup: Setup, config: dict[str, Any]) -> float:
    """Return the memory objective of a configuration, in bytes."""
    (memory,) = [objective for objective in setup.history.objectives if objective.name == "memory"]
    assert memory.value is not None
    return memory.value(setup.predictor.predict_configuration(config)) * GIB


def test_memory_and_the_reference_of_the_front_are_for_the_target(config) -> None:
    on_cpu, on_gpu = ready(config.replace(target="cpu"), CPU), ready(config, CPU)
    member = on_cpu.space.largest(on_cpu.context)[0]
    report = on_gpu.predictor.predict_configuration(member)
    assert values_of(on_gpu, member) == report.reserved + 500 * MIB
    assert values_of(on_cpu, member) == on_cpu.predictor.predict_configuration(member).total < 30 * MIB
    assert on_cpu.history.reference["memory"] < 0.1 < 0.5 < on_gpu.history.reference["memory"]


def test_the_gate_refuses_by_it_and_places_by_what_runs_here(config) -> None:
    setup = ready(config, CPU)
    member = setup.space.largest(setup.context)[0]
    expected = setup.predictor.predict_as_run(member, cached=False, target="cpu")
    assert (expected.target, expected.memory) == ("cpu", expected.total)

    def gate(node: Node, budget: int, here: Setup = setup) -> Gate:
        constraints = parse_constraints([f"memory<={budget}B"])
        return Gate.of(constraints, place([node], 4), here.predictor, cached=False)

    memory = setup.predictor.predict_configuration(member).memory
    assert memory > 500 * MIB
    assert not gate(CPU, memory - 1).assess(member, setup.predictor).feasible
    small = replace(CPU, memory=1200 * MIB)  # for a Python process, and tensors without a context
    found = gate(small, memory).assess(member, setup.predictor)
    assert found.feasible
    assert found.expected == expected

    calibrate("A10G", 600 * MIB, worst=0.5)
    there = ready(config, OLD)
    on_gpu = gate(OLD, GIB, there)
    assert on_gpu.expected(member, there.predictor).memory > 600 * MIB
    assert on_gpu.needed(member, there.predictor) == pytest.approx(
        1.5 * on_gpu.expected(member, there.predictor).memory, abs=1
    )


def test_a_device_without_room_for_the_context_is_refused(config) -> None:
    setup = ready(config, OLD)
    require_room(setup, place([replace(OLD, gpu_memory=900 * MIB)], 4))
    with pytest.raises(UserError, match=r"its smallest configuration needs 8.. MiB of a device"):
        require_room(setup, place([replace(OLD, gpu_memory=800 * MIB)], 4))


def test_what_was_decided_is_in_the_settings_and_stays(config) -> None:
    calibrate("A10G", 444 * MIB)
    decided = ready(config, OLD).config
    assert (decided.target.compute_capability, decided.target.context_size) == (8.6, 444 * MIB)
    again = SearchConfig.from_json(decided.to_json())
    assert ready(again, NEW).setting == ready(config, OLD).setting
    for changes, option in (
        ({"target": "cpu"}, "--target cpu: search 'mine' was started with cuda"),
        ({"context_size": GIB}, "--context .*: search 'mine' was started with"),
        ({"compute_capability": 9.0}, "--compute-capability 9.0: search 'mine' was started with 8.6"),
    ):
        with pytest.raises(UserError, match=option):
            again.resumed(**changes)


def test_settings_without_a_target_are_for_a_cpu(config) -> None:
    document = json.loads(config.to_json())
    del document["target"]
    assert SearchConfig.from_json(json.dumps(document)).step.target == "cpu"


@pytest.mark.parametrize("known", [True, False])
def test_no_search_starts_from_one_for_another_target(config, workplace, known) -> None:
    document = json.loads(config.replace(name="old", target="cpu").to_json())
    if not known:
        del document["target"]
    SearchStore.create(workplace / "runs" / "old", {"config": json.dumps(document), "facts": {}}).close()
    with pytest.raises(UserError) as refused:
        run_search(config.replace(warm_start="old"))
    assert str(refused.value) == (
        "--warm-start old: memory is for target 'cpu' there and for 'cuda' here; add --target cpu"
    )
    assert not (workplace / "runs" / "mine").exists()
