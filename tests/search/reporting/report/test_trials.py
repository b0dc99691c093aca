"""Trials, objectives and parameters of a report."""

from __future__ import annotations

import json
import statistics
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from search.config import SearchConfig
from search.records.history import TrialRecord
from search.records.place import Place
from search.records.shelf import ENDED, State
from search.records.status import Status
from search.records.store import SearchStore
from search.replay import ReplayTable
from search.reporting.report.document import document_of
from search.reporting.report.trials import parameter_rows, settings_of
from tests.conftest import ROOT
from tests.search.reporting.report.made_search import BEGAN

TABLES = ROOT / "benchmarks" / "tables"


def recorded(
    folder: Path, name: str, trials: int, *, lacking: str = "", repeats: bool = False, **statuses: Status
) -> Path:
    """Write the records of a search whose trials are those of a table, as often as needed.

    The first one lacks the setting ``lacking``. With ``repeats``, the others repeat its configuration.
    """
    table = ReplayTable.read(TABLES / f"{name}.parquet")
    config = SearchConfig(
        space=table.space,
        replay=table.path,
        objectives=("memory", "accuracy"),
        precision="fp32",
        target="cpu",
        num_samples=trials,
        name=folder.name,
        storage_path=str(folder.parent),
        created=BEGAN,
    )
    facts = {
        "search_id": "recorded",
        "begun": True,
        "config": config.to_json(),
        "facts": {"replay.fingerprint": table.fingerprint, "dataset.classes": 13},
        "task": table.task.to_dict(),
        "reference": {"memory": 1.0, "accuracy": 0.0},
        ENDED: State.FINISHED,
    }
    with closing(SearchStore.create(folder, facts)) as store, store.transaction():
        for number in range(trials):
            row, again = table.rows[number % len(table.rows)], number // len(table.rows)
            if repeats:
                row = replace(row, config=table.rows[0].config)
            settings = {**row.config, "learning_rate": row.config["learning_rate"] * (1 + again / 10)}
            if number == 0:
                settings.pop(lacking, None)
            trial_id = f"trial-{number:03d}"
            status = statuses.get(trial_id.replace("-", "_"), Status.FINISHED)
            epochs = [{**epoch, "time": BEGAN + number + epoch["epoch"] / 10} for epoch in row.epochs]
            epochs = epochs if status is Status.FINISHED else epochs[:1]
            record = TrialRecord(trial_id, settings, row.memory, number=number, status=status, epochs=epochs)
            record.repeat_of = "trial-000" if repeats and number else None
            store.put_trial(trial_id, record.to_dict())
            for epoch in epochs:
                store.put_epoch(trial_id, int(epoch["epoch"]), epoch)
            values = {"hypervolume": number / trials}
            store.put_point({"time": BEGAN + number + 1, "trials": number + 1, "values": values})
        held = {"config": {**row.config, "n_query_prompts": 32}, "memory": row.memory.__dict__}
        store.put_asked(0, {"user_attrs": {"infeasible": held}})
    (folder / "config.json").write_text(config.to_json())
    return folder


def search_at(folder: Path) -> dict[str, Any]:
    (search,) = document_of([Place.of(str(folder))])["searches"]
    return dict(search)


def test_a_thousand_trials_fit_a_page(tmp_path: Path) -> None:
    search = search_at(recorded(tmp_path / "many", "pmf_nas", 1000))
    assert len(search["trials"]) == 1001
    assert len(search["progress"]) == 1000
    assert search["progress"][-1]["epochs"] == 8 * 1000, "eight of each trial"
    assert len(json.dumps(search)) < 2_000_000
    assert list(search["importance"]) == ["memory", "accuracy"]
    for shares in search["importance"].values():
        assert sum(shares.values()) == pytest.approx(1)
    assert next(iter(search["importance"]["memory"])) == "n_fusion_layers", "it decides the memory"
    assert any("fANOVA" in note for note in search["notes"])


def test_how_trials_ended_and_what_was_never_started(tmp_path: Path) -> None:
    folder = recorded(
        tmp_path / "some",
        "pmf_nas",
        5,
        trial_001=Status.DIVERGED,
        trial_002=Status.OUT_OF_MEMORY,
        trial_003=Status.RETRIED,
    )
    rows = {row["id"]: row for row in search_at(folder)["trials"]}
    statuses = ["finished", "diverged", "out_of_memory", "out_of_memory", "finished", "infeasible"]
    assert [row["status"] for row in rows.values()] == statuses
    never = rows["candidate-000"]
    assert never["config"]["n_query_prompts"] == 32
    assert set(never["values"]) == {"memory", "params", "checkpoint"}
    assert never["epochs"] is None
    assert rows.keys() - {"candidate-000"} == {f"trial-{number:03d}" for number in range(5)}
    for row in rows.values():
        assert row.keys() == rows["trial-000"].keys()


def test_a_repeat_of_what_failed_stands_for_its_configuration(tmp_path: Path) -> None:
    table = ReplayTable.read(TABLES / "pmf_nas.parquet")
    reached = [row.epochs[-1]["accuracy"] for row in table.rows[:3]]
    for first, kinds, seeds in (
        (Status.FINISHED, ["trial", "repeat", "repeat"], [3, 1, 1]),
        (Status.DIVERGED, ["trial", "trial", "repeat"], [2, 2, 1]),
    ):
        folder = recorded(tmp_path / first, "pmf_nas", 3, repeats=True, trial_000=first)
        search = search_at(folder)
        rows = [row for row in search["trials"] if row["status"] != "infeasible"]
        assert [row["kind"] for row in rows] == kinds
        assert [row["seeds"] for row in rows] == seeds
        counted = rows[kinds.index("repeat") - 1]
        assert search["best_of_methods"] == search["members"] == [counted["id"]]
        assert counted["values"]["accuracy"] == pytest.approx(statistics.fmean(reached[-seeds[0] :]))


def test_of_one_method_settings_that_some_lack_are_left_out(tmp_path: Path) -> None:
    search = search_at(recorded(tmp_path / "some", "pmf_nas", 12, lacking="translator_width"))
    assert "translator_width" in {row["name"] for row in search["parameters"]}
    assert "n_fusion_layers" in search["importance"]["accuracy"]
    assert "translator_width" not in search["importance"]["accuracy"]
    assert any("fANOVA" in note for note in search["notes"])


def test_several_methods_are_compared_by_what_they_share(tmp_path: Path) -> None:
    search = search_at(recorded(tmp_path / "methods", "all_methods", 100))
    assert search["parameters"][0] == {"name": "method", "kind": "choice", "log": False}
    assert {"method", "learning_rate"} <= search["importance"]["accuracy"].keys()
    assert "translator_width" not in search["importance"]["accuracy"], "few trials have it"
    assert any("PED-ANOVA" in note for note in search["notes"])
    best = [row for row in search["trials"] if row["id"] in search["best_of_methods"]]
    assert len({row["method"] for row in best}) == len(best) > 20


def test_settings_by_layer_become_a_text_and_means() -> None:
    config = {"method": "pmf", "width": {"text": [4, 2], "image": [8]}, "cp": "sum", "on": True, "to": [1, 2]}
    assert settings_of(config) == {
        "width": "text 4 2 image 8",
        "width of text, mean": 3,
        "width of image, mean": 8,
        "cp": "sum",
        "on": True,
        "to": "1 2",
    }


def test_only_what_differs_is_a_parameter() -> None:
    configs = [
        {"rate": 1e-4, "width": 8, "on": True, "alpha": None, "same": 1},
        {"rate": 1e-2, "width": 16, "on": False, "alpha": 2.0, "same": 1},
    ]
    rows = [{"kind": "trial", "method": "pmf", "config": config} for config in configs]
    assert parameter_rows(rows, {}) == [
        {"name": "rate", "kind": "number", "log": True},
        {"name": "width", "kind": "number", "log": False},
        {"name": "on", "kind": "choice", "log": False},
        {"name": "alpha", "kind": "choice", "log": False},
    ]
    ranged = {"parameter pmf.width": json.dumps({"type": "int", "low": 1, "high": 64, "log": True})}
    assert parameter_rows(rows, ranged)[1]["log"]
