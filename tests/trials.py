"""What tests of trials share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from trainables.trial.assignment import Assignment

PMF = Assignment(config={"method": "pmf", "n_fusion_layers": 2, "learning_rate": 5e-3})


@dataclass(frozen=True)
class Saved:
    """A checkpoint in a local folder."""

    folder: Path

    @contextmanager
    def as_directory(self) -> Iterator[str]:
        yield str(self.folder)
