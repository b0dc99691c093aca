"""Whole searches on a real local Ray, with small encoders and data."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from mlflow.tracking import MlflowClient
from rich.console import Console

from search import SearchConfig, cli, resume_search, run_search, train
from search.config import SearchConfig as SearchConfigClass
from search.engine.searcher import ParetoSearcher
from search.nodes import Node
from search.records.store import SearchStore
from search.reporting.report.document import document_of
from search.setup import look_up
from search.units import GIB
from tests.conftest import EXAMPLE_PLUGIN, ROOT
from tests.search.on_ray import ray_in
from trainables.errors import UserError
from trainables.towers import load_tower, resolve_encoder

pytestmark = pytest.mark.ray

#: Recorded trials, in place of trainings.
REPLAYED = ROOT / "benchmarks/tables/pmf_nas.parquet"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, ray_address: str, empty_store: Path) -> Iterator[Path]:
    """One folder and cache for the module."""
    folder = tmp_path_factory.mktemp("searches")
    with ray_in(folder, ray_address, empty_store):
        yield folder


@pytest.fixture(scope="module")
def settings(place, tiny_encoders, squares) -> dict[str, Any]:
    """Settings of a search that takes seconds."""
    return {
        "space": "pmf_nas",
        "dataset": str(squares),
        "text_encoder": str(tiny_encoders["bert"]),
        "image_encoder": str(tiny_encoders["vit"]),
        "num_samples": 6,
        "epochs": 2,
        "batch_size": 8,
        "image_size": 32,
        "storage_path": str(place / "runs"),
        "tracking_uri": f"sqlite:///{place}/mlflow.db",
        "max_memory": 4 * 2**20,
        "target": "cpu",
        "probe": False,
        # Starting a second worker takes longer than all that it would do.
        "max_concurrent": 1,
    }


def _nobody_else_scores(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("search.ending.score_on_test", lambda *_, **__: pytest.fail("not the trials scored"))


@pytest.fixture(scope="module")
def finished(settings) -> Any:
    """One search that ran to its end, two trials at a time."""
    with pytest.MonkeyPatch.context() as patch:
        _nobody_else_scores(patch)
        return run_search(SearchConfig(**settings | {"max_concurrent": 2}, name="first"))


def test_document(finished) -> None:
    document = json.loads(json.dumps(finished.to_dict()))
    assert list(document) == [
        "name",
        "space",
        "parent_run_id",
        "trials",
        "infeasible",
        "out_of_memory",
        "diverged",
        "failed",
        "set_aside",
        "hypervolume",
        "front",
        "probe",
        "verdict",
        "untested",
        "unmet",
        "methods",
        "memory",
        "seconds",
    ]
    assert document["trials"] == 6
    assert document["failed"] == 0
    assert document["infeasible"] > 0
    assert 0 < document["hypervolume"] < 1
    for member in document["front"]:
        assert member["memory"] <= 4 * 2**20 / 2**30
        assert 0 <= member["accuracy"] <= 1
        assert 0 <= member["test_accuracy"] <= 1
        assert member["trainable_parameters"] > 0
        assert member["config"]["method"] == "pmf"
        assert 0 < member["p_front"] <= 1
        assert {"accuracy", "test_accuracy"} <= set(member["standard_error"])
        assert list(member["robustness"]) == ["text", "image"]
        assert all(0 <= without["accuracy"] <= 1 for without in member["robustness"].values())
    # On a CPU the tensors of a real step are tracked: they are the predicted ones, to the byte
    assert len(document["memory"]) == 6
    assert all(row["error"] == 0 for row in document["memory"])
    assert all(row["expected"] < row["memory"] for row in document["memory"])
    memories = [member["memory"] for member in document["front"]]
    accuracies = [member["accuracy"] for member in document["front"]]
    assert memories == sorted(memories)
    assert accuracies == sorted(accuracies)
    assert {"set-up", "start of workers", "training", "test scoring", "end"} <= set(document["seconds"])
    assert all(seconds >= 0 for seconds in document["seconds"].values())


def test_its_report_says_what_the_result_says(finished) -> None:
    (search,) = document_of([finished.place])["searches"]
    rows = {row["id"]: row for row in search["trials"]}
    assert search["members"] == [member["trial_id"] for member in finished.front]
    for member in finished.front:
        row = rows[member["trial_id"]]
        assert row["values"]["accuracy"] == member["accuracy"]
        assert row["test"]["accuracy"] == member["test_accuracy"]
        for name in ("p_front", "p_better", "standard_error", "robustness", "run_id"):
            assert row[name] == member[name]
    assert sum(row["status"] == "infeasible" for row in rows.values()) == finished.infeasible
    assert search["progress"][-1]["hypervolume"] == finished.hypervolume
    assert (search["state"], search["verdict"]) == ("finished", finished.verdict)
    page = (Path(finished.folder) / "report.html").read_text()
    for name in ("members", "progress", "classes"):
        assert json.dumps(search[name], separators=(",", ":"))[:200] in page, "it was made at the end"


def test_mlflow_holds_parent_children_and_front(finished, settings) -> None:
    client = MlflowClient(settings["tracking_uri"])
    parent = client.get_run(finished.parent_run_id)
    experiment = [parent.info.experiment_id]
    assert parent.info.status == "FINISHED"
    assert parent.data.params["space"] == "pmf_nas"
    assert parent.data.params["objectives"] == "memory,accuracy"
    assert "learning_rate" not in parent.data.params, "it has its default"
    (of_parent,) = parent.inputs.dataset_inputs
    assert json.loads(of_parent.dataset.profile)["rows"]["train"] == 48
    document = Path(client.download_artifacts(parent.info.run_id, "settings.json")).read_text()
    assert json.loads(document)["resolved"]["encoder"]["text"]["pooling"] == "cls"
    series = client.get_metric_history(parent.info.run_id, "hypervolume")
    values = [metric.value for metric in sorted(series, key=lambda metric: metric.step)]
    assert len(values) == 6
    assert values == sorted(values), "what is dominated stays dominated"
    artifacts = {file.path for file in client.list_artifacts(parent.info.run_id)}
    assert {"settings.json", "front.json", "front.png", "infeasible.json"} <= artifacts

    mine = f"tags.`mlflow.parentRunId` = '{finished.parent_run_id}'"
    children = client.search_runs(experiment, mine)
    assert len(children) == 6
    for child in children:
        assert child.info.status == "FINISHED"
        assert {"method", "n_fusion_layers", "learning_rate"} <= set(child.data.params)
        assert {"accuracy", "memory", "loss", "predicted.activations"} <= set(child.data.metrics)
        assert len(client.get_metric_history(child.info.run_id, "accuracy")) == 2
        assert child.data.metrics["predicted.total"] == child.data.metrics["memory"]
        (of_child,) = child.inputs.dataset_inputs
        assert of_child.dataset == of_parent.dataset
    tagged = client.search_runs(experiment, f"{mine} and tags.front = 'true'")
    assert {run.info.run_id for run in tagged} == {member["run_id"] for member in finished.front}
    assert all({"test.accuracy", "test.accuracy.without_image"} <= set(run.data.metrics) for run in tagged)
    assert all("standard_error.accuracy" in run.data.metrics for run in tagged)
    assert all("p_front" in run.data.metrics for run in children)


def test_run_folder_tells_what_was_run(finished) -> None:
    folder = Path(finished.folder)
    config = SearchConfigClass.from_json((folder / "config.json").read_text())
    assert config.run_name == "first"
    assert json.loads((folder / "result.json").read_text()) == finished.to_dict()
    assert (folder / "front.png").stat().st_size > 5000
    kept = {path.name.partition(".")[0] for path in folder.glob("outputs/*.validation.npy")}
    assert len(kept) == finished.trials
    assert all((folder / "outputs" / f"{row['trial_id']}.test.npy").exists() for row in finished.front)


def test_each_seed_is_trained_with_its_own_seed(settings) -> None:
    # The constraint leaves two that are nearly equal: which one is the best is luck, and so is which of
    # them gets the two repeats. Both depend on the precision.
    alike = {"num_samples": 3, "epochs": 1, "objectives": ("loss",), "constraints": ("loss>=1",)}
    alike |= {"head_start": "random", "keep": "last", "max_memory": 3 * 2**20}
    alike |= {"precision": "fp32"}
    raced = run_search(SearchConfig(**settings | alike, name="seeds", seeds=3))
    assert raced.trials == len(_losses(raced)) == 5, "two repeats, as for a front of one"
    (member,) = raced.front
    runs = _losses_of(raced, member["trial_id"])
    assert member["seeds"] == len(runs) >= 2
    assert member["loss"] == pytest.approx(fmean(runs))
    assert member["spread"]["loss"] > 0
    assert 0 < member["p_front"] < 1
    more = resume_search("seeds", storage_path=settings["storage_path"], seeds=5)
    assert _losses(raced) <= _losses(more)
    assert len(_losses(more)) == 7, "repeats after a resume have seeds of their own"


@pytest.fixture(scope="module")
def trained(settings) -> Any:
    """One configuration, trained with two seeds."""
    own = {"space", "num_samples", "max_memory", "probe"}
    options = {name: value for name, value in settings.items() if name not in own}
    return train(
        "text_only",
        {"learning_rate": 1e-3},
        **options,
        name="trained",
        seeds=2,
        recipe="wander",
        train_rows=40,
    )


def test_one_configuration_is_trained_with_all_its_seeds(trained) -> None:
    document = json.loads(json.dumps(trained.to_dict()))
    assert document == json.loads((Path(trained.folder) / "result.json").read_text())
    (member,) = document["front"]
    assert document["trials"] == member["seeds"] == 2
    assert member["config"] == {"method": "text_only", "learning_rate": 1e-3}
    runs = _losses_of(trained, member["trial_id"])
    assert member["loss"] == pytest.approx(fmean(runs))
    for metric in ("accuracy", "macro_f1", "loss"):
        assert {metric, f"test_{metric}"} <= member.keys() & member["spread"].keys()
    assert (Path(trained.folder) / member["weights"] / "weights.safetensors").is_file()


def test_what_a_training_was_told_is_recorded(trained, settings) -> None:
    config = SearchConfigClass.from_json((Path(trained.folder) / "config.json").read_text())
    assert (config.configuration.method, config.trial.recipe) == ("text_only", "wander")
    assert config.recipe.schedule == "exponential", "the recipe's"
    assert config.step.batch_size == settings["batch_size"], "what was given comes before the recipe"
    run = MlflowClient(settings["tracking_uri"]).get_run(trained.parent_run_id)
    assert {
        "method": "text_only",
        "recipe": "wander",
        "decay_epochs": "30",
        "train_rows": "40",
    }.items() <= run.data.params.items()
    profile = json.loads(run.inputs.dataset_inputs[0].dataset.profile)
    assert profile["rows"] == {"train": 48, "validation": 12, "test": 12}, "those of the dataset"


def test_a_trained_encoder_is_an_encoder_of_a_later_search(trained, settings) -> None:
    folder = trained.encoders["text"]
    assert Path(folder) == Path(trained.folder) / "encoders" / "text"
    config = SearchConfig(**{**settings, "text_encoder": folder, "name": "later"})
    later = look_up(config).backend.encoders["text"]
    first = resolve_encoder("text", settings["text_encoder"])
    assert (later.width, later.pooling) == (first.width, first.pooling)
    assert later.fingerprint() != first.fingerprint(), "nothing cached for the other is taken for it"
    changed = [
        not torch.equal(one, other)
        for one, other in zip(load_tower(later).parameters(), load_tower(first).parameters(), strict=True)
    ]
    assert all(changed)


def test_nothing_of_the_test_split_reaches_a_choice(settings, squares, tmp_path) -> None:
    poisoned = shutil.copytree(squares, tmp_path / "squares")
    rows = pq.read_table(poisoned / "test.parquet")
    others = {"red": "green", "green": "blue", "blue": "red"}
    labels = [others[label] for label in rows["label"].to_pylist()]
    pq.write_table(rows.set_column(2, "label", [labels]), poisoned / "test.parquet")
    # One at a time, because what the sampler proposes depends on which trial ends first.
    few = {**settings, "num_samples": 5, "epochs": 1, "objectives": ("memory", "loss")}
    clean = run_search(SearchConfig(**few, name="clean"))
    result = run_search(SearchConfig(**few | {"dataset": str(poisoned)}, name="poisoned"))

    def chosen(found: Any) -> list[dict[str, Any]]:
        known = {"trial_id", "memory", "loss", "p_front", "p_better", "config"}
        return [{name: row[name] for name in known} for row in found.front]

    assert chosen(result) == chosen(clean)
    assert _losses(result) == _losses(clean)
    tests = [[row["test_loss"] for row in found.front] for found in (result, clean)]
    assert all(one != other for one, other in zip(*tests, strict=True))


def _losses_of(result: Any, trial_id: str) -> list[float]:
    """Validation losses of a trial and its repeats."""
    trials = SearchStore.read(Path(result.folder)).trials()
    return [epochs[-1]["loss"] for name, trial, epochs in trials if trial_id in (name, trial["repeat_of"])]


def _losses(result: Any) -> set[float]:
    """Distinct validation losses of a search's trials."""
    store = SearchStore.read(Path(result.folder))
    return {epochs[-1]["loss"] for _, _, epochs in store.trials()}


def test_a_name_is_used_once(finished, settings) -> None:
    with pytest.raises(UserError, match="holds a search of that name already"):
        run_search(SearchConfig(**settings, name="first"))


def test_workers_score_their_own_trials(finished, settings, monkeypatch) -> None:
    assert all(0 <= row["test_accuracy"] <= 1 for row in finished.front)
    copy = shutil.copytree(finished.folder, Path(finished.folder).with_name("own"))
    _nobody_else_scores(monkeypatch)
    resumed = resume_search("own", storage_path=settings["storage_path"], num_samples="+1")
    assert resumed.trials == finished.trials + 1
    assert all("test_accuracy" in row for row in resumed.front)
    tested = {trial_id for trial_id, document, _ in SearchStore.read(copy).trials() if document["test"]}
    # Those that a later trial has put off the front since were scored, too
    assert tested >= {row["trial_id"] for row in [*resumed.front, *resumed.methods]}


@pytest.mark.full
def test_the_precision_follows_the_devices_and_stays(settings, monkeypatch) -> None:
    few = {**settings, "num_samples": 1, "epochs": 1, "max_memory": None}
    monkeypatch.setattr("search.nodes.cpu_computes_in_bf16", lambda: True)
    heard = io.StringIO()
    result = run_search(SearchConfig(**few, name="native"), console=Console(file=heard, width=300))
    assert "precision bf16-frozen: this machine's CPU computes in bfloat16\n" in heard.getvalue()

    monkeypatch.setattr("search.nodes.cpu_computes_in_bf16", lambda: False)
    heard = io.StringIO()
    console = Console(file=heard, width=300)
    resumed = resume_search(
        "native", storage_path=settings["storage_path"], num_samples="+1", console=console
    )
    assert "so that bf16-frozen is slow\n" in heard.getvalue()
    assert json.loads((Path(result.folder) / "config.json").read_text())["precision"] == "bf16-frozen"
    # What is trained is what was predicted, in that precision
    assert [row["error"] for row in resumed.memory] == [0, 0]
    found = look_up(SearchConfig(**few))
    for row in resumed.memory:
        frozen, full = (
            found.in_precision(precision).backend.predictor.predict_configuration(row["config"]).memory / GIB
            for precision in ("bf16-frozen", "fp32")
        )
        assert row["memory"] == frozen < full


def test_refuses_to_wait_for_devices_that_will_not_come(settings, monkeypatch) -> None:
    with pytest.raises(UserError, match="--gpu-memory: there is no GPU here"):
        run_search(SearchConfig(**settings, name="waiting", gpu_memory=2**30))
    monkeypatch.setattr("search.running.find_nodes", lambda _: [Node(cpus=2, memory=2**20)])
    with pytest.raises(UserError, match="of a device, and a trial can have 1 MiB here"):
        run_search(SearchConfig(**settings, name="waiting", precision="fp32"))
    assert not Path(settings["storage_path"], "waiting").exists()


@pytest.mark.full
def test_other_objectives_settings_and_augmentation(settings) -> None:
    result = run_search(
        SearchConfig(
            **{**settings, "num_samples": 2, "epochs": 1},
            name="objectives",
            objectives=("params", "loss", "macro_f1", "inference_memory"),
            sampler="nsga2",
            augment="shift-flip",
            feature_cache=False,
            gradient_checkpointing="search",
            gradient_accumulation=2,
            precision="bf16-frozen",
        )
    )
    assert result.trials == 2
    assert all("gradient_checkpointing" in row["config"] for row in result.memory)
    assert all(row["error"] == 0 for row in result.memory)
    assert {"params", "loss", "macro_f1"} <= set(result.front[0])
    assert all(0 < row["inference_memory"] < row["memory"] for row in result.front)


@pytest.fixture(scope="module")
def compared(settings, tmp_path_factory) -> Any:
    """A search over two methods, one of which is a plugin's, with a probe."""
    own = tmp_path_factory.mktemp("plugin") / "own.py"
    own.write_text(
        "from spaces import SPACES, register_space, union\n"
        "members = lambda: [SPACES['linear'], SPACES['gated_fusion']]\n"
        "register_space(union('two', 'a baseline and an own method', members))\n"
    )
    plugins = (str(EXAMPLE_PLUGIN), str(own))
    changes = {"space": "two", "num_samples": 2, "probe": True, "plugins": plugins, "name": "two"}
    config = SearchConfig(**{**settings, **changes})
    assert SearchConfig.from_json(config.to_json()).extensions.plugins == plugins
    return run_search(config)


def test_a_search_over_methods_compares_them_and_takes_them_from_a_plugin(compared, settings) -> None:
    assert compared.trials == 2
    assert {row["config"]["method"] for row in compared.methods} == {"linear", "gated_fusion"}
    assert all(row["trials"] == 1 and row["test_accuracy"] is not None for row in compared.methods)
    accuracies = [row["accuracy"] for row in compared.methods]
    assert accuracies == sorted(accuracies, reverse=True)
    on_front = {row["trial_id"] for row in compared.methods if row["on_front"]}
    assert on_front == {row["trial_id"] for row in compared.front if row["trial_id"].startswith("trial")}
    client = MlflowClient(settings["tracking_uri"])
    assert "methods.json" in {file.path for file in client.list_artifacts(compared.parent_run_id)}


def test_the_probe_stands_beside_what_was_found(compared, settings, monkeypatch) -> None:
    probe, linear = compared.probe, next(r for r in compared.methods if r["config"]["method"] == "linear")
    assert probe["trial_id"] == probe["config"]["method"] == "probe"
    assert probe["trainable_parameters"] == linear["trainable_parameters"]
    assert 0 < probe["memory"] < linear["memory"]
    assert probe["accuracy"] == 1, "colours of squares are separable"
    assert set(probe["modalities"]) == {"text", "image"}
    assert probe["modalities"]["text"]["accuracy"] < 1, "half of the texts say nothing"
    assert probe["best_reading"]["test_accuracy"] == 1
    front = {row["trial_id"] for row in compared.front}
    assert {"probe:image"} <= front <= {"probe", "probe:text", "probe:image", "trial-000", "trial-001"}
    assert compared.verdict.startswith("nothing found is better than the probe by more than luck: the best, ")
    folder = Path(compared.folder)
    assert json.loads((folder / "result.json").read_text())["probe"] == probe
    kept = {path.name for path in (folder / "outputs").glob("probe*")}
    assert kept == {
        f"probe{of}.{split}.npy" for of in ("", ":text", ":image") for split in ("validation", "test")
    }

    client = MlflowClient(settings["tracking_uri"])
    run = client.get_run(probe["run_id"])
    assert run.data.tags["kind"] == "probe"
    assert run.data.metrics["test.accuracy"] == 1
    parent = client.get_run(compared.parent_run_id)
    assert parent.data.tags["verdict"] == compared.verdict
    note = parent.data.tags["mlflow.note.content"]
    assert f"**{compared.verdict}**" in note
    assert f"[probe](#/experiments/1/runs/{probe['run_id']}?" in note or "probe" not in front
    assert "--resume" in note
    assert parent.data.metrics["trials"] == 2

    monkeypatch.setattr("search.execution.probing.run_watched", lambda *_, **__: pytest.fail("run again"))
    resumed = resume_search("two", storage_path=settings["storage_path"])
    assert resumed.probe == probe
    assert resumed.verdict == compared.verdict


def _command(settings: dict[str, Any], *more: str) -> list[str]:
    options = {k: v for k, v in settings.items() if k not in ("max_memory", "probe")}
    pairs = [x for k, v in options.items() for x in (f"--{k.replace('_', '-')}", str(v))]
    return [sys.executable, "-m", "search", *pairs, "--no-probe", *more]


def test_json_is_all_there_is_on_standard_output(settings, monkeypatch, capfd) -> None:
    # Relative paths, as people type them; workers run in other folders.
    relative = {name: os.path.relpath(settings[name]) for name in ("dataset", "text_encoder", "storage_path")}
    quick = {**settings, **relative, "num_samples": 1, "epochs": 1}
    monkeypatch.setattr(sys, "argv", _command(quick, "--name", "process", "--json")[2:])
    capfd.readouterr()
    with pytest.raises(SystemExit) as ended:
        cli.main()
    out, err = capfd.readouterr()
    assert not ended.value.code, err
    assert json.loads(out)["trials"] == 1
    assert "Traceback" not in err


def test_a_constraint_that_no_trial_meets_is_named(settings, monkeypatch, capsys) -> None:
    kept = {name: settings[name] for name in ("space", "storage_path", "tracking_uri")}
    quick = {**kept, "replay": REPLAYED, "num_samples": 1, "epochs": 1}
    quick["target"] = "cpu"
    command = _command(quick, "--name", "unmet", "--constraint", "loss<=0.0001")
    monkeypatch.setattr(sys, "argv", command[2:])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 1
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].startswith("no front: 1 trials")
    assert shown[1].startswith(
        "no trial met the constraints: the nearest, trial-000, misses loss<=0.0001 by "
    )
    document = json.loads((Path(settings["storage_path"]) / "unmet" / "result.json").read_text())
    (missed,) = document["unmet"]
    assert missed["nearest"] == pytest.approx(missed["missed_by"] + 0.0001)
    assert document["front"] == []


def test_ctrl_c_ends_with_the_front_so_far(settings) -> None:
    """The process has a Ray of its own."""
    command = _command({**settings, "num_samples": 500, "epochs": 1}, "--name", "stopped")
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    client = MlflowClient(settings["tracking_uri"])
    deadline = time.time() + 300
    while time.time() < deadline:
        time.sleep(0.2)
        parents = client.search_runs(["1"], "tags.`mlflow.runName` = 'stopped' and metrics.trials >= 3")
        if parents:
            break
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130, out + err
    assert "Pareto front of 'stopped'" in out
    assert "interrupted" in out
    assert "--resume stopped" in out
    assert "Traceback" not in out + err
    report = Path(settings["storage_path"]) / "stopped" / "report.html"
    assert f"report: {report}" in out
    assert '"state":"interrupted"' in report.read_text()
    assert client.get_run(parents[0].info.run_id).info.status == "KILLED"
    folder = Path(settings["storage_path"]) / "stopped"
    front = json.loads((folder / "result.json").read_text())["front"]
    assert all((folder / member["model"] / "MLmodel").is_file() for member in front)


@pytest.mark.parametrize("time_budget", [None, 600])
def test_ctrl_c_between_two_trials_is_no_end(settings, monkeypatch, time_budget) -> None:
    told = ParetoSearcher.on_trial_complete

    def interrupt(*args: Any, **result: Any) -> None:
        told(*args, **result)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(ParetoSearcher, "on_trial_complete", interrupt)
    kept = {name: settings[name] for name in ("space", "storage_path", "tracking_uri", "max_concurrent")}
    kept |= {"replay": str(REPLAYED), "target": "cpu", "epochs": 1, "time_budget": time_budget}
    result = run_search(SearchConfig(**kept, num_samples=9, name=f"between-{time_budget}"))
    assert result.trials == 1
    assert result.interrupted
    assert result.signal == signal.SIGINT
    run = MlflowClient(settings["tracking_uri"]).get_run(result.parent_run_id)
    assert run.info.status == "KILLED"


@pytest.mark.full
def test_what_workers_say_is_shown_once(settings) -> None:
    shown = io.StringIO()
    little = {
        "space": "linear",
        "num_samples": 2,
        "max_concurrent": 2,
        "epochs": 1,
        "feature_cache_size": 1000,
        "image_size": 24,  # what other searches have cached is of no use
        "max_memory": None,
    }
    result = run_search(SearchConfig(**settings | little, name="little"), console=Console(file=shown))
    assert result.trials == 2
    lines = [line for line in shown.getvalue().splitlines() if "cannot be cached" in line]
    assert lines
    assert len(lines) == len(set(lines))
    assert all("see --feature-cache-size. Every step computes them" in line for line in lines)
