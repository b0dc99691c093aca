"""The command ``score``."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.search.exporting.models import exported


@pytest.fixture
def model(trial_spec, workplace) -> Path:
    """A model of squares."""
    return exported(trial_spec, workplace / "model")


def test_metrics_have_intervals(call, model, squares) -> None:
    code, out, err = call("score", str(model), str(squares), "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert (found["split"], found["rows"], found["same_data"]) == ("test", 12, False)
    assert list(found["metrics"]) == ["accuracy", "macro_f1", "weighted_f1", "loss"]
    for metric in found["metrics"].values():
        assert metric["low"] <= metric["value"] <= metric["high"]
        assert metric["reported"] is None
    code, out, _ = call("score", str(model), str(squares), "--split", "train")
    assert code == 0
    assert "train: 48 rows" in out
    assert "not the data of the model's search" in out


def test_rows_without_labels_do_not_count(call, model, squares, workplace) -> None:
    rows = pq.read_table(squares / "test.parquet").to_pylist()
    with (workplace / "new.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "image", "color"])
        for number, row in enumerate(rows):
            (workplace / f"{number}.png").write_bytes(row["image"])
            writer.writerow([row["text"], f"{number}.png", row["label"] if number else ""])
    code, out, _ = call("score", str(model), "new.csv", "--json")
    assert code == 2
    columns = "label=color,text=text,image=image"
    code, out, _ = call("score", str(model), "new.csv", "--json", "--columns", columns)
    assert code == 0
    assert json.loads(out)["rows"] == 11
    (workplace / "new.csv").write_text((workplace / "new.csv").read_text().replace("red", "pink"))
    code, _, err = call("score", str(model), "new.csv", "--columns", columns)
    assert code == 2
    assert "label 'pink' is none of the 3 classes" in err
