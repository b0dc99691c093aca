"""The precision that the devices of a search's trials decide."""

from __future__ import annotations

import pytest

from search.nodes import Node
from search.precision import TrialDevices

HEAD = Node(4, node_id="head", name="head")
OLD, NEW, UNKNOWN = (
    Node(8, gpus=1, capability=capability, node_id=name, name=name)
    for name, capability in (("old", 7.5), ("new", 8.6), ("unknown", None))
)


@pytest.mark.parametrize(
    ("nodes", "to_come", "precision", "reason"),
    [
        ([NEW], None, "bf16-frozen", "8.6 or higher"),
        ([NEW, OLD], None, "fp32", "7.5 or higher, and bfloat16 needs 8.0"),
        ([NEW], 7.0, "fp32", "7.0 or higher"),
        ([NEW, UNKNOWN], 9.0, "fp32", "not known; --compute-capability states it"),
        ([], 8.0, "bf16-frozen", "8.0 or higher"),
        ([], None, "fp32", "no GPU is up yet; --compute-capability states it"),
    ],
)
def test_the_least_capable_gpu_decides_and_never_the_head(
    nodes: list[Node], to_come: float | None, precision: str, reason: str
) -> None:
    for head_in_bf16 in (False, True):
        devices = TrialDevices([HEAD, *nodes], True, to_come, {"head": head_in_bf16})
        assert devices.auto()[0] == precision
        assert reason in devices.auto()[1]


@pytest.mark.parametrize(
    ("in_bf16", "precision", "reason"),
    [
        ({"head": True}, "bf16-frozen", "this machine's CPU computes in bfloat16"),
        ({"head": False}, "fp32", "this machine's CPU has neither AVX512-BF16 nor AMX to compute"),
        ({}, "fp32", "this machine's CPU has neither"),
    ],
)
def test_the_cpu_decides_where_trials_run_on_cores(
    in_bf16: dict[str, bool], precision: str, reason: str
) -> None:
    found = TrialDevices([HEAD], False, None, in_bf16).auto()
    assert (found[0], reason in found[1]) == (precision, True)


@pytest.mark.parametrize("precision", ["bf16", "bf16-frozen"])
def test_machines_that_would_emulate_are_kept_out_if_others_are_there(precision: str) -> None:
    decision = TrialDevices([HEAD, NEW, OLD, UNKNOWN], True, None, {}).decide(precision)
    assert (decision.nodes, decision.excluded) == ([HEAD, NEW, UNKNOWN], [OLD])
    assert decision.lines == ("bfloat16 is not native on old, which gets no trials",)
    second = Node(4, node_id="second", name="second")
    decision = TrialDevices([HEAD, second], False, None, {"head": False, "second": True}).decide(precision)
    assert (decision.nodes, decision.excluded) == ([second], [HEAD])

    decision = TrialDevices([HEAD, OLD], True, None, {}).decide(precision)
    assert (decision.nodes, decision.excluded) == ([HEAD, OLD], ())
    assert decision.lines == (f"bfloat16 is not native on old, so that {precision} is slow",)


def test_what_devices_decide_is_said_with_the_reason() -> None:
    decision = TrialDevices([HEAD], False, None, {"head": True}).decide("auto")
    assert decision.precision == "bf16-frozen"
    assert decision.lines == ("precision bf16-frozen: this machine's CPU computes in bfloat16",)
    mixed = TrialDevices([HEAD, OLD, NEW], True, None, {}).decide("auto")
    assert (mixed.precision, mixed.nodes, mixed.excluded) == ("fp32", [HEAD, OLD, NEW], ())
