"""What is reserved after a few steps, worked out by hand."""

from __future__ import annotations

from dataclasses import replace

from trainables.memory.replay import StepAllocations, reserved_by
from trainables.units import MIB

NOTHING = StepAllocations([], [], [], [], 0)


def test_weights_and_batches_stay() -> None:
    # 12 MiB of weights. Each batch is loaded while the last one exists, so it takes 16 MiB twice
    step = replace(NOTHING, weights=[12 * MIB], batch=[16 * MIB])
    assert reserved_by(step) == (12 + 16 + 16) * MIB


def test_the_memory_of_a_step_serves_the_next_one() -> None:
    # Storage 0 is freed before 1 is allocated, and takes its place; 2 is left to the end of the step
    events = [(0, 30 * MIB), (0, -30 * MIB), (1, 24 * MIB), (2, 12 * MIB), (1, -24 * MIB)]
    assert reserved_by(replace(NOTHING, events=events)) == (30 + 12) * MIB


def test_the_optimizer_makes_its_state_in_the_first_step() -> None:
    # In the first step, 40 MiB of activations are freed before the update, and the state of 30 MiB takes
    # their place: 10 MiB are left there. The second step finds no 40 MiB and takes them anew.
    step = replace(NOTHING, optimizer=[30 * MIB], events=[(0, 40 * MIB), (0, -40 * MIB)], update=2)
    assert reserved_by(step) == (40 + 40) * MIB
    # Had the state existed before the step, or had the activations lived on, it would be apart from them
    assert reserved_by(replace(step, update=0)) == (30 + 40) * MIB
    assert reserved_by(replace(step, update=1)) == (30 + 40) * MIB


def test_libraries_allocate_once_and_keep_it() -> None:
    step = replace(NOTHING, events=[(0, 30 * MIB), (0, -30 * MIB)])
    assert reserved_by(step, [8 * MIB]) == (30 + 20) * MIB
    assert reserved_by(step, [8 * MIB, 8 * MIB]) == (30 + 20) * MIB
    assert reserved_by(step, [32 * MIB]) == (30 + 32) * MIB


def test_what_existed_before_the_step_is_not_freed_in_it() -> None:
    step = replace(NOTHING, weights=[20 * MIB], events=[(7, -20 * MIB), (8, 20 * MIB), (8, -20 * MIB)])
    assert reserved_by(step) == 40 * MIB


def test_expandable_segments_hold_what_others_cannot() -> None:
    # Two blocks of 20 MiB are freed, but they are two segments and have no room for one of 40 MiB
    events = [(0, 20 * MIB), (1, 20 * MIB), (0, -20 * MIB), (1, -20 * MIB), (2, 40 * MIB), (2, -40 * MIB)]
    step = replace(NOTHING, events=events)
    assert reserved_by(step) == 80 * MIB
    assert reserved_by(step, expandable_segments=True) == 40 * MIB
