"""A short form of ``benchmarks/oneshot.py``: what its searches are told, and how they are compared."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import subprocess
import sys
from subprocess import CompletedProcess
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from search import SearchConfig, cli
from search.goals.objectives import known_values
from search.setup import look_up, set_up
from search.testing.searching import finish, make_searcher
from trainables.data import open_dataset

#: What each search takes on the clock of the benchmark, in seconds.
SECONDS = 100
ROWS = {"dataset.train": 48, "dataset.validation": 12}
#: Of each trial on the validation split and on the test split.
ACCURACIES = [(0.6, 0.5), (0.7, 0.4)]


class Searches:
    """Takes the place of the searches: notes what the program is told, and leaves what a search leaves."""

    def __init__(self, patch: pytest.MonkeyPatch, benchmark: Any) -> None:
        self.told: dict[str, SearchConfig] = {}
        self.seconds = 0
        self._patch = patch
        patch.setattr(benchmark, "subprocess", SimpleNamespace(run=self.run, PIPE=subprocess.PIPE))
        patch.setattr(benchmark, "time", SimpleNamespace(time=lambda: self.seconds))
        patch.setattr("search.api.run_search", self.search)

    def run(self, command: list[str], **_: Any) -> CompletedProcess[str]:
        """Run the command line in this process."""
        self._patch.setattr(sys, "argv", command[1:])
        with contextlib.redirect_stdout(io.StringIO()) as shown, pytest.raises(SystemExit) as ended:
            cli.main()
        assert ended.value.code == 0
        return CompletedProcess(command, 0, shown.getvalue())

    def search(self, config: SearchConfig) -> Any:
        """Leave two trials, and a supernet that was trained for two epochs if the search has one."""
        self.told[config.run_name] = config
        self.seconds += SECONDS
        searcher = make_searcher(folder=config.place.folder, epochs=config.trial.epochs, sampler="random")
        for trial, (accuracy, _) in zip("ab", ACCURACIES, strict=True):
            searcher.suggest(trial)
            finish(searcher, trial, accuracy)
        supernet = {"supernet": {"epochs": [{}, {}]}} if config.search.strategy == "oneshot" else {}
        searcher.store.put_facts({"reference": searcher.history.reference, "facts": ROWS, **supernet})
        front = [
            {"memory": record.values["memory"], "accuracy": validation, "test_accuracy": test}
            for record, (validation, test) in zip(searcher.history.trials.values(), ACCURACIES, strict=True)
        ]
        searcher.store.close()
        document = {"front": front, "trials": 2} | ({"evaluated": 40} if supernet else {})
        return SimpleNamespace(**document, to_dict=lambda: document, signal=None, unmet=[])


@pytest.fixture
def benchmark() -> Any:
    return importlib.import_module("oneshot")


@pytest.fixture
def searches(monkeypatch, benchmark, run) -> Searches:
    return Searches(monkeypatch, benchmark)


@pytest.fixture
def common(squares, tiny_encoders) -> str:
    encoders = f"--text-encoder {tiny_encoders['bert']} --image-encoder {tiny_encoders['vit']}"
    return f"--dataset {squares} {encoders} --image-size 32 --text-length 8 --batch-size 16 --target cpu"


def told(config: SearchConfig) -> dict[str, Any]:
    return {name: value for name, value in json.loads(config.to_json()).items() if name != "created"}


def test_both_sides_differ_in_nothing_but_the_strategy(run, searches, common) -> None:
    supernet = "--supernet-epochs 2 --num-samples 40 --finalists 2 --tau-samples 0"
    options = ("--seeds", "2", "--epochs", "4", "--budget", "1.5", "--oneshot", supernet, "--common", common)
    run("oneshot", *options, out="--json")
    assert list(searches.told) == [
        "warm-up",
        "oneshot-0",
        "ehvi-0",
        "random-0",
        "oneshot-1",
        "ehvi-1",
        "random-1",
    ]
    for seed in (0, 1):
        oneshot, *others = (told(searches.told[f"{name}-{seed}"]) for name in ("oneshot", "ehvi", "random"))
        for other, sampler in zip(others, ("ehvi", "random"), strict=True):
            differing = {name for name in oneshot if other[name] != oneshot[name]}
            assert differing == {
                *("name", "strategy", "sampler", "num_samples", "epochs", "time_budget"),
                *("supernet_epochs", "finalists", "tau_samples"),
            }
            assert (other["sampler"], other["scheduler"], other["epochs"]) == (sampler, "none", 4)
            assert other["time_budget"] == 1.5 * SECONDS
        assert oneshot["seed"] == seed
        assert not oneshot["probe"]
    # What fills the caches is the same, too
    first, warm_up = told(searches.told["random-0"]), told(searches.told["warm-up"])
    differing = {name for name in first if warm_up[name] != first[name]}
    assert differing == {"name", "num_samples", "epochs", "time_budget"}


def test_both_sides_search_configurations_from_the_same_memory_to_the_same(run, searches, common) -> None:
    run("oneshot", "--seeds", "1", "--engines", "random", "--common", common, out="--json")
    memories = []
    for name in ("oneshot-0", "random-0"):
        setup = set_up(look_up(searches.told[name]).in_precision("fp32"), Console(quiet=True))
        ends = [setup.space.smallest(setup.context)[0], setup.space.largest(setup.context)[0]]
        memories.append([known_values(setup.predictor.predict_configuration(end)) for end in ends])
    assert memories[0] == memories[1]


def test_both_sides_are_measured_alike(run, searches, common) -> None:
    document = run("oneshot", "--seeds", "1", "--epochs", "4", "--common", common, out="--json")
    rows = {row["engine"]: row for row in document["rows"]}
    assert list(rows) == ["oneshot", "ehvi", "random"]
    for name, row in rows.items():
        assert row["seconds"] == SECONDS
        assert row["curve"][-1]["hypervolume"] == pytest.approx(row["hypervolume"])
        assert row["test_hypervolume"] < row["hypervolume"]
        epochs = 2 * 4 if name != "oneshot" else 2 * searches.told["oneshot-0"].trial.epochs + 2
        assert row["sample_epochs"] == epochs * ROWS["dataset.train"]
        assert row["evaluated_rows"] == (40 * ROWS["dataset.validation"] if name == "oneshot" else 0)
    assert len({row["hypervolume"] for row in rows.values()}) == 1


def test_small_searches_have_few_rows_and_pixels(run, searches, tiny_encoders, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "benchmarks", None)  # as where the folder's parent is not searched
    encoders = f"--text-encoder {tiny_encoders['bert']} --image-encoder {tiny_encoders['vit']}"
    run("oneshot", "--small", "--seeds", "1", "--common", encoders, out="--json")
    (data,) = {(config.data.dataset, config.encoders.image_size) for config in searches.told.values()}
    rows = importlib.import_module("record_table").ROWS
    assert {split: open_dataset(data[0]).count(split) for split in rows} == rows
    assert data[1] == 56


def test_what_was_searched_with_the_same_settings_is_not_searched_again(run, searches, common) -> None:
    options = ["--engines", "random", "--common", common]
    run("oneshot", "--seeds", "1", *options, out="--json")
    searches.told.clear()
    document = run("oneshot", "--seeds", "2", *options, out="--json")
    assert list(searches.told) == ["warm-up", "oneshot-1", "random-1"]
    assert [(row["engine"], row["seed"]) for row in document["rows"]] == [
        (engine, seed) for seed in (0, 1) for engine in ("oneshot", "random")
    ]


def test_the_share_of_the_time_after_which_the_others_were_as_good(benchmark) -> None:
    curve = [{"seconds": 10.0, "hypervolume": 0.2}, {"seconds": 30.0, "hypervolume": 0.5}]
    assert benchmark.reached(curve, 0.4) == 30
    assert benchmark.reached(curve, 0.6) is None
