"""Sizes and durations as people write them."""

from __future__ import annotations

import math
import re

from trainables.errors import UserError
from trainables.units import GIB, MIB

__all__ = ["GIB", "MIB", "format_duration", "format_size", "parse_duration", "parse_size"]

_SIZES = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": MIB, "GIB": GIB}
_TIMES = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


def parse_size(text: str) -> int:
    """Return bytes for texts like ``3GiB``, ``800 MB`` or ``1073741824``.

    Raises:
        UserError: If the text is not a size above 0.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMG]?I?B)?\s*", text.upper())
    value = float(match[1]) * _SIZES[match[2] or ""] if match else 0
    if not 1 <= value < 2**63:
        raise UserError(f"'{text}' is not a size; write e.g. 3GiB, 800MiB or 2.5GB")
    return int(value)


def parse_duration(text: str) -> float:
    """Return seconds for texts like ``90s``, ``30m``, ``2h`` or ``600``.

    Raises:
        UserError: If the text is not a duration above 0.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smhd]?)\s*", text.lower())
    value = float(match[1]) * _TIMES[match[2]] if match else 0
    if not 0 < value < math.inf:
        raise UserError(f"'{text}' is not a duration; write e.g. 90s, 30m or 2h")
    return value


def write_size(size: int) -> str:
    """Return the text that ``parse_size`` reads as the given bytes, without rounding: ``8GiB``, ``1000B``."""
    return _in_largest(size, {"GiB": GIB, "MiB": MIB, "KiB": 2**10, "B": 1})


def write_duration(seconds: float) -> str:
    """Return the text that ``parse_duration`` reads as the given seconds, unrounded: ``15m``, ``0.5s``."""
    return _in_largest(seconds, {"d": 86400, "h": 3600, "m": 60, "s": 1})


def _in_largest(value: float, units: dict[str, int]) -> str:
    for name, unit in units.items():
        if value >= unit and value % unit == 0:
            return f"{value // unit:.0f}{name}"
    return f"{value}{name}"


def format_size(size: float) -> str:
    """Return bytes in MiB or GiB, rounded: ``343 MiB``, ``8.72 GiB``."""
    return f"{size / GIB:.2f} GiB" if size >= GIB else f"{size / MIB:.0f} MiB"


def format_duration(seconds: float) -> str:
    """Return seconds as ``42 s``, ``3 min 05 s`` or ``2 h 10 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
