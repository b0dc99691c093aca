"""The commands of members of a front."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from search.config import SearchConfig
from search.exporting.commands import commands_of, train_command, usage
from search.records.place import Place

PMF = {"method": "pmf", "n_fusion_layers": 2, "learning_rate": 0.00123456789}


@pytest.fixture
def place(workplace: Path) -> Place:
    """A search in a folder with a space in its name, as its files describe it."""
    found = Place(str(workplace / "my runs"), "one")
    found.folder.mkdir(parents=True)
    config = SearchConfig(space="pmf_nas", name="one", storage_path=str(workplace / "elsewhere"), epochs=2)
    (found.folder / "config.json").write_text(config.to_json())
    inside = found.folder / "models" / "trial-003"
    inside.mkdir(parents=True)
    inputs = {"caption": {"kind": "text"}, "face": {"kind": "features"}}
    (inside / "config.json").write_text(json.dumps({"inputs": inputs}))
    return found


def settings(place: Place) -> SearchConfig:
    """The settings of a search, wherever it was when they were written."""
    path = place.folder / "config.json"
    return SearchConfig.from_json(path.read_text(), path).replace(name=place.name, storage_path=place.storage)


def row(**changes: Any) -> dict[str, Any]:
    return {"trial_id": "trial-003", "config": PMF, "model": "models/trial-003", **changes}


def test_each_command_names_the_model_as_a_shell_reads_it(place) -> None:
    found = commands_of(row(), settings(place))
    assert list(found) == ["train", "export", "load", "apply", "score", "serve"]
    folder = "my runs/one/models/trial-003"
    assert shlex.split(found["export"])[1:] == [
        "export",
        "my runs/one",
        "one-trial-003",
        "--member",
        "trial-003",
    ]
    assert shlex.split(found["apply"])[1:] == ["apply", folder, "openclipart", "--out", "predictions.csv"]
    assert shlex.split(found["serve"])[:5] == ["mlflow", "models", "serve", "-m", folder]
    assert f"--storage-path '{place.storage}'" in found["train"]


def test_loading_is_python_with_a_row_of_the_models_modalities(place) -> None:
    load = commands_of(row(), settings(place))["load"]
    compile(load, "load", "exec")
    assert '"caption": "' in load
    assert '"face": numpy.load("face.npy")' in load
    assert len(usage("m", {"text": "text", "image": "image"})["load"].splitlines()) == 3


def test_what_has_no_model_is_trained_again(place) -> None:
    assert list(commands_of(row(model=None), settings(place))) == ["train"]


def test_a_probe_is_fitted_again_by_a_search(place) -> None:
    probe = {"method": "probe:text", "strength": 0.1}
    words = shlex.split(commands_of(row(config=probe), settings(place))["train"])
    assert words[1:5] == ["--space", "pmf_nas", "--num-samples", "1"]
    assert "train" not in words


def test_a_remote_model_is_exported_first(workplace, monkeypatch) -> None:
    place = Place("s3://bucket/runs", "far")
    config = SearchConfig(space="pmf_nas", name="far", storage_path=place.storage)
    place.folder.mkdir(parents=True)
    (place.folder / "config.json").write_text(config.to_json())
    found = commands_of(row(), settings(place))
    assert "export s3://bucket/runs/far far-trial-003 " in found["export"]
    assert 'load_model("far-trial-003")' in found["load"]


def test_options_of_other_gpus_matter_only_for_gpus() -> None:
    of_cuda = SearchConfig(space="pmf_nas", target="cuda", compute_capability=9.0)
    of_cpu = SearchConfig(space="pmf_nas", target="cpu", compute_capability=9.0)
    assert "--compute-capability 9" in train_command(PMF, of_cuda)
    assert "--compute-capability" not in train_command(PMF, of_cpu)


def test_commands_run_no_plugin_which_may_be_somebody_elses(workplace) -> None:
    plugin = workplace / "theirs.py"
    plugin.write_text(f"open({str(workplace / 'was run')!r}, 'w')")
    config = SearchConfig(space="pmf_nas", name="one", plugins=(str(plugin),))
    assert "--plugin" in commands_of(row(model=None), config)["train"]
    assert not (workplace / "was run").exists()
