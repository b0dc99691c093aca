"""Seeds of random draws, derived from the seed that the user gives, and orders that look random."""

from __future__ import annotations

import hashlib
import json

#: The largest seed that a user may give: the largest integer that tables and databases hold.
MAX_SEED = 2**63 - 1


def derive_seed(*parts: int | str) -> int:
    """Return a seed that depends on all parts, and on nothing else.

    Sums and products of seeds leave the range that a generator accepts, and different parts can have the same
    sum. A hash does neither. The seed has 32 bits, as ``short_seed`` explains.

    Args:
        *parts: What the draws are for: the user's seed, and the names and numbers that tell these draws from
            others.

    Example:
        >>> derive_seed(0, "epoch", 3) == derive_seed(0, "epoch", 3)
        True
        >>> derive_seed(1, 23) == derive_seed(12, 3)
        False
    """
    digest = hashlib.sha256(json.dumps(parts).encode()).digest()
    return int.from_bytes(digest[:4], "big")


def short_seed(seed: int) -> int:
    """Return a seed of 32 bits: the given one if it has no more, otherwise a hash of it.

    NumPy's ``RandomState`` accepts no more bits, and PyTorch's generator on a CPU ignores further ones.

    Args:
        seed: A seed >= 0.
    """
    return seed if seed < 2**32 else derive_seed(seed)


def shuffled(n: int, salt: str) -> list[int]:
    """Return the numbers below n in an order that looks random, and is the same with any version of NumPy.

    Args:
        n: How many numbers.
        salt: Tells this order from others of as many numbers.
    """
    return sorted(range(n), key=lambda number: hashlib.sha256(f"{salt}-{number}".encode()).digest())
