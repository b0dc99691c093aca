"""The benchmarks, which are scripts and no package."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT

BENCHMARKS = ROOT / "benchmarks"


@pytest.fixture(scope="session", autouse=True)
def _importable() -> Iterator[None]:
    """Let the modules of benchmarks/ be imported, here and by the processes that they start."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Run a benchmark with options in this process; return the document that it wrote."""

    def run(name: str, *options: str, out: str = "--out") -> dict[str, Any]:
        path = tmp_path / f"{name}.json"
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *options, out, str(path)])
        monkeypatch.chdir(ROOT)  # where the tables of recorded trials are
        importlib.import_module(name).main()
        return json.loads(path.read_text())

    return run
