"""Models of the front as they are told to MLflow, without threads and clients."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from search.reporting.news import Snapshot
from search.units import GIB
from trainables.model.description import CONFIG, WEIGHTS

#: Most bytes of a model that are copied to MLflow.
LARGEST = 2 * GIB


@dataclass(frozen=True)
class FrontModel:
    """The model of a member of the front, or of a probe.

    Attributes:
        snapshot: The trial at the end of the search.
        folder: The model's folder, which is an MLflow model, too.
    """

    snapshot: Snapshot
    folder: Path

    @property
    def trial_id(self) -> str:
        """The trial's name."""
        return self.snapshot.trial_id

    @property
    def name(self) -> str:
        """The model's name in MLflow, which takes not every character."""
        return re.sub(r"[/:.%\"']", "-", self.trial_id)

    @property
    def params(self) -> dict[str, Any]:
        """The model's parameters, which are those of the trial's run."""
        return self.snapshot.params

    @property
    def size(self) -> int:
        """Bytes of the files in the folder."""
        return sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file())

    def metrics(self) -> dict[str, float]:
        """Return what is known of the trained model: what its last epoch reached, and the test split."""
        last: Mapping[str, float] = self.snapshot.epochs[-1] if self.snapshot.epochs else {}
        reached = {name: value for name, value in last.items() if name not in ("time", "epoch")}
        return {**self.snapshot.predicted, **reached, **self.snapshot.known, **self.snapshot.test}

    def weights(self) -> str:
        """Return a hash of the weights: with others it is another model."""
        return _hash(self.folder / WEIGHTS)

    def described(self) -> str:
        """Return a hash of the description, in which figures may have changed."""
        return _hash(self.folder / CONFIG)


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]
