"""The benchmarks, which are scripts and no package."""

from __future__ import annotations

import importlib
import json
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from search import SearchConfig, cli
from tests.conftest import ROOT
from trainables.errors import UserError

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


@pytest.fixture
def asked(monkeypatch, workplace) -> Callable[[str], SearchConfig]:
    """Run a command up to the training or search; returns what it would have run."""
    heard: list[SearchConfig] = []

    def stop(config: SearchConfig) -> None:
        heard.append(config)
        raise UserError("that is all")

    monkeypatch.setattr("search.api.run_search", stop)

    def run(command: str) -> SearchConfig:
        python, program, *words = shlex.split(command, comments=True)
        assert python == "python"
        if program == "search.py":
            monkeypatch.setattr(sys, "argv", [program, *words])
            with pytest.raises(SystemExit):
                cli.main()
        else:
            benchmark = importlib.import_module(program.removeprefix("benchmarks/").removesuffix(".py"))
            monkeypatch.setattr(benchmark, "routed", stop)
            with pytest.raises(UserError, match="that is all"):
                benchmark.app(words, standalone_mode=False)
        return heard.pop()

    return run
