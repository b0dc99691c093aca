"""What tests of trials share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from trainables.testing.models import Saved
from trainables.trial.assignment import Assignment

__all__ = ["DAMAGE", "PMF", "Saved"]

PMF = Assignment(config={"method": "pmf", "n_fusion_layers": 2, "learning_rate": 5e-3})


def _zeroed(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def _flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


#: What a power loss or a bad disk does to a file.
DAMAGE: dict[str, Callable[[Path], object]] = {
    "cut": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "emptied": lambda path: path.write_bytes(b""),
    "zeroed": _zeroed,
    "flipped": _flipped,
    "missing": Path.unlink,
}
