"""Recorded trials that stand in for training."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ray import tune

from search.replay import ReplayPredictor, ReplayTable, ReplayTrial
from spaces import SpaceContext, get_space
from tests.tasks import classification
from trainables.errors import UserError
from trainables.memory import MemoryReport
from trainables.step.setting import TrainingSetting
from trainables.trial.assignment import Assignment

CONTEXT = SpaceContext({"text": 6, "image": 12}, {"text": 384, "image": 384})
EPOCHS = 3
SETTING = TrainingSetting(batch_size=16, text_length=16, image_size=56, target="cpu")


def _pmf(prompts: int = 4, layers: int = 2, rate: float = 2e-3) -> dict[str, Any]:
    names = ("n_query_prompts", "n_query_context_prompts", "n_fusion_context_prompts")
    config = {"method": "pmf", "n_fusion_layers": layers, **dict.fromkeys(names, prompts)}
    return {**config, "translator_width": 192, "learning_rate": rate}


def _report(number: int) -> MemoryReport:
    return MemoryReport(100 + number, 1, 2, 3, 4, 5, trainable_parameters=10 * number, checkpoint=40 * number)


def _write(path: Path, configs: list[dict[str, Any]], space: str = "pmf_nas", epochs: int = EPOCHS) -> Path:
    """Write a table as benchmarks/record_table.py does; the n-th trial's accuracies are 0.n1, 0.n2, ..."""
    rows = [
        {
            "number": number,
            "params": "{}",
            "config": json.dumps(config),
            **{f"memory.{name}": size for name, size in asdict(_report(number)).items()},
            "epoch": float(epoch),
            "accuracy": number / 10 + epoch / 100,
            "loss": 1.0,
            "measured_memory": None if epoch == 1 else 0.1,
        }
        for number, config in enumerate(configs, 1)
        for epoch in range(1, epochs + 1)
    ]
    described = {
        "space": space,
        "dataset": "openclipart",
        "classes": 13,
        "majority": 0.25,
        "depths": CONTEXT.depths,
        "widths": CONTEXT.widths,
        "epochs": EPOCHS,
        "setting": asdict(SETTING),
    }
    table = pa.Table.from_pylist(rows).replace_schema_metadata({"paretofuse": json.dumps(described)})
    pq.write_table(table, path)
    return path


@pytest.fixture
def table(tmp_path: Path) -> ReplayTable:
    return ReplayTable.read(_write(tmp_path / "table.parquet", [_pmf(1), _pmf(32), _pmf(32, layers=6)]))


def test_a_table_says_what_it_was_recorded_for(table, tmp_path) -> None:
    assert (table.space, table.dataset, table.epochs) == ("pmf_nas", "openclipart", 3)
    assert table.task.to_dict() == classification(13).to_dict()
    assert table.guess == {"accuracy": 0.25, "loss": math.log(13)}
    assert (table.context, table.setting) == (CONTEXT, SETTING)
    assert table.metrics == {"epoch", "accuracy", "loss", "measured_memory"}
    assert [row.epochs[-1]["accuracy"] for row in table.rows] == pytest.approx([0.13, 0.23, 0.33])
    assert "measured_memory" not in table.rows[0].epochs[0]
    again = ReplayTable.read(_write(tmp_path / "again.parquet", [row.config for row in table.rows]))
    other = ReplayTable.read(_write(tmp_path / "other.parquet", [_pmf(1)]))
    assert table.fingerprint == again.fingerprint != other.fingerprint


def test_recorded_configurations_answer_for_themselves(tmp_path) -> None:
    space = get_space("all_methods")
    configs = [*space.smallest(CONTEXT), *space.largest(CONTEXT)]
    recorded = ReplayTable.read(_write(tmp_path / "all.parquet", configs, space="all_methods"))
    assert [recorded.nearest(config).config for config in configs] == configs
    recorded.require("all_methods", EPOCHS, "cpu")


def test_nearest_is_in_the_scale_of_the_space(table, tmp_path) -> None:
    # 2e-3 is nearer to 1e-2 than to 1e-4 on the logarithmic scale on which rates are drawn.
    rates = ReplayTable.read(_write(tmp_path / "rates.parquet", [_pmf(rate=1e-4), _pmf(rate=1e-2)]))
    assert rates.nearest(_pmf(rate=2e-3)).config == _pmf(rate=1e-2)
    # 15 is nearer to 1 than to 32 on the linear one of prompt lengths.
    assert table.nearest(_pmf(15)).config == _pmf(1)
    assert table.nearest(_pmf(20)).config == _pmf(32)
    assert table.nearest(_pmf(32, layers=5, rate=1e-3)).config == _pmf(32, layers=6)
    assert table.nearest({**_pmf(1), "translator_width": 384}).config == _pmf(1)


def test_methods_and_choices_are_equal_or_not(tmp_path) -> None:
    fields = {"width": 32, "rank_hidden": 4, "rank_time": 4, "target_length": 1, "learning_rate": 1e-3}
    wander = {"method": "wander", "n_layers": 2, "cp": "sum_of_products", **fields}
    other_form = {**wander, "cp": "product_of_sums", "width": 16}
    configs = [wander, other_form, {"method": "linear", "learning_rate": 2e-3}]
    recorded = ReplayTable.read(_write(tmp_path / "all.parquet", configs, space="all_methods"))
    assert recorded.nearest({**wander, "width": 16}).config == wander
    assert recorded.nearest({**other_form, "width": 128}).config == other_form
    # The only one of its method, however far away.
    assert recorded.nearest({"method": "linear", "learning_rate": 3e-2}).config == configs[2]
    with pytest.raises(UserError, match=r"holds no trial of lora; record more trials$"):
        recorded.nearest({"method": "lora"})
    with pytest.raises(UserError, match=r"holds no trial of .*, aurora, "):
        recorded.require("all_methods", EPOCHS, "cpu")


def test_files_that_are_no_tables_are_refused(tmp_path) -> None:
    with pytest.raises(UserError, match=r"--replay .*nowhere: there is no such file"):
        ReplayTable.read(tmp_path / "nowhere")
    (tmp_path / "text").write_text("accuracy\n0.5\n")
    pq.write_table(pa.table({"accuracy": [0.5]}), tmp_path / "other.parquet")
    _write(tmp_path / "short.parquet", [_pmf()], epochs=2)
    pq.write_table(pq.read_table(tmp_path / "short.parquet").slice(0, 0), tmp_path / "empty.parquet")
    for name, why in (
        ("text", "ArrowInvalid"),
        ("other.parquet", "is no table of recorded trials"),
        ("short.parquet", "trial 1 has not the epochs 1 to 3"),
        ("empty.parquet", "there is no trial"),
    ):
        with pytest.raises(UserError, match=why) as refused:
            ReplayTable.read(tmp_path / name)
        assert "\n" not in str(refused.value)


def test_searches_that_the_table_cannot_answer_are_refused(table) -> None:
    table.require("pmf_nas", 2, "cpu")
    with pytest.raises(UserError, match="is of space 'pmf_nas', not of 'all_methods'"):
        table.require("all_methods", 3, "cpu")
    with pytest.raises(UserError, match=r"--epochs 4: .* holds 3 epochs of each trial"):
        table.require("pmf_nas", 4, "cpu")
    with pytest.raises(UserError, match="memory is for target 'cpu', not for 'cuda'; add --target cpu"):
        table.require("pmf_nas", 3, "cuda")


def test_a_table_without_a_target_is_for_a_cpu(tmp_path) -> None:
    path = _write(tmp_path / "table.parquet", [_pmf(1)])
    table = pq.read_table(path)
    described = json.loads(table.schema.metadata[b"paretofuse"])
    del described["setting"]["target"]
    table = table.drop_columns(["memory.reserved", "memory.context"])
    pq.write_table(table.replace_schema_metadata({"paretofuse": json.dumps(described)}), path)
    found = ReplayTable.read(path)
    assert found.setting == SETTING
    assert found.rows[0].memory == _report(1)


def test_memory_is_the_nearest_ones(table) -> None:
    predictor = ReplayPredictor(table)
    assert predictor.predict_configuration(_pmf(30)) == _report(2)
    assert predictor.predict_as_run(_pmf(30), cached=True, target="cpu") == _report(2)
    assert predictor.encoding_memory("cpu") == 0
    assert predictor.setting == SETTING


def _handed(config: dict[str, Any], checkpoint: Any = None) -> dict[str, Any]:
    return {"assignment": Assignment(config=config, checkpoint=checkpoint, seed=3)}


def _trial(table: ReplayTable, config: dict[str, Any], epochs: int | None = None) -> ReplayTrial:
    # As Ray Tune makes one, without the object store.
    class Trial(ReplayTrial):
        def setup(self, config: dict[str, Any], **_: Any) -> None:
            super().setup(config, table=table, epochs=epochs)

    return Trial(config)


def test_a_trial_reports_what_was_recorded(table) -> None:
    trial = _trial(table, _handed(_pmf(32)))
    results = [trial.step() for _ in range(EPOCHS)]
    assert [result["accuracy"] for result in results] == pytest.approx([0.21, 0.22, 0.23])
    assert [result["done"] for result in results] == [False, False, True]
    # The next one in the same process, with another seed, reports the same.
    assert trial.reset_config({"assignment": replace(_handed(_pmf(32))["assignment"], seed=4)})
    assert [trial.step() for _ in range(EPOCHS)] == results


def test_a_trial_goes_on_from_its_checkpoint(table, tmp_path) -> None:
    trial = _trial(table, _handed(_pmf(1)), epochs=2)
    first = trial.step()
    trial.save_checkpoint(str(tmp_path))
    second = trial.step()
    assert (first["done"], second["done"]) == (False, True)
    later = _trial(table, _handed(_pmf(1)), epochs=2)
    later.restore(SimpleNamespace(checkpoint=tune.Checkpoint(str(tmp_path))))
    assert later.step() == second
    # Under another id of Ray Tune's the checkpoint comes with the configuration.
    later = _trial(table, _handed(_pmf(1), tune.Checkpoint(str(tmp_path))), epochs=2)
    assert later.step() == second
