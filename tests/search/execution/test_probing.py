"""Probes are run once, kept, and missed without harm."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from search.engine.searcher import ParetoSearcher
from search.execution import probing
from search.execution.probing import probe
from search.nodes import Node
from search.records.opening import kept_outputs
from search.testing.searching import make_searcher
from trainables.memory import MemoryReport
from trainables.probe import Probe, Probes

METRICS = {"validation": {"accuracy": 0.75, "macro_f1": 0.7, "loss": 0.5}, "test": {"accuracy": 0.5}}


def fitted(**poolings: str) -> Probe:
    outputs = {split: torch.tensor([[1.0, 0.0], [0.0, 1.0]]) for split in METRICS}
    return Probe(dict(poolings), 0.1, METRICS, outputs, {}, {})


@dataclass
class FakeProbing:
    """Answers at once, with what it is given."""

    answer: Any
    ran: list[int] = field(default_factory=list)

    @property
    def memory(self) -> dict[tuple[str, ...], MemoryReport]:
        sizes = {("text", "image"): 3 * 2**20, ("text",): 2**20, ("image",): 2 * 2**20}
        return {names: MemoryReport(size, size, 0, 0, 0, 0, 100, 400) for names, size in sizes.items()}

    @property
    def expected(self) -> int:
        return max(report.memory for report in self.memory.values())

    def run(self, threads: int, tick: Any) -> Any:
        self.ran.append(threads)
        return self.answer


PROBES = Probes(
    fitted(text="cls", image="cls"),
    {"text": fitted(text="cls"), "image": fitted(image="cls")},
    fitted(text="mean", image="cls+mean"),
)


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run what is to be run in this process."""

    def run(jobs: Any, *_: Any, **__: Any) -> Any:
        yield from ((index, function(lambda: None)) for index, (function, _) in enumerate(jobs))

    monkeypatch.setattr(probing, "run_watched", run)


def begin(searcher: ParetoSearcher, answer: Any, **changes: Any) -> tuple[FakeProbing, str]:
    """Probe; return what was asked, and what was said."""
    heard, fake = io.StringIO(), FakeProbing(answer)
    prepared: Any = SimpleNamespace(probing=lambda target: fake, modeler=None)
    probe(searcher.setup, prepared, searcher.placement, searcher.store, Console(file=heard, width=200))
    return fake, heard.getvalue()


def test_the_probes_are_in_the_history_and_their_outputs_are_kept(tmp_path: Path) -> None:
    searcher = make_searcher(folder=tmp_path / "search")
    fake, said = begin(searcher, PROBES)
    assert fake.ran == [searcher.placement.of(0).threads]
    assert said.startswith("probe, a linear model on the frozen features: memory 3MiB, accuracy 75% (")
    history = searcher.history
    assert list(history.probes) == ["probe", "probe:text", "probe:image"]
    assert [record.trial_id for record in history.front()] == ["probe:text"]
    assert history.probes["probe"].test == {"accuracy": 0.5}
    outputs = kept_outputs(searcher.store, searcher.config.place)
    for name in history.probes:
        for split in METRICS:
            assert np.array_equal(outputs.read(name, split), [[1, 0], [0, 1]])
    assert history.best_probe.config["pooling.image"] == "cls+mean"

    searcher.store.close()
    again = make_searcher(folder=tmp_path / "search")
    fake, said = begin(again, PROBES)
    assert (fake.ran, said) == ([], "")
    assert again.history.probes == history.probes


def test_without_them_the_search_goes_on_and_a_line_says_so() -> None:
    searcher = make_searcher()
    _, said = begin(searcher, "hung at File x.py, line 3")
    assert said == "there is no probe: hung at File x.py, line 3\n"
    assert searcher.history.front() == []
    searcher = make_searcher(node=Node(cpus=2, memory=2**20))
    fake, said = begin(searcher, PROBES)
    assert (fake.ran, said) == ([], "there is no probe: no device has the memory for it\n")


def test_none_is_run_if_it_is_not_wanted_or_there_are_no_data() -> None:
    searcher = make_searcher(probe=False)
    assert begin(searcher, PROBES)[0].ran == []
    searcher = make_searcher()
    recorded: Any = SimpleNamespace(probing=lambda target: None)
    probe(searcher.setup, recorded, searcher.placement, searcher.store, Console(quiet=True))
    assert searcher.history.probes == {}


def test_what_keeps_it_off_the_front_is_said() -> None:
    searcher = make_searcher(objectives=("memory", "accuracy"), constraints=("step_time<=1s",))
    _, said = begin(searcher, PROBES)
    assert "accuracy 75%; it has no step_time, so it is not on the front (" in said
    assert searcher.history.front() == []
