"""The store of predictions on disk."""

from __future__ import annotations

from pathlib import Path

from trainables.cache.memo import Memo

#: Packages on whose version a prediction depends.
_PACKAGES = ("torch", "transformers", "peft")

#: Folders and files of ``trainables`` on which a prediction depends.
_RELEVANT = ("configuration.py", "elastic.py", "memory", "methods", "step", "supernet", "tasks", "towers")


class PredictionMemo(Memo):
    """Stores predictions, as long as the program and its libraries do not change.

    Args:
        path: The file; None takes ``predictions.sqlite`` in the cache folder.
    """

    def __init__(self, path: Path | None = None) -> None:
        root = Path(__file__).parent.parent
        super().__init__((root / name for name in _RELEVANT), _PACKAGES, path)
