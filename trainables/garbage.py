"""Keeps the garbage collector away from the millions of objects of the libraries."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def garbage_kept() -> Iterator[None]:
    """Turn garbage collection off.

    The import of a library is a quarter faster without it: very many objects are made that all stay, and the
    collector would visit them again and again.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
