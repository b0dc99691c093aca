"""The command line: listings, predictions, and one clear line for every mistake."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from search import cli


@pytest.fixture
def call(monkeypatch, capsys, workplace):
    """Run the program in this process; returns exit code, standard output and standard error."""

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["search.py", *arguments])
        with pytest.raises(SystemExit) as exit_:
            cli.main()
        out, err = capsys.readouterr()
        return int(exit_.value.code or 0), out, err

    return run


def _edit(source: Path, target: Path, split: str, change) -> Path:
    target.mkdir()
    for path in source.glob("*.parquet"):
        table = pq.read_table(path)
        pq.write_table(change(table) if path.stem == split else table, target / path.name)
    return target


def _corrupt(table: pa.Table) -> pa.Table:
    images = table["image"].to_pylist()
    images[7] = b"no image at all"
    return table.set_column(table.schema.get_field_index("image"), "image", pa.array(images))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--space", "nope"], ["unknown space 'nope'", "pmf_nas", "linear"]),
        (["--objectives", "memory,speed"], ["unknown objective 'speed'", "accuracy"]),
        (["--objectives", "memory,memory"], ["once"]),
        (["--text-encoder", "nope"], ["unknown text encoder 'nope'", "minilm", "arch:NAME"]),
        (["--image-encoder", "minilm"], ["encodes text, not image"]),
        (["--text-encoder", "arch:bert-base"], ["without weights"]),
        (["--dataset", "missing/folder"], ["dataset 'missing/folder'", "openclipart"]),
        (["--dataset", "{no_image}"], ["no column 'image'", "text, label"]),
        (["--dataset", "{corrupt}"], ["validation row 7", "cannot be decoded"]),
        (["--max-memory", "1KiB"], ["nothing in space 'pmf_nas' fits", "smallest configuration takes"]),
        (["--max-memory", "lots"], ["'lots' is not a size"]),
        (["--sampler", "magic"], ["--sampler", "tpe"]),
        (["--num-samples", "0"], ["--num-samples 0", "at least 1"]),
        (["--batch-size", "0"], ["--batch-size 0", "at least 1"]),
        (["--text-length", "600"], ["--text-length 600", "2 to 40"]),
        (["--image-size", "30"], ["--image-size 30", "patch size, 8"]),
        (["--precision", "fp8"], ["unknown precision 'fp8'", "bf16"]),
        (["--augment", "flip"], ["--no-feature-cache"]),
        (["--name", "a/b"], ["--name 'a/b'"]),
        (["--frobnicate"], ["--frobnicate"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_mistakes_get_one_line_and_leave_nothing(
    call, tiny_encoders, squares, tmp_path, arguments, expected
) -> None:
    folders = {
        "{no_image}": lambda: _edit(squares, tmp_path / "d", "train", lambda t: t.select(["text", "label"])),
        "{corrupt}": lambda: _edit(squares, tmp_path / "d", "validation", _corrupt),
    }
    arguments = [str(folders[a]()) if a in folders else a for a in arguments]
    defaults = {
        "--space": "pmf_nas",
        "--dataset": str(squares),
        "--text-encoder": str(tiny_encoders["bert"]),
        "--image-encoder": str(tiny_encoders["vit"]),
    }
    given = [x for k, v in defaults.items() if k not in arguments for x in (k, v)]
    code, out, err = call(*given, *arguments)
    assert code == 2
    assert out == ""
    lines = err.strip().splitlines()
    assert len(lines) == 1, err
    assert lines[0].startswith("error: ")
    for words in expected:
        assert words in lines[0]
    assert not [p for p in ("runs", "mlflow.db", "mlruns") if (tmp_path / p).exists()]
    assert not list((tmp_path / "cache").glob("prepared/*/"))


def test_a_space_is_asked_for(call) -> None:
    code, _, err = call("--epochs", "1")
    assert code == 2
    assert "--space is missing" in err


def test_help_teaches(call) -> None:
    code, out, _ = call("--help")
    assert code == 0
    for words in ("--space", "predict", "--max-memory", "mlflow ui", "--json"):
        assert words in out


def test_predict_prints_the_documented_document(call) -> None:
    code, out, _ = call(
        *["predict", "--method", "pmf", "--text-encoder", "arch:bert-base"],
        *["--image-encoder", "arch:vit-base", "--classes", "101", "--batch-size", "32"],
        *["--text-length", "512", "--set", "n_fusion_layers=2", "--json"],
    )
    document = json.loads(out)
    assert code == 0
    keys = ["method", "config", "trainable_parameters", "checkpoint", "memory", "setting"]
    assert list(document) == keys
    assert document["trainable_parameters"] == 2_556_106
    assert document["checkpoint"] == 4 * 2_556_106
    parts = ("weights", "gradients", "optimizer", "activations", "temporary")
    assert document["memory"]["total"] == sum(document["memory"][part] for part in parts)
    assert document["config"]["n_fusion_layers"] == 2
    assert document["setting"]["text_length"] == 512


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--set", "n_fusion_layers=13"], "n_fusion_layers=13: must be 1 to 12"),
        (["--set", "n_fusion_layers=two"], "n_fusion_layers=two: must be a whole number"),
        (["--set", "depth=2"], "unknown PMFConfig setting 'depth'"),
        (["--set", "n_fusion_layers"], "write NAME=VALUE"),
        (["--method", "magic"], "unknown method 'magic'; known: adapter, aurora, blind_prompt"),
        (["--text-encoder", "arch:gpt-9"], "unknown encoder 'arch:gpt-9'"),
        (["--classes", "1"], "--classes 1"),
        (["--text-length", "513"], "2 to 512"),
        (["--encoder", "audio"], "--encoder audio: write NAME=VALUE"),
        (["--encoder", "audio=arch:bert-base"], "encodes text, not audio"),
        (["--encoder", "text=arch:bert-base"], "PMF fuses at least 2 modalities, not 1: text"),
        (["--plugin", "nope.py"], "--plugin nope.py: cannot be read"),
    ],
    ids=str,
)
def test_predict_refuses_in_one_line(call, arguments, expected) -> None:
    encoders = ["--image-encoder", "arch:vit-base"]
    if "--text-encoder" not in arguments:
        encoders += ["--text-encoder", "arch:bert-base"]
    code, out, err = call("predict", *encoders, *arguments)
    assert (code, out) == (2, "")
    assert expected in err
    assert len(err.strip().splitlines()) == 1


def test_predicts_for_any_modalities(call) -> None:
    encoders = ("text=arch:bert-base", "audio=arch:whisper-tiny", "face=features:dim=35,width=40")
    named = [word for encoder in encoders for word in ("--encoder", encoder)]
    code, out, _ = call("predict", "--method", "wander", *named, "--audio-seconds", "2", "--json")
    assert code == 0
    document = json.loads(out)
    assert set(document["setting"]["encoders"]) == {"text", "audio", "face"}
    assert document["setting"]["audio_seconds"] == 2.0


def test_lists_the_methods_of_the_four_papers(call) -> None:
    _, out, _ = call("methods", "--json")
    pmf = "linear image_only text_only late_concat mmbt mbt vpt p_bert prompt_fuse blind_prompt "
    pmf += "p_late_concat p_mmbt pmf"
    mope = "sequential_fuse p_sequential_fuse frozen mope"
    wander = "full_finetune lora adapter p_tuning maple uniadapter aurora wander sf_op sf_vf wander_vf"
    assert {row["name"] for row in json.loads(out)} >= set(f"{pmf} {mope} {wander}".split())


def test_explains_a_methods_settings(call) -> None:
    code, out, _ = call("methods", "mope")
    assert code == 0
    assert "routing = dense  (dense, top1)" in out
    assert "n_experts = 16  (at least 2)" in out
    code, _, err = call("methods", "nope")
    assert code == 2
    assert "unknown method 'nope'" in err


def test_lists_the_spaces_with_ranges_and_first_points(call) -> None:
    _, out, _ = call("spaces", "--json")
    rows = {row["name"]: row for row in json.loads(out)}
    wanted = {"pmf", "pmf_nas", "mope", "wander", "lora", "adapter", "prompts", "all_methods"}
    assert set(rows) >= wanted
    assert all(row["parameters"] and row["first_points"] for row in rows.values())
    code, shown, _ = call("spaces", "pmf_nas")
    assert code == 0
    assert "n_fusion_layers             1 to 6" in shown
    assert "first: n_fusion_layers=2, n_query_prompts=4" in shown
    assert "wander" not in shown
    code, _, err = call("spaces", "nope")
    assert code == 2
    assert "unknown space 'nope'" in err


@pytest.mark.parametrize("command", ["methods", "spaces", "datasets", "encoders"])
def test_listings(call, command) -> None:
    code, out, _ = call(command, "--json")
    assert code == 0
    rows = json.loads(out)
    assert rows
    assert all(row["name"] and row["description"] for row in rows)
    code, shown, _ = call(command)
    assert code == 0
    assert all(row["name"] in shown for row in rows)
