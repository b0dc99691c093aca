"""The command line: listings, predictions, and one clear line for every mistake."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from search import cli
from spaces import SPACES, union
from trainables.cache.entries import release
from trainables.data import SPLITS, open_dataset
from trainables.data.kinds import typical_text_length
from trainables.memory.calibration import Calibration, save_calibration
from trainables.towers import resolve_encoder
from trainables.units import MIB


def _edit(source: Path, target: Path, splits: Sequence[str], change) -> Path:
    target.mkdir()
    for path in source.glob("*.parquet"):
        table = pq.read_table(path)
        pq.write_table(change(table) if path.stem in splits else table, target / path.name)
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
        (["--text-encoder", "x" * 300], ["unknown text encoder 'xxx"]),
        (["--pooling", "audio=mean"], ["--pooling audio=mean: no encoder of that modality", "text, image"]),
        (["--pooling", "image=last"], ["--pooling image=last: encoder", "takes cls, mean, max"]),
        (["--dataset", "x" * 300], ["dataset 'xxx", "no such file or folder"]),
        (["--replay", "x" * 300], ["--replay xxx", "no such file"]),
        (["--dataset", "missing/folder"], ["dataset 'missing/folder'", "openclipart"]),
        (["--dataset", "{no_image}"], ["at least 2 modalities, not 1: text"]),
        (["--dataset", "{corrupt}"], ["validation row 7", "1 of 72 rows cannot be read"]),
        (["--max-memory", "1KiB"], ["nothing in space 'pmf_nas' fits", "smallest configuration takes"]),
        (["--max-memory", "lots"], ["--max-memory 'lots' is not a size"]),
        (["--max-memory", "9" * 400], ["is not a size"]),
        (["--time-budget", "-5"], ["--time-budget '-5' is not a duration"]),
        (["--time-budget", "9" * 400], ["--time-budget", "is not a duration"]),
        (["--time-budget", "9" * 30], ["--time-budget", "must be at most 1,000,000,000"]),
        (["--gpus-per-trial", "-1"], ["--gpus-per-trial -1.0: must be at least 0"]),
        (["--gpus-per-trial", "nan"], ["--gpus-per-trial nan: must be a finite number"]),
        (["--reduction-factor", "1e400"], ["--reduction-factor inf: must be a finite number"]),
        (["--replay-seconds", "-1"], ["--replay-seconds -1.0: must be at least 0"]),
        (["--epochs", "1" + "0" * 30], ["--epochs 1000", "must be at most 9223372036854775807"]),
        (["--num-samples", "9" * 5000], ["--num-samples 999", "write a number"]),
        (["--min-epochs", "0"], ["--min-epochs 0: must be at least 1"]),
        (["--space", ""], ["--space '': must not be empty"]),
        (["--name", ""], ["--name ''"]),
        (["--experiment", " "], ["--experiment ' ': must not be empty"]),
        (["--dataset", ""], ["--dataset '': must not be empty"]),
        (["--storage-path", ""], ["--storage-path '': must not be empty"]),
        (["--tracking-uri", ""], ["--tracking-uri '': must not be empty"]),
        (["--experiment", "a\nb"], [r"--experiment 'a\nb': must have no line breaks"]),
        (["--dataset", "a\0b"], [r"--dataset 'a\x00b': must have no line breaks"]),
        (["--name", "\udcff"], [r"--name '\udcff': must have no line breaks"]),
        (["--text-length", "0"], ["--text-length 0: must be at least 1"]),
        (["--sampler", "magic"], ["unknown sampler 'magic'", "tpe"]),
        (["--scheduler", "magic"], ["unknown scheduler 'magic'", "pareto_asha"]),
        (["--scheduler", "asha", "--reduction-factor", "1"], ["--reduction-factor 1"]),
        (["--scheduler", "asha", "--min-epochs", "9"], ["--min-epochs 9"]),
        (["--constraint", "size<=3"], ["size<=3", "memory"]),
        (["--constraint", "memory<=8"], ["memory<=8", "GiB"]),
        (["--constraint", "params<=5"], ["params<=5", "nothing in space 'pmf_nas' fits"]),
        (["--constraint", "params<=5M", "--constraint", "params>=6M"], ["params<=5M", "params>=6M"]),
        (["--num-samples", "+3"], ["--num-samples +3", "--resume"]),
        (["--seeds", "0"], ["--seeds 0", "at least 1"]),
        (["--seed", "-1"], ["--seed -1", "at least 0"]),
        (["--seed", "9223372036854775808"], ["--seed 9223372036854775808", "at most 9223372036854775807"]),
        (["--warm-start", "nothing"], ["nothing", "holds no searches"]),
        (["--replay", "table.parquet"], ["--replay table.parquet", "no such file"]),
        (["--num-samples", "0"], ["--num-samples 0", "at least 1"]),
        (["--batch-size", "0"], ["--batch-size 0", "at least 1"]),
        (["--text-length", "600"], ["--text-length 600", "2 to 40"]),
        (["--image-size", "30"], ["--image-size 30", "patch size, 8"]),
        (["--precision", "fp8"], ["unknown precision 'fp8'", "bf16"]),
        (["--augment", "flip"], ["--no-feature-cache"]),
        (["--gradient-accumulation", "3"], ["--gradient-accumulation 3", "must divide --batch-size, 32"]),
        (["--gpu-memory", "much"], ["'much' is not a size"]),
        (["--hang-timeout", "soon"], ["'soon' is not a duration"]),
        (["--name", "a/b"], ["--name 'a/b'"]),
        (["--frobnicate"], ["--frobnicate"]),
        (["a\u2028b"], [r"a\u2028b"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_mistakes_get_one_line_and_leave_nothing(
    call, tiny_encoders, squares, tmp_path, arguments, expected
) -> None:
    folders = {
        "{no_image}": lambda: _edit(squares, tmp_path / "d", SPLITS, lambda t: t.select(["text", "label"])),
        "{corrupt}": lambda: _edit(squares, tmp_path / "d", ["validation"], _corrupt),
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
    kept = "cannot be read" in err  # so that nothing is decoded again
    assert len(list((tmp_path / "cache").glob("prepared/*/"))) == kept


def test_a_space_is_asked_for(call) -> None:
    code, _, err = call("--epochs", "1")
    assert code == 2
    assert "--space is missing" in err


def test_the_end_of_a_file_is_no_interruption(call, monkeypatch) -> None:
    def read(name: str) -> None:
        raise EOFError("no data left in file")

    monkeypatch.setattr("trainables.data.open_dataset", read)
    with pytest.raises(EOFError, match="no data left"):
        call("datasets")


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
    assert list(document) == [
        *("method", "config", "trainable_parameters", "checkpoint"),
        *("memory", "inference_memory", "calibration", "setting"),
    ]
    assert document["calibration"] is None
    assert document["trainable_parameters"] == 2_556_106
    assert document["checkpoint"] == 4 * 2_556_106
    memory = document["memory"]
    assert memory["target"] == document["setting"]["target"] == "cuda"
    parts = ("weights", "gradients", "optimizer", "activations", "temporary")
    assert memory["total"] == sum(memory[part] for part in parts)
    assert memory["reserved"] == memory["total"] + memory["fragmentation"]
    assert memory["memory"] == memory["reserved"] + memory["context"]
    assert memory["context"] == document["setting"]["context_bytes"] == 500 * MIB
    assert memory["context"] + memory["weights"] < document["inference_memory"] < memory["memory"]
    assert document["config"]["n_fusion_layers"] == 2
    assert document["setting"]["text_length"] == 512


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--set", "n_fusion_layers=13"], "n_fusion_layers=13: must be 1 to 12"),
        (["--set", "n_fusion_layers=two"], "n_fusion_layers=two: must be a whole number"),
        (["--set", "n_query_prompts=" + "9" * 18], "must be a number of at most 1,000,000"),
        (
            ["--batch-size", "4611686018427387904"],
            "--batch-size 4611686018427387904: must be at most 1,000,000",
        ),
        (["--batch-size", "1000000", "--set", "n_query_prompts=1000000"], "needs more than 2^63 bytes"),
        (["--classes", "1" + "0" * 12], "--classes 1000000000000: must be at most 1,000,000"),
        (["--set", "depth=2"], "unknown PMFConfig setting 'depth'"),
        (["--set", "n_fusion_layers"], "write NAME=VALUE"),
        (["--method", "magic"], "unknown method 'magic'; known: adapter, aurora, blind_prompt"),
        (["--text-encoder", "arch:gpt-9"], "unknown encoder 'arch:gpt-9'"),
        (["--classes", "1"], "--classes 1"),
        (["--text-length", "513"], "2 to 512"),
        (["--encoder", "audio"], "--encoder audio: write NAME=VALUE"),
        (["--pooling", "mean"], "--pooling mean: write NAME=VALUE, e.g. --pooling text=mean"),
        (["--pooling", "text=middle"], "--pooling text=middle: must be one of cls, mean, last, max"),
        (["--pooling", "title=mean"], "--pooling title=mean: no encoder of that modality; there are: text"),
        (["--text-encoder", "arch:gpt2", "--pooling", "text=cls"], "'arch:gpt2' takes last, mean, max"),
        (["--encoder", "audio=arch:bert-base"], "encodes text, not audio"),
        (["--encoder", "text=arch:bert-base"], "PMF fuses at least 2 modalities, not 1: text"),
        (["--plugin", "nope.py"], "--plugin nope.py: cannot be read"),
        (["--prefix", "gone"], "unknown prefix 'gone'"),
        (["--max", "batch_size"], "--max needs to know how much memory there is; add --limit SIZE"),
        (
            ["--max", "depth", "--limit", "8GiB"],
            "--max depth: no whole-number setting of pmf; known: batch_size",
        ),
        (["--max", ",", "--limit", "8GiB"], "--max: write a setting's name"),
        (["--limit", "8GiB"], "--limit is for --space NAME, --max NAME or --model NAME"),
        (["--plot", "x.png"], "--plot draws a space; add --space NAME"),
        (["--space", "pmf", "--plot", "x.jpg"], "--plot x.jpg: must end in .png, .svg, .pdf"),
        (["--space", "pmf", "--set", "n_fusion_layers=2"], "leave out --method, --set and --max"),
        (["--space", "pmf", "--members", "0"], "--members 0: must be at least 1"),
        (["--space", "nope"], "unknown space 'nope'"),
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


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["arch:gpt2", "--method", "pmf", "--prefix", "cached"], "leave out --method, --prefix"),
        (["arch:gpt-9"], "unknown model 'arch:gpt-9'; known: arch:bert-base"),
        (["no/folder"], "unknown model 'no/folder': not bundled (minilm, dinov2-small)"),
        (["arch:whisper-tiny"], "no classifier of texts or images of the family 'whisper'"),
        (["arch:bert-base", "--text-length", "513"], "--text-length 513"),
        (["arch:vit-base", "--image-size", "8"], "model 'arch:vit-base': cannot be run"),
        (["arch:vit-base", "--classes", "1"], "--classes 1"),
    ],
    ids=str,
)
def test_predict_refuses_a_model_in_one_line(call, arguments, expected) -> None:
    code, out, err = call("predict", "--model", *arguments)
    assert (code, out) == (2, "")
    assert expected in err
    assert len(err.strip().splitlines()) == 1


def test_predict_says_whether_a_model_fits(call, tiny_encoders) -> None:
    folder = str(tiny_encoders["bert"])
    options = ["--model", folder, "--text-length", "8", "--batch-size", "2"]
    code, out, _ = call("predict", *options, "--json")
    document = json.loads(out)
    assert code == 0
    assert document["fits"] is None
    assert document["setting"].items() >= {"text_length": 8, "batch_size": 2, "classes": 13}.items()
    for limit, fits in ((document["memory"]["memory"], True), (document["memory"]["memory"] - 1, False)):
        code, out, _ = call("predict", *options, "--limit", str(limit), "--json")
        assert (code, json.loads(out)["fits"]) == (0, fits)
        code, out, _ = call("predict", *options, "--limit", str(limit))
        assert (code, "does not fit" in out) == (0, not fits)
    # Options of the target arrive in the prediction
    _, out, _ = call("predict", *options, "--context", "1MiB", "--compute-capability", "7.5", "--json")
    changed = json.loads(out)
    assert changed["memory"]["context"] == 2**20
    assert changed["setting"]["compute_capability"] == 7.5
    code, _, err = call("predict", *options, "--device", "H100")
    assert (code, "--device H100: not calibrated" in err) == (2, True)


def test_a_pooling_decides_which_outputs_are_computed(call, tiny_encoders) -> None:
    documents = []
    for pooling in ([], ["--pooling", "text=cls,image=cls"], ["--pooling", "text=mean"]):
        code, out, _ = call("predict", *_tiny(tiny_encoders), "--skip-unused", *pooling, "--json")
        assert code == 0
        documents.append(json.loads(out))
    totals = [document["memory"]["total"] for document in documents]
    assert totals[0] == totals[1] < totals[2]
    assert [document["setting"]["pooling"]["text"] for document in documents] == ["cls", "cls", "mean"]
    code, out, _ = call("explain", *_tiny(tiny_encoders), "--skip-unused", "--pooling", "text=mean", "--json")
    assert sum(sum(held.values()) for held in json.loads(out)["parts"].values()) == totals[2]


def test_predicts_for_any_modalities(call) -> None:
    encoders = ("text=arch:bert-base", "audio=arch:whisper-tiny", "face=features:dim=35,width=40")
    named = [word for encoder in encoders for word in ("--encoder", encoder)]
    code, out, _ = call("predict", "--method", "wander", *named, "--audio-seconds", "2", "--json")
    assert code == 0
    document = json.loads(out)
    assert set(document["setting"]["encoders"]) == {"text", "audio", "face"}
    assert document["setting"]["audio_seconds"] == 2.0


def _tiny(encoders) -> list[str]:
    return [
        *["--text-encoder", str(encoders["bert"]), "--image-encoder", str(encoders["vit"])],
        *["--text-length", "8", "--batch-size", "2"],
    ]


def test_predict_takes_every_setting(call, tiny_encoders) -> None:
    given = {
        "gradient_accumulation": 2,
        "precision": "bf16-frozen",
        "optimizer_kernel": "foreach",
        "prefix": "offloaded",
        "gradient_checkpointing": True,
        "skip_unused": True,
    }
    options = [
        word
        for name, value in given.items()
        for word in (f"--{name.replace('_', '-')}", *([] if value is True else [str(value)]))
    ]
    code, out, err = call("predict", *_tiny(tiny_encoders), *options, "--json")
    assert code == 0, err
    setting = json.loads(out)["setting"]
    assert {name: setting[name] for name in given} == given


def test_predict_tells_which_part_of_a_space_fits(call, tiny_encoders, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("search.cli.sizes._BATCH_SIZES", (2, 4))
    space = ["predict", *_tiny(tiny_encoders), "--space", "late_concat", "--precision", "bf16-frozen"]
    _, out, _ = call(*space, "--json")
    whole = json.loads(out)
    assert "share" not in whole
    assert whole["smallest"]["memory"] < whole["first"]["memory"] == whole["largest"]["memory"]
    limit = ["--limit", str(whole["smallest"]["memory"]), "--members", "8"]
    _, out, _ = call(*space, *limit, "--json")
    document = json.loads(out)
    assert (document["drawn"], document["fitting"], document["share"]) == (8, 4, 0.5)
    assert document["parameters"]["train_encoders"]["others_smallest"]["fits"] == [False]
    assert document["parameters"]["learning_rate"]["moves_memory"] is False
    code, shown, err = call(*space, *limit, "--plot", "late.png")
    assert (code, err) == (0, "")
    assert "50% ± " in shown
    assert "train_encoders  False-True" in shown
    assert "move no memory there: learning_rate" in shown
    assert (tmp_path / "late.png").stat().st_size > 1000


def test_predict_sizes_a_union_method_by_method(call, tiny_encoders, monkeypatch) -> None:
    both = union("both", "two methods", lambda: [SPACES["linear"], SPACES["late_concat"]])
    monkeypatch.setitem(SPACES, "both", both)
    arguments = ["--space", "both", "--limit", "1GiB", "--members", "4"]
    code, shown, _ = call("predict", *_tiny(tiny_encoders), *arguments)
    assert code == 0
    rows = {line.split()[0]: line for line in shown.splitlines()}
    assert "100% ± " in rows["linear"]
    assert "100% ± " in rows["late_concat"]
    assert "100% of the space fits (members drawn evenly of each method: 2)" in shown


def test_predict_answers_the_reverse(call, tiny_encoders) -> None:
    arguments = ["--method", "pmf", "--max", "n_fusion_layers", "--limit", "8GiB"]
    code, shown, _ = call("predict", *_tiny(tiny_encoders), *arguments)
    assert code == 0
    assert shown.startswith("n_fusion_layers = 3 takes ")
    assert "nothing above: n_fusion_layers=4: must be 1 to 3" in shown
    _, out, _ = call("predict", *_tiny(tiny_encoders), *arguments, "--json")
    document = json.loads(out)
    assert (document["value"], document["next_value"], document["next_memory"]) == (3, 4, None)


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
    assert call(command, "--json") == (0, out, "")


@pytest.mark.parametrize("command", [("methods",), ("methods", "pmf"), ("spaces",), ("spaces", "pmf_nas")])
def test_a_remembered_list_is_the_one_that_is_made(call, tmp_path, command) -> None:
    first = call(*command)
    assert call(*command) == first
    (tmp_path / "nothing.py").touch()
    assert call(*command, "--plugin", "nothing.py") == first


def test_a_plugin_is_in_no_remembered_list(call, tmp_path) -> None:
    (tmp_path / "own.py").write_text(
        "from dataclasses import replace\n"
        "from spaces import get_space, register_space\n"
        "register_space(replace(get_space('linear'), name='own', method=None))\n"
    )
    try:
        _, out, _ = call("spaces", "--json", "--plugin", "own.py")
        assert "own" in [row["name"] for row in json.loads(out)]
    finally:
        SPACES.pop("own", None)
    _, out, _ = call("spaces", "--json")
    assert "own" not in [row["name"] for row in json.loads(out)]


def test_a_list_needs_no_cache(call, tmp_path, monkeypatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("PARETOFUSE_CACHE", str(tmp_path / "file"))
    code, out, err = call("methods", "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)


def test_explains_where_the_bytes_are(call, tmp_path) -> None:
    picture = tmp_path / "parts.png"
    arguments = ["explain", "--set", "n_fusion_layers=1", "--batch-size", "2", "--text-length", "8"]
    code, out, _ = call(*arguments, "--json", "--plot", str(picture))
    assert code == 0
    parts = json.loads(out)["parts"]
    assert parts["text layer 5"]["activations"] > 0 == parts["text layer 4"]["activations"]
    assert picture.stat().st_size > 5000
    code, out, _ = call(*arguments)
    assert code == 0
    assert "text layers 0 to 4" in out
    assert call("explain", "--set", "n_fusion_layers=7")[0] == 2
    assert call("explain", "--plot", "parts.bmp")[2].startswith("error: --plot parts.bmp: must end in")


def test_a_target_and_its_gpu_decide_what_memory_is(call, tiny_encoders) -> None:
    def predicted(*options: str, command: str = "predict") -> dict[str, int]:
        code, out, err = call(command, *_tiny(tiny_encoders), *options, "--json")
        assert code == 0, err
        return json.loads(out)["memory"]

    on_cpu, on_gpu = predicted("--target", "cpu"), predicted("--context", "300MiB")
    assert on_cpu["memory"] == on_cpu["total"]
    assert {"reserved", "fragmentation", "context"}.isdisjoint(on_cpu)
    assert on_gpu["memory"] == on_gpu["reserved"] + 300 * MIB
    assert predicted("--context", "300MiB", command="explain") == on_gpu
    limit = ["--max", "batch_size", "--limit", "301MiB"]
    code, out, err = call("predict", *_tiny(tiny_encoders), *limit)
    assert (code, out) == (2, "")
    assert "nothing fits; batch_size=1 takes 5" in err, "500 MiB of context alone are too much"
    assert call("predict", *_tiny(tiny_encoders), *limit, "--context", "270MiB")[0] == 0
    assert "memory is for a CPU" in call("predict", *_tiny(tiny_encoders), "--target", "cpu")[1]
    shown = call("explain", *_tiny(tiny_encoders), "--context", "300MiB")[1]
    assert "and 300 MiB of context" in " ".join(shown.split())


def test_the_context_of_a_calibrated_gpu_is_counted(call, tiny_encoders) -> None:
    code, _, err = call("predict", *_tiny(tiny_encoders), "--device", "H100")
    assert code == 2
    assert "--device H100: not calibrated" in err
    measured = Calibration("NVIDIA H100 80GB HBM3", torch.__version__, 9.0, 444 * MIB, 0.01, 0.02, 9)
    save_calibration(measured)
    code, out, _ = call("predict", *_tiny(tiny_encoders), "--device", "H100", "--json")
    document = json.loads(out)
    assert document["memory"]["context"] == 444 * MIB
    assert document["setting"]["compute_capability"] == 9.0
    assert document["calibration"] == measured.to_dict()
    _, shown, _ = call("predict", *_tiny(tiny_encoders), "--device", "H100")
    assert "calibrated on NVIDIA H100 80GB HBM3: predictions of 9 configurations were off by 1.0%" in shown
    given = ["--device", "H100", "--context", "1MiB", "--compute-capability", "9.1", "--json"]
    setting = json.loads(call("predict", *_tiny(tiny_encoders), *given)[1])["setting"]
    assert (setting["context_bytes"], setting["compute_capability"]) == (MIB, 9.1)
    code, _, err = call("predict", *_tiny(tiny_encoders), "--device", "H100", "--target", "cpu")
    assert code == 2
    assert "--device H100 is a GPU; leave out --target cpu" in err


@pytest.mark.slow
def test_this_machine_is_compared_with_predictions(call, tiny_encoders) -> None:
    code, out, err = call("calibrate", *_tiny(tiny_encoders), "--json")
    assert code == 0, err
    document = json.loads(out)
    assert {point["method"] for point in document["points"]} > {"linear", "pmf", "lora", "late_concat"}
    if not torch.cuda.is_available():
        assert document["calibration"] is document["file"] is None
        assert {point["error"] for point in document["points"]} == {0}
        _, shown, _ = call("calibrate", *_tiny(tiny_encoders))
        assert "no GPU to calibrate; on this CPU, predictions differ by 0 bytes at most" in shown


def _search_of(squares: Path, tiny_encoders: dict[str, Path]) -> list[str]:
    return [
        *("--space", "pmf_nas", "--dataset", str(squares), "--image-size", "32"),
        *("--text-encoder", str(tiny_encoders["bert"]), "--image-encoder", str(tiny_encoders["vit"])),
    ]


def _refused(call, cache: Path | str, arguments: list[str], monkeypatch) -> str:
    """Run a search that cannot use its cache, and return its only line."""
    monkeypatch.setenv("PARETOFUSE_CACHE", str(cache))
    code, out, err = call(*arguments)
    (line,) = err.splitlines()
    assert (code, out) == (2, "")
    assert not Path("runs").exists()
    return line


@pytest.mark.parametrize("place", ["/dev/null", "/dev/null/below", "/proc/nothing"])
def test_a_cache_that_cannot_be_used_is_one_line(call, place, squares, tiny_encoders, monkeypatch) -> None:
    line = _refused(call, place, _search_of(squares, tiny_encoders), monkeypatch)
    assert line.startswith("error: ")
    assert place in line
    assert "set PARETOFUSE_CACHE" in line


def test_a_read_only_cache_is_one_line_if_something_is_missing(
    call, small_disk, squares, tiny_encoders, monkeypatch
) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    line = _refused(call, small_disk, _search_of(squares, tiny_encoders), monkeypatch)
    assert line == (
        f"error: {small_disk}/columns cannot be written (Read-only file system); set PARETOFUSE_CACHE "
        "to another folder"
    )


def test_a_cache_on_a_full_disk_is_one_line(call, small_disk, squares, tiny_encoders, monkeypatch) -> None:
    (small_disk / "others").write_bytes(bytes(2**21 - 2**16))
    arguments = [*_search_of(squares, tiny_encoders), "--text-length", "8"]
    line = _refused(call, small_disk, arguments, monkeypatch)
    assert line.startswith(f"error: no space left on the disk or quota of {small_disk}/prepared (")


def test_the_cache_is_shown_and_cleared(call, squares, tiny_encoders, workplace) -> None:
    dataset = open_dataset(str(squares))
    typical_text_length(dataset, "text", resolve_encoder("text", str(tiny_encoders["bert"])))
    (length,) = (path for path in (workplace / "cache" / "columns").glob("*.json"))
    code, out, _ = call("cache")
    assert code == 0
    assert str(workplace / "cache") in out
    code, out, err = call("cache", "--json", "--older-than", "7d")
    document = json.loads(out)
    assert (code, err, document["removed"]) == (0, "", [])
    rows = {row["kind"]: row for row in document["kinds"]}
    assert rows["columns"] | {"unused_seconds": 0} == {
        "kind": "columns",
        "description": "what was measured of columns of datasets",
        "entries": 1,
        "bytes": length.stat().st_size,
        "in_use": 1,
        "unused_seconds": 0,
    }
    assert rows["prepared"]["entries"] == 0
    _, out, _ = call("cache", "--clear", "columns")
    assert f"kept {length} (in use)" in out.splitlines()
    release(length)
    _, out, _ = call("cache", "--clear", "columns")
    assert f"removed {length} (0 MiB)" in out.splitlines()
    assert not length.exists()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["everything"], ["unknown kind of cache entry 'everything'", "prepared", "features"]),
        (["--older-than", "-3d"], ["'-3d' is not a duration"]),
        (["--max-size", "0"], ["'0' is not a size"]),
    ],
)
def test_mistakes_about_the_cache_are_one_line(call, arguments, expected) -> None:
    code, out, err = call("cache", *arguments)
    assert (code, out) == (2, "")
    (line,) = err.splitlines()
    assert all(text in line for text in expected)


def test_a_command_that_is_interrupted_says_so(monkeypatch, capsys) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("search.api.run_search", interrupted)
    monkeypatch.setattr(sys, "argv", ["search.py", "--space", "pmf_nas"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 130
    assert capsys.readouterr().err == "interrupted\n"
