"""The memory that a GPU's allocator reserves for training, found by replaying the allocations of one step."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from trainables.memory.allocator import CachingAllocator

#: Number of steps to replay. The first one differs, because it makes the optimizer's state among the
#: activations; the allocator reserves hardly anything after the second.
STEPS = 3


@dataclass(frozen=True)
class StepAllocations:
    """What one optimization step allocates, and what exists before it, in bytes and in order.

    Attributes:
        weights: Size of each parameter and buffer.
        optimizer: Size of each tensor of the optimizer's state.
        batch: Size of each tensor of the batch.
        events: Storages of the step by number, with their size where they are allocated and with the negative
            size where they are freed. Storages that are not freed exist until the step ends.
        update: Number of events before the optimizer updates the weights.
    """

    weights: Sequence[int]
    optimizer: Sequence[int]
    batch: Sequence[int]
    events: Sequence[tuple[int, int]]
    update: int


def reserved_by(
    step: StepAllocations, libraries: Iterable[int] = (), *, expandable_segments: bool = False
) -> int:
    """Return the bytes that the allocator holds after a few equal steps.

    A loop over batches is replayed: the weights come first, the optimizer makes its state in the first step,
    and every batch is loaded while the one before it still exists.

    Args:
        step: The allocations of one step.
        libraries: Sizes of what libraries allocate once, with the first matrix product, and keep.
        expandable_segments: See ``CachingAllocator``.
    """
    allocator = CachingAllocator(expandable_segments=expandable_segments)

    def allocate(sizes: Iterable[int]) -> list[int]:
        return [allocator.allocate(size) for size in sizes]

    def free(addresses: Iterable[int]) -> None:
        for address in addresses:
            allocator.free(address)

    addresses: dict[int, int] = {}

    def run(events: Iterable[tuple[int, int]]) -> None:
        for storage, size in events:
            if size > 0:
                addresses[storage] = allocator.allocate(size)
            elif storage in addresses:  # not one from before the step
                allocator.free(addresses.pop(storage))

    def end_step() -> None:
        free(addresses.values())
        addresses.clear()

    allocate(step.weights)
    batch = allocate(step.batch)
    allocate(libraries)
    run(step.events[: step.update])
    allocate(step.optimizer)
    run(step.events[step.update :])
    end_step()
    for _ in range(STEPS - 1):
        before, batch = batch, allocate(step.batch)
        free(before)
        run(step.events)
        end_step()
    return allocator.reserved
