"""A node with other code joins while a search runs, and Ray gives it a trial at once."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import nullcontext
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from search import SearchConfig, run_search
from tests.search.test_resume import _write_table

pytestmark = [pytest.mark.ray, pytest.mark.full]


class _Hearing(StringIO):
    """What is said; something is done once the trials begin."""

    def __init__(self, do: Callable[[], Any]) -> None:
        super().__init__()
        self.do = do
        self.done = False

    def write(self, text: str) -> int:
        if "trials of" in text and not self.done:
            self.done = True
            self.do()
        return super().write(text)


def test_its_trials_go_on_elsewhere(
    start_cluster: Callable[..., Any],
    changed_program: Path,
    tmp_path: Path,
    empty_store: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("search.running.watching", lambda *_: nullcontext())  # the trial is there first
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    table = _write_table(tmp_path / "table.parquet")
    add_node = start_cluster(gpus=1)
    heard = _Hearing(lambda: add_node(PYTHONPATH=str(changed_program)))

    result = run_search(
        SearchConfig(
            space="pmf_nas",
            replay=str(table),
            target="cpu",
            epochs=1,
            num_samples=3,
            replay_seconds=3.0,  # so that the first node is busy
            max_concurrent=2,
            gpus_per_trial=1.0,
        ),
        console=Console(file=heard, width=200),
    )

    said = heard.getvalue()
    assert "gets no more trials: has other code than the node of the search" in said
    assert (result.trials, result.failed) == (3, 0)
    assert "restart" not in said
