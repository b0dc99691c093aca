"""The command ``apply``."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.search.exporting.models import exported
from trainables.model import load_model


@pytest.fixture
def model(trial_spec, workplace) -> Path:
    """A model of squares."""
    return exported(trial_spec, workplace / "model")


@pytest.fixture
def rows(squares) -> list[dict[str, Any]]:
    """The test rows of squares."""
    return pq.read_table(squares / "test.parquet").to_pylist()


@pytest.fixture
def table(rows, workplace) -> Path:
    """A table of their texts and pictures, without labels, with other names of columns."""
    folder = workplace / "new"
    folder.mkdir()
    with (folder / "new.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["key", "words", "picture"])
        for number, row in enumerate(rows):
            (folder / f"{number}.png").write_bytes(row["image"])
            writer.writerow([f"k{number}", row["text"], f"{number}.png"])
    return folder / "new.csv"


def read(path: str) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_each_row_has_the_models_answer(call, model, table, rows) -> None:
    columns = "text=words,image=picture"
    code, out, err = call("apply", str(model), str(table), "--out", "p.csv", "--columns", columns)
    assert (code, err) == (0, "")
    assert out.startswith("p.csv: 12 rows, ")
    found = read("p.csv")
    expected = load_model(model).predict([{"text": row["text"], "image": row["image"]} for row in rows])
    assert [row["row"] for row in found] == [str(number) for number in range(12)]
    assert [row["key"] for row in found] == [f"k{number}" for number in range(12)]
    assert [row["label"] for row in found] == [answer["label"] for answer in expected]
    for row, answer in zip(found, expected, strict=True):
        assert float(row["probability"]) == pytest.approx(answer["probability"], abs=1e-6)


def test_parquet_holds_the_same_with_splits_and_probabilities(call, model, squares, rows) -> None:
    code, _, err = call("apply", str(model), str(squares), "--out", "p.parquet", "--top", "2")
    assert (code, err) == (0, "")
    found = pq.read_table("p.parquet").to_pylist()
    assert [row["split"] for row in found] == ["train"] * 48 + ["validation"] * 12 + ["test"] * 12
    assert [row["row"] for row in found[48:60]] == list(range(12))
    expected = load_model(model).predict(
        [{"text": row["text"], "image": row["image"]} for row in rows], top=2
    )
    for row, answer in zip(found[60:], expected, strict=True):
        assert row["label"] == answer["label"]
        assert dict(row["probabilities"]) == pytest.approx(answer["probabilities"], abs=1e-6)
    call("apply", str(model), str(squares), "--out", "p.csv", "--top", "2", "--split", "test")
    assert list(read("p.csv")[0]) == ["row", "label", "probability", "probabilities"]
    assert json.loads(read("p.csv")[0]["probabilities"]).keys() == expected[0]["probabilities"].keys()


def test_rows_that_cannot_be_read_are_refused_or_have_less(call, model, table) -> None:
    (table.parent / "3.png").write_bytes(b"no picture")
    (table.parent / "5.png").unlink()
    given = ("apply", str(model), str(table), "--out", "p.csv", "--columns", "text=words,image=picture")
    code, _, err = call(*given)
    assert code == 2
    assert err.count("\n") == 1
    assert "new.csv line 7, 5.png (image: no such file" in err
    assert not Path("p.csv").exists()
    assert not [path for path in Path().iterdir() if "p.csv" in path.name], "no half file is left"
    code, _, err = call(*given, "--bad-rows", "skip")
    assert code == 0
    assert "not read: 1 row: image: text (begins with b'no picture'); 1 row: image: no such file" in err
    unanswered = [row["row"] for row in read("p.csv") if not row["label"]]
    assert unanswered == ["3", "5"]
    code, _, err = call(*given, "--bad-rows", "missing")
    assert code == 0
    assert err.count("1 row: image") == 2
    assert all(row["label"] for row in read("p.csv"))


def test_a_row_without_any_value_has_no_answer(call, model, workplace) -> None:
    table = workplace / "gaps.jsonl"
    table.write_text('{"text": "a red square", "image": null}\n{"text": null, "image": null}\n')
    code, _, err = call("apply", str(model), str(table), "--out", "p.csv", "--columns", "text=text")
    assert code == 2
    assert "no value of any modality" in err
    code, _, _ = call(
        "apply", str(model), str(table), "--out", "p.csv", "--columns", "text=text", "--bad-rows", "missing"
    )
    assert code == 0
    assert [bool(row["label"]) for row in read("p.csv")] == [True, False]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("none", "squares", "--out", "p.csv"), "model 'none': there is no such folder"),
        (("model", "none", "--out", "p.csv"), "data 'none': no such file or folder"),
        (("model", "squares", "--out", "p.txt"), "--out p.txt: must end with .parquet or .csv"),
        (("model", "squares", "--out", "none/p.csv"), "--out none/p.csv: there is no folder"),
        (("model", "squares", "--out", "p.csv", "--split", "dev"), "--split dev: dataset "),
        (("model", "squares", "--out", "p.csv", "--device", "abacus"), "device 'abacus'"),
        (("model", "squares"), "--out is missing; name a file"),
    ],
)
def test_mistakes_are_said_in_one_line(call, model, squares, given, said) -> None:
    given = [str(squares) if word == "squares" else word for word in given]
    code, out, err = call("apply", *given)
    assert (code, out) == (2, "")
    assert said in err
    assert err.count("\n") == 1
