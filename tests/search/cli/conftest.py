"""The command line, run in the tests' own process."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from search import cli
from trainables.errors import UserError


@pytest.fixture
def call(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], workplace: Path
) -> Callable[..., tuple[int, str, str]]:
    """Run the program in this process; returns exit code, standard output and standard error."""

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["search.py", *arguments])
        with pytest.raises(SystemExit) as exit_:
            cli.main()
        out, err = capsys.readouterr()
        return int(exit_.value.code or 0), out, err

    return run


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, workplace: Path) -> Callable[..., Any]:
    """Run the program up to the search; returns what it would have run."""

    def run(*arguments: str) -> Any:
        heard: list[Any] = []

        def stop(*args: Any, **changes: Any) -> None:
            heard.append(changes or args[0])
            raise UserError("that is all")

        for name in ("run_search", "resume_search"):
            monkeypatch.setattr(f"search.api.{name}", stop)
        monkeypatch.setattr(sys, "argv", ["search.py", *arguments])
        with pytest.raises(SystemExit):
            cli.main()
        (found,) = heard
        return found

    return run
