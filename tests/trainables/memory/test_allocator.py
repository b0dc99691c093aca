"""The model of PyTorch's caching allocator: sequences worked out by hand, and what holds for all."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Iterator

import pytest

from trainables.memory.allocator import CachingAllocator
from trainables.units import MIB

KIB = 1024

EITHER = pytest.mark.parametrize("expandable", [False, True])


def run(*sizes: int, expandable: bool = False) -> tuple[CachingAllocator, list[int]]:
    """Return an allocator and the blocks of some sizes in it."""
    allocator = CachingAllocator(expandable_segments=expandable)
    return allocator, [allocator.allocate(size) for size in sizes]


def sizes_of_free(allocator: CachingAllocator) -> list[int]:
    return [size for size, _ in allocator.free_blocks()]


class TestByHand:
    def test_sizes_are_multiples_of_512_bytes(self) -> None:
        allocator, _ = run(1, 512, 513)
        assert allocator.allocated == 512 + 512 + 1024

    @EITHER
    def test_nothing_is_allocated_for_nothing(self, expandable) -> None:
        allocator, (block,) = run(0, expandable=expandable)
        allocator.free(block)
        assert allocator.reserved == allocator.allocated == 0

    def test_small_blocks_share_segments_of_2_mib(self) -> None:
        # Two blocks of 1 MiB fill a segment, so the third one opens another
        assert run(MIB)[0].reserved == 2 * MIB
        assert run(MIB, MIB)[0].reserved == 2 * MIB
        assert run(MIB, MIB, 512)[0].reserved == 4 * MIB

    def test_a_byte_more_than_1_mib_goes_to_the_large_pool(self) -> None:
        allocator, _ = run(MIB + 1)
        assert allocator.allocated == MIB + 512
        assert allocator.reserved == 20 * MIB

    def test_medium_blocks_share_a_segment_of_20_mib(self) -> None:
        # 3 x 6 leave 2 MiB of the 20, which hold no fourth
        assert run(6 * MIB, 6 * MIB, 6 * MIB)[0].reserved == 20 * MIB
        assert run(6 * MIB, 6 * MIB, 6 * MIB, 6 * MIB)[0].reserved == 40 * MIB

    def test_large_blocks_get_segments_of_whole_2_mib(self) -> None:
        assert run(10 * MIB - 512)[0].reserved == 20 * MIB
        assert run(10 * MIB)[0].reserved == 10 * MIB
        assert run(11 * MIB)[0].reserved == 12 * MIB
        # 1 MiB of the 12 was left, which is not more than 1 MiB: the block is not split
        assert run(11 * MIB)[0].allocated == 12 * MIB

    def test_a_large_block_is_split_if_more_than_1_mib_is_left(self) -> None:
        allocator, (block,) = run(20 * MIB)
        allocator.free(block)
        allocator.free(allocator.allocate(19 * MIB))  # 1 MiB left: all 20 are handed out
        assert allocator.allocate(19 * MIB)
        assert (allocator.allocated, sizes_of_free(allocator)) == (20 * MIB, [])
        allocator, (block,) = run(20 * MIB)
        allocator.free(block)
        allocator.allocate(19 * MIB - 512)  # 1 MiB and 512 B are left
        assert (allocator.allocated, sizes_of_free(allocator)) == (19 * MIB - 512, [MIB + 512])

    def test_a_small_block_is_split_if_512_bytes_are_left(self) -> None:
        allocator, _ = run(MIB, MIB - 512)
        assert sizes_of_free(allocator) == [512]

    def test_pools_do_not_share(self) -> None:
        # 2 MiB of the large segment are free, and are of no use to the small block
        allocator, _ = run(18 * MIB, 512)
        assert allocator.reserved == 20 * MIB

        allocator, (large, _) = run(20 * MIB, 512)
        allocator.free(large)
        allocator.allocate(MIB)
        assert allocator.reserved == 22 * MIB

    def test_the_smallest_block_that_fits_is_taken(self) -> None:
        allocator, (forty, thirty, twenty) = run(40 * MIB, 30 * MIB, 20 * MIB)
        for block in (forty, twenty, thirty):
            allocator.free(block)
        assert allocator.allocate(25 * MIB) == thirty
        assert sizes_of_free(allocator) == [5 * MIB, 20 * MIB, 40 * MIB]
        assert allocator.allocate(4 * MIB + 512) == thirty + 25 * MIB  # the 5 MiB that are left, unsplit
        assert allocator.allocate(15 * MIB) == twenty
        assert allocator.reserved == 90 * MIB

    def test_of_equal_blocks_the_lowest_is_taken(self) -> None:
        allocator, blocks = run(12 * MIB, 12 * MIB, 12 * MIB)
        for block in reversed(blocks):
            allocator.free(block)
        assert allocator.allocate(12 * MIB) == min(blocks)

    def test_freed_neighbors_merge(self) -> None:
        # a, b, c of 5 MiB and 5 MiB that are left fill a segment of 20 MiB
        allocator, (a, b, c) = run(5 * MIB, 5 * MIB, 5 * MIB)
        allocator.free(a)
        assert sizes_of_free(allocator) == [5 * MIB, 5 * MIB]
        allocator.free(c)  # with what follows
        assert sizes_of_free(allocator) == [5 * MIB, 10 * MIB]
        allocator.free(b)  # with both sides
        assert sizes_of_free(allocator) == [20 * MIB]
        assert allocator.allocate(20 * MIB) == a
        assert allocator.reserved == 20 * MIB

    def test_segments_do_not_merge(self) -> None:
        allocator, blocks = run(20 * MIB, 20 * MIB)
        for block in blocks:
            allocator.free(block)
        allocator.allocate(40 * MIB)
        assert allocator.reserved == 80 * MIB

    def test_a_hole_that_is_too_small_costs_a_segment(self) -> None:
        # The weights stay between two activations; a larger activation fits into neither hole
        allocator, (first, _, second) = run(6 * MIB, 2 * MIB, 6 * MIB)
        allocator.free(first)
        allocator.free(second)  # and the 6 MiB after it: holes of 6 and 12 MiB
        assert sizes_of_free(allocator) == [6 * MIB, 12 * MIB]
        allocator.allocate(14 * MIB)
        assert allocator.reserved == 34 * MIB


class TestExpandable:
    def test_the_large_segment_grows_by_20_mib(self) -> None:
        assert run(2 * MIB, expandable=True)[0].reserved == 20 * MIB
        assert run(21 * MIB, expandable=True)[0].reserved == 40 * MIB
        # 19 of 40 MiB are left at the end: 30 more need 11, which is one page
        assert run(21 * MIB, 30 * MIB, expandable=True)[0].reserved == 60 * MIB

    def test_the_small_segment_grows_by_2_mib(self) -> None:
        allocator, _ = run(MIB, MIB, 512, expandable=True)
        assert allocator.reserved == 4 * MIB

    def test_blocks_are_always_split(self) -> None:
        allocator, _ = run(19 * MIB, expandable=True)
        assert sizes_of_free(allocator) == [MIB]
        assert allocator.allocated == 19 * MIB

    def test_the_hole_is_taken_before_the_end(self) -> None:
        # Free are a hole of 12 MiB and 5 MiB at the end. The end could grow, so it fits 4 MiB worse
        allocator, (hole, _) = run(12 * MIB, 3 * MIB, expandable=True)
        allocator.free(hole)
        assert sizes_of_free(allocator) == [5 * MIB, 12 * MIB]
        assert allocator.allocate(4 * MIB) == hole
        assert allocator.allocate(9 * MIB) != hole  # 8 are left there, and 5 and a page at the end
        assert allocator.reserved == 40 * MIB

    def test_what_fragments_segments_does_not_fragment_it(self) -> None:
        sizes = [20 * MIB, 20 * MIB]
        for expandable, reserved in ((False, 80 * MIB), (True, 40 * MIB)):
            allocator, blocks = run(*sizes, expandable=expandable)
            for block in blocks:
                allocator.free(block)
            allocator.allocate(40 * MIB)
            assert allocator.reserved == reserved


def events(seed: int, count: int = 400) -> list[tuple[int, int]]:
    """Return random (name, bytes) to allocate, or (name, 0) to free; at the end, everything is free."""
    source = random.Random(seed)
    live: list[int] = []
    found = []
    for name in range(count):
        if live and source.random() < 0.45:
            found.append((live.pop(source.randrange(len(live))), 0))
        size = source.choice([source.randrange(1, 4 * KIB), source.randrange(1, 40 * MIB), 3 * MIB, MIB])
        found.append((name, size))
        live.append(name)
    source.shuffle(live)
    return found + [(name, 0) for name in live]


def replayed(
    allocator: CachingAllocator, sequence: Iterable[tuple[int, int]]
) -> Iterator[tuple[dict[int, int], int]]:
    """Yield the requested sizes of live blocks and the reserved bytes after each event."""
    addresses: dict[int, int] = {}
    sizes: dict[int, int] = {}
    for name, size in sequence:
        if size:
            addresses[name], sizes[name] = allocator.allocate(size), size
        else:
            allocator.free(addresses.pop(name))
            del sizes[name]
        yield sizes, allocator.reserved


@EITHER
@pytest.mark.parametrize("seed", range(8))
class TestEverySequence:
    def test_reserved_covers_what_is_allocated_and_never_decreases(self, expandable, seed) -> None:
        allocator = CachingAllocator(expandable_segments=expandable)
        before = 0
        for sizes, reserved in replayed(allocator, events(seed)):
            assert sum(sizes.values()) <= allocator.allocated <= reserved
            assert allocator.allocated + sum(sizes_of_free(allocator)) == reserved
            assert reserved >= before
            before = reserved

    def test_blocks_do_not_overlap(self, expandable, seed) -> None:
        allocator = CachingAllocator(expandable_segments=expandable)
        addresses: dict[int, tuple[int, int]] = {}
        for name, size in events(seed):
            if size:
                addresses[name] = allocator.allocate(size), size
            else:
                allocator.free(addresses.pop(name)[0])
            spans = sorted(
                [(address, address + size) for address, size in addresses.values()]
                + [(address, address + size) for size, address in allocator.free_blocks()]
            )
            assert all(first[1] <= second[0] for first, second in itertools.pairwise(spans))

    def test_names_do_not_matter(self, expandable, seed) -> None:
        def reserved(sequence: Iterable[tuple[int, int]]) -> list[int]:
            allocator = CachingAllocator(expandable_segments=expandable)
            return [reserved for _, reserved in replayed(allocator, sequence)]

        names = list(range(400))
        random.Random(seed).shuffle(names)
        assert reserved(events(seed)) == reserved((names[name], size) for name, size in events(seed))

    def test_freeing_everything_returns_every_block(self, expandable, seed) -> None:
        allocator = CachingAllocator(expandable_segments=expandable)
        segments = {  # every increase is a segment; an expandable allocator has one for each pool
            reserved for _, reserved in replayed(allocator, events(seed))
        }
        assert allocator.allocated == 0
        assert sum(sizes_of_free(allocator)) == allocator.reserved
        assert len(allocator.free_blocks()) == (2 if expandable else len(segments))

    def test_repeated_it_soon_reserves_no_more(self, expandable, seed) -> None:
        allocator = CachingAllocator(expandable_segments=expandable)
        kept = [allocator.allocate(size) for size in (MIB, 5 * MIB, 30 * MIB)]
        reserved = []
        for _ in range(10):
            *_, (_, last) = replayed(allocator, events(seed))
            reserved.append(last)
        assert len(set(reserved[-7:])) == 1
        for block in kept:
            allocator.free(block)
        assert allocator.allocated == 0
