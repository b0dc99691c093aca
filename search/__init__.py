"""How a space is explored: ``from search import SearchConfig, run_search``.

Names are imported on first use, so that ``predict`` and ``--help`` do not wait for Ray and MLflow.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from trainables.garbage import garbage_kept

if TYPE_CHECKING:
    from search.api import resume_search, run_search, train
    from search.config import SearchConfig
    from search.result import SearchResult

__all__ = ["SearchConfig", "SearchResult", "resume_search", "run_search", "train"]

_HOME = {
    "SearchConfig": "search.config",
    "SearchResult": "search.result",
    "resume_search": "search.api",
    "run_search": "search.api",
    "train": "search.api",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'search' has no attribute '{name}'")
    with garbage_kept():
        return getattr(import_module(_HOME[name]), name)
