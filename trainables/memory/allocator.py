"""A model of the allocator through which PyTorch takes memory on a GPU: how much of it a sequence reserves.

PyTorch keeps the memory that it once took from CUDA and hands it out again. What it takes in the end depends
only on the sizes that are allocated and freed, and on their order. The rules are those of
``c10/cuda/CUDACachingAllocator.cpp`` in PyTorch 2.13 in its default configuration, for one stream, as long as
the device's memory suffices; only when it runs out would memory be given back to CUDA. Comments name the
functions that the rules come from, the constants are from ``c10/core/AllocatorConfig.h``.
"""

from __future__ import annotations

from bisect import bisect_left, insort

from trainables.units import MIB

#: Every block is a multiple of this size (kMinBlockSize).
BLOCK = 512
#: Largest block of the small pool (kSmallSize).
SMALL = MIB
#: Size of a segment of the small pool (kSmallBuffer).
SMALL_SEGMENT = 2 * MIB
#: Size of the segments that are shared by medium blocks, those below ``LARGE`` (large_segment_size).
SHARED_SEGMENT = 20 * MIB
#: Size from which a block gets a segment of its own (kMinLargeAlloc).
LARGE = 10 * MIB
#: Segments of large blocks are a multiple of this size (kRoundLarge).
LARGE_UNIT = 2 * MIB


class CachingAllocator:
    """Allocates and frees blocks of memory as PyTorch does on a GPU.

    Example:
        >>> allocator = CachingAllocator()
        >>> block = allocator.allocate(3_000_000)
        >>> allocator.allocated, allocator.reserved
        (3000320, 20971520)
        >>> allocator.free(block)
        >>> allocator.allocated, allocator.reserved
        (0, 20971520)

    Args:
        expandable_segments: Whether each pool has one segment that grows by pages, as with
            ``PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True``.

    Attributes:
        reserved: Bytes of all segments, which never decrease.
        allocated: Bytes of the blocks in use, each rounded up to the size that it has in its segment.
    """

    def __init__(self, *, expandable_segments: bool = False) -> None:
        self.reserved = 0
        self.allocated = 0
        self._expandable = expandable_segments
        self._small = _Pool(BLOCK, SMALL_SEGMENT, 1 << 40)
        # should_split: what is left of a block is a block of its own if it is this large
        least_rest = BLOCK if expandable_segments else SMALL + BLOCK
        self._large = _Pool(least_rest, SHARED_SEGMENT, 1 << 50)
        self._used: dict[int, tuple[int, _Pool]] = {}  # address -> (size, pool)

    def allocate(self, size: int) -> int:
        """Allocate a block and return its address.

        Args:
            size: Number of bytes. Nothing is allocated for 0 bytes, and the address is 0.
        """
        if not size:
            return 0
        size = -(-size // BLOCK) * BLOCK  # round_size
        pool = self._small if size <= SMALL else self._large  # get_pool
        block = pool.best_fit(size, self._expandable) or self._grow(pool, size)
        found, address = block
        if found - size >= pool.least_rest:  # alloc_found_block: the lower end is used
            pool.insert(found - size, address + size)
            found = size
        self._used[address] = found, pool
        self.allocated += found
        return address

    def free(self, address: int) -> None:
        """Free the block at an address that ``allocate`` returned."""
        if address:
            size, pool = self._used.pop(address)
            self.allocated -= size
            pool.put_back(size, address)

    def free_blocks(self) -> list[tuple[int, int]]:
        """Return the size and the address of every free block, which determine all further addresses."""
        return [*self._small.free, *self._large.free]

    def _grow(self, pool: _Pool, size: int) -> tuple[int, int]:
        """Reserve more memory and return a block of it, at least as large as the size."""
        if self._expandable:
            # try_allocate_expandable_block: pages are appended to the free block at the end, if there is one
            start, end = pool.start_of_free.get(pool.end, pool.end), pool.end
            if start < end:
                pool.remove(end - start, start)
            added = -(-(size - (end - start)) // pool.segment) * pool.segment
            pool.end += added
        else:
            # get_allocation_size
            added = pool.segment if size < LARGE else -(-size // LARGE_UNIT) * LARGE_UNIT
            start = pool.end + BLOCK  # a gap, since blocks of two segments never merge
            pool.end = start + added
        self.reserved += added
        return pool.end - start, start


class _Pool:
    """The free blocks of one pool. Two of them never touch each other: they would be one.

    Args:
        least_rest: Least size of what is left of a block for the block to be split.
        segment: Size of a segment, or the page by which an expandable one grows.
        address: Where the pool's segments begin.

    Attributes:
        free: Size and address of each free block, in ascending order.
        start_of_free: The address of each free block by its end.
        end: The end of the last segment.
    """

    def __init__(self, least_rest: int, segment: int, address: int) -> None:
        self.least_rest = least_rest
        self.segment = segment
        self.end = address
        self.free: list[tuple[int, int]] = []
        self.start_of_free: dict[int, int] = {}
        self._size_of_free: dict[int, int] = {}

    def best_fit(self, size: int, expandable: bool) -> tuple[int, int] | None:
        """Remove and return the smallest free block of at least a size, at the lowest address."""
        index = bisect_left(self.free, (size, 0))  # get_free_block
        if index == len(self.free):
            return None
        found, address = self.free[index]
        if expandable and address + found == self.end and index + 1 < len(self.free):
            # The last block counts with all that it may grow to, so the next larger one fits better
            found, address = self.free[index + 1]
        self.remove(found, address)
        return found, address

    def put_back(self, size: int, address: int) -> None:
        """Add a block that was in use, and merge it with its free neighbors."""
        end = address + size  # free_block, try_merge_blocks
        before = self.start_of_free.get(address)
        if before is not None:
            self.remove(address - before, before)
            address = before
        after = self._size_of_free.get(end)
        if after is not None:
            self.remove(after, end)
            end += after
        self.insert(end - address, address)

    def insert(self, size: int, address: int) -> None:
        """Add a free block that touches no other."""
        insort(self.free, (size, address))
        self._size_of_free[address] = size
        self.start_of_free[address + size] = address

    def remove(self, size: int, address: int) -> None:
        """Remove a free block."""
        del self.free[bisect_left(self.free, (size, address))]
        del self._size_of_free[address]
        del self.start_of_free[address + size]
