"""The command that asks nodes without running a search."""

from __future__ import annotations

import json
import sys

import pytest

from search import cli
from search.config import SearchConfig
from tests.search.execution.readiness.nodes import facts

FOUND = [facts(1), facts(2, torch="2.13.0+cu130")]


@pytest.fixture
def asked(monkeypatch) -> list[SearchConfig]:
    """The settings of the searches whose nodes were asked."""
    asked: list[SearchConfig] = []

    def check_nodes(config: SearchConfig) -> object:
        asked.append(config)
        return FOUND

    monkeypatch.setattr("search.api.check_nodes", check_nodes)
    return asked


def _run(monkeypatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["search.py", "check", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(str(ended.value.code))


def test_nodes_are_shown_with_their_versions(asked, monkeypatch, capsys) -> None:
    assert _run(monkeypatch, "--space", "pmf", "--dataset", "digits") == 0
    output = capsys.readouterr().out
    assert "worker2" in output
    assert "2.13.0+cu130" in output
    assert [config.data.dataset for config in asked] == ["digits"]

    assert _run(monkeypatch, "--space", "pmf", "--json") == 0
    assert [row["hostname"] for row in json.loads(capsys.readouterr().out)] == ["worker1", "worker2"]


def test_the_options_are_checked_as_those_of_a_search(asked, monkeypatch, capsys) -> None:
    assert _run(monkeypatch) == 2
    assert "--space is missing" in capsys.readouterr().err
    assert _run(monkeypatch, "--space", "pmf", "--epochs", "0") == 2
    assert "--epochs" in capsys.readouterr().err
    assert not asked
