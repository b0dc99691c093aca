"""The papers' commands run on the papers' sets of extracted features, which are small here."""

from __future__ import annotations

import importlib
import io
import itertools
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rich.console import Console

from search import SearchConfig, cli
from search.result import SearchResult
from search.setup import look_up, set_up
from tests.feature_sets import EXPERTS, SIZES, mmsa, mult, write_msrvtt, write_pickle
from tests.search.on_ray import ray_in
from trainables.towers import load_tower, resolve_encoder

Asked = Callable[[str], SearchConfig]

DATASETS: dict[str, Callable[[Path], Path]] = {
    "mosi": lambda folder: write_pickle(folder / "aligned_50.pkl", mmsa()),
    "mosei": lambda folder: write_pickle(folder / "mosei_senti_data.pkl", mult()),
    "iemocap": lambda folder: write_pickle(folder / "iemocap_data.pkl", mult("emotions")),
    "msrvtt": write_msrvtt,
}
TASKS = {"mosi": "regression", "mosei": "regression", "iemocap": "multilabel", "msrvtt": "retrieval"}


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory, tiny_encoders: dict[str, Path]) -> dict[str, str]:
    """What stands here for words in the commands: small datasets and encoders."""
    folder = tmp_path_factory.mktemp("features")
    places = {f"{name}:FOLDER": f"{name}:{write(folder / name)}" for name, write in DATASETS.items()}
    for modality, size in {**SIZES, **EXPERTS}.items():
        source = f"features:dim={size},width=32,depth=3,heads=4,max_length=30"
        tower = load_tower(resolve_encoder(modality, source, kind="features"))
        tower.model.save_pretrained(folder / "hosts" / modality)
        places[f"{modality}=HOST_FOLDER/{modality}"] = f"{modality}={folder}/hosts/{modality}"
    return {**places, "bert-base-uncased": str(tiny_encoders["bert"])}


def _commands(dataset: str) -> Iterator[list[str]]:
    """Yield the commands of each of the paper's experiments on a dataset."""
    tables = importlib.import_module("paper_tables")
    paper = tables.read("wander")
    for experiment in paper.experiments:
        commands = [each for row in (None, *experiment.rows) for each in paper.commands(experiment, row)]
        yield [command for command in commands if f"--dataset {dataset}:FOLDER " in command]


def _small(command: str, words: dict[str, str]) -> str:
    """Return a command with the small datasets and encoders, as a CPU computes it."""
    return " ".join([*(words.get(word, word) for word in command.split()), "--target cpu --batch-size 4"])


@pytest.mark.parametrize("dataset", DATASETS)
def test_each_experiments_settings_fit_the_dataset(
    asked: Asked, places: dict[str, str], dataset: str
) -> None:
    for command in [commands[0] for commands in _commands(dataset) if commands]:
        found = look_up(asked(_small(command, places)))
        assert found.backend.task.name == TASKS[dataset]
        assert {*found.backend.encoders} == ({"caption", *EXPERTS} if dataset == "msrvtt" else {*SIZES})


@pytest.mark.full
@pytest.mark.parametrize("dataset", DATASETS)
def test_each_command_is_set_up_as_far_as_its_first_trial(
    asked: Asked, places: dict[str, str], dataset: str
) -> None:
    for command in itertools.chain(*_commands(dataset)):
        found = look_up(asked(_small(command, places)))
        setup = set_up(found.in_precision("fp32"), Console(file=io.StringIO()))
        assert setup.details


@pytest.mark.ray
@pytest.mark.full
@pytest.mark.parametrize("dataset", DATASETS)
def test_a_command_ends_with_a_front(
    places: dict[str, str],
    dataset: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    ray_address: str,
    empty_store: Path,
) -> None:
    ended: list[SearchResult] = []
    run_search = importlib.import_module("search.api").run_search
    monkeypatch.setattr(
        "search.api.run_search", lambda *a, **k: ended.append(run_search(*a, **k)) or ended[0]
    )
    every = list(itertools.chain(*_commands(dataset)))
    command = next((each for each in every if "--method wander " in each), every[0])
    monkeypatch.setattr(sys, "argv", shlex.split(f"{_small(command, places)} --epochs 1")[1:])
    with ray_in(tmp_path, ray_address, empty_store), pytest.raises(SystemExit) as exit:
        cli.main()
    assert exit.value.code == 0
    (result,) = ended
    assert not result.failed
    (member,) = result.front
    metric = {"regression": "mae", "multilabel": "tag_accuracy", "retrieval": "reverse_r_at_5"}[
        TASKS[dataset]
    ]
    assert f"test_{metric}" in member
