"""What MLflow's own pages show of a run: its dataset, its source, and the kind of its experiment."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import mlflow.data
import pytest
from mlflow.tracking import MlflowClient
from mlflow.types import Schema

from search.backends.base import Material
from search.config import SearchConfig
from search.reporting import origin
from search.reporting.mlflow_dataset import dataset_input
from search.reporting.news import About, as_text


@pytest.mark.parametrize(
    ("dataset", "included", "name", "source"),
    [
        ("openclipart", True, "openclipart", "code"),
        ("/data/mine/posts.csv", False, "posts.csv", "local"),
        ("webdataset:/data/mine", False, "mine", "local"),
        ("hf:me/posts", False, "me/posts", "hugging_face"),
    ],
)
def test_mlflow_reads_the_dataset(dataset, included, name, source) -> None:
    material = Material(
        dataset,
        "f00d",
        included,
        {"train": 3, "validation": 2, "test": 1},
        {"text": ("title", "text"), "image": ("picture", "image"), "face": ("au", "features")},
        ("tags", "multilabel"),
    )
    entry = dataset_input(material)
    assert [(tag.key, tag.value) for tag in entry.tags] == [("mlflow.data.context", "training")]
    found = entry.dataset
    assert (found.name, found.digest, found.source_type) == (name, "f00d", source)
    assert mlflow.data.get_source(found)._get_source_type() == source
    schema = Schema.from_json(json.dumps(json.loads(found.schema)["mlflow_colspec"]))
    assert schema.input_names() == ["title", "picture", "au", "tags"]
    assert json.loads(found.profile) == {
        "rows": {"train": 3, "validation": 2, "test": 1},
        "modalities": {"text": "text in title", "image": "image in picture", "face": "features in au"},
        "label": "multilabel by tags",
    }


def test_a_table_of_recorded_trials_is_a_dataset_without_columns() -> None:
    found = dataset_input(Material("/data/table.parquet", "f00d", False, {"recorded": 9}, {}, None)).dataset
    assert (found.name, found.schema, json.loads(found.profile)) == (
        "table.parquet",
        None,
        {"rows": {"recorded": 9}},
    )


def test_parameters_are_what_differs_from_the_defaults() -> None:
    config = SearchConfig(space="pmf_nas", max_memory=800 * 2**20, objectives=("memory", "accuracy"), seed=0)
    about = About.of(config, {}, "id")
    assert about.params == {"space": "pmf_nas", "max_memory": "800MiB", "objectives": "memory,accuracy"}
    fewer = SearchConfig(space="pmf_nas", strategy="oneshot", sampler="evolution")
    assert About.of(fewer, {}, "id").params == {"space": "pmf_nas", "strategy": "oneshot"}
    of_recipe = About.of(SearchConfig(space="pmf_nas", recipe="wander"), {}, "id").params
    assert (of_recipe["recipe"], of_recipe["decay_epochs"]) == ("wander", "30")
    for lacks in ("tracking_uri", "experiment", "name", "storage_path"):
        assert lacks not in of_recipe


def test_values_are_texts_that_people_write() -> None:
    assert as_text(["a", "b"]) == "a, b"
    assert as_text(["a,b", "c"]) == '["a,b", "c"]'
    assert as_text({"a": [1]}) == '{"a": [1]}'
    assert as_text(None) == "None"
    assert len(as_text("x" * 9000)) == 500


def test_the_source_is_the_command_without_secrets(monkeypatch) -> None:
    for name in ("MLFLOW_TRACKING_USERNAME", *origin._OF_JOBS):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LOGNAME", "ada")
    arguments = ["search.py", "--space", "pmf_nas", "--tracking-uri", "http://me:geheim@there?token=17"]
    monkeypatch.setattr(sys, "argv", arguments)
    tags = origin.origin_tags()
    assert tags["mlflow.user"] == "ada"
    assert tags["mlflow.source.type"] == "LOCAL"
    assert tags["mlflow.source.name"] == (
        "python search.py --space pmf_nas --tracking-uri 'http://***@there?token=***'"
    )
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "grace")
    tags = origin.origin_tags()
    assert (tags["mlflow.user"], tags["mlflow.source.type"]) == ("grace", "JOB")


def test_a_user_whom_the_machine_does_not_know_is_unknown(monkeypatch) -> None:
    monkeypatch.setattr("getpass.getuser", lambda: {}["no such user"])
    assert origin.user() == "unknown"


def test_the_commit_is_that_of_the_code_and_of_no_folder_above(tmp_path) -> None:
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    assert origin.commit_of(tmp_path) is None
    subprocess.run([*git, "init", "-q"], check=True)
    assert origin.commit_of(tmp_path) is None, "nothing is committed"
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "x"], check=True)
    commit = origin.commit_of(tmp_path)
    assert commit is not None
    assert len(commit) == 40
    installed = tmp_path / "site-packages"
    installed.mkdir()
    assert origin.commit_of(installed) is None


DOCS = Path(__file__).parents[3] / "docs"


def filters() -> list[str]:
    section = (DOCS / "mlflow.md").read_text().split("\n## Only the front")[1].split("\n## ")[0]
    return re.findall(r"^\|[^|]*\| `([^`]*)`", section, re.MULTILINE)


def test_mlflow_takes_the_filters_of_the_guide(empty_store, workplace) -> None:
    shutil.copy(empty_store, workplace / "mlflow.db")
    client = MlflowClient(f"sqlite:///{workplace}/mlflow.db")
    parent = client.create_run("1", tags={"kind": "search"}).info.run_id
    tags = {"kind": "trial", "front": "true", "status": "out_of_memory", "mlflow.parentRunId": parent}
    run = client.create_run("1", tags=tags).info.run_id
    client.log_param(run, "method", "pmf")
    client.log_metric(run, "memory", 0.5)
    digest = next(each for each in filters() if "digest" in each).split('"')[1]
    material = Material("posts", digest, True, {"train": 1}, {}, None)
    client.log_inputs(parent, [dataset_input(material)])
    found = {
        each: [of.info.run_id for of in client.search_runs(["1"], each.replace('"ID"', f'"{parent}"'))]
        for each in filters()
    }
    assert len(found) == 7
    for condition, ids in found.items():
        assert ids == [parent if "search" in condition or "digest" in condition else run], condition


def test_the_guide_shows_pictures_that_are_small() -> None:
    shown = re.findall(r"\]\((mlflow-\w+\.png)\)", (DOCS / "mlflow.md").read_text())
    assert set(shown) == {path.name for path in DOCS.glob("mlflow-*.png")}
    assert all((DOCS / name).stat().st_size < 200_000 for name in shown)
