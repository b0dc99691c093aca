"""The papers' commands run on the papers' datasets, which are small here, and so are the encoders."""

from __future__ import annotations

import importlib
import io
import itertools
import re
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from search import SearchConfig, cli, run_search
from search.result import SearchResult
from search.setup import look_up, set_up
from tests.search.on_ray import ray_in
from trainables.testing.layouts import published
from trainables.testing.layouts.feature_sets import EXPERTS, SIZES, mmsa, mult, write_msrvtt, write_pickle
from trainables.towers import load_tower, resolve_encoder

Asked = Callable[[str], SearchConfig]

PAPERS = ("pmf", "mope", "wander")
#: For each dataset, a function that writes a small one into a folder and returns the path that is named.
DATASETS: dict[str, Callable[[Path], Path]] = {
    "mmimdb": lambda folder: published.write(folder, published.mmimdb()),
    "food101": lambda folder: published.write(folder, published.food101_lists()),
    "snli_ve": lambda folder: published.write(folder, published.snli_ve()),
    "mosi": lambda folder: write_pickle(folder / "aligned_50.pkl", mmsa()),
    "mosei": lambda folder: write_pickle(folder / "mosei_senti_data.pkl", mult()),
    "iemocap": lambda folder: write_pickle(folder / "iemocap_data.pkl", mult("emotions")),
    "msrvtt": write_msrvtt,
}
#: Task of each, and a metric that the papers report.
TASKS = {
    "mmimdb": ("multilabel", "macro_f1"),
    "food101": ("classification", "accuracy"),
    "snli_ve": ("classification", "accuracy"),
    "mosi": ("regression", "acc7"),
    "mosei": ("regression", "mae"),
    "iemocap": ("multilabel", "tag_accuracy"),
    "msrvtt": ("retrieval", "reverse_r_at_5"),
}
PICTURES = {"text", "image"}
#: Modalities of each that is a set of features; the others have texts and pictures.
FEATURES = {"mosi": {*SIZES}, "mosei": {*SIZES}, "iemocap": {*SIZES}, "msrvtt": {"caption", *EXPERTS}}


@pytest.fixture(scope="module")
def encoders(tmp_path_factory: pytest.TempPathFactory, tiny_encoders: dict[str, Path]) -> dict[str, str]:
    """Narrow encoders of the depths of those that commands name, by these names."""
    import transformers as hf

    width = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32}
    text = {"vocab_size": 64, "max_position_embeddings": 40}
    image = {"image_size": 32, "patch_size": 16}
    swin = {"embed_dim": 8, "depths": (2, 2, 18, 2), "num_heads": (1, 1, 2, 2), "window_size": 2}

    def bert(depth: int) -> Any:
        return hf.BertModel(hf.BertConfig(**text, **width, num_hidden_layers=depth), add_pooling_layer=False)

    def vit(depth: int) -> Any:
        return hf.ViTModel(hf.ViTConfig(**image, **width, num_hidden_layers=depth), add_pooling_layer=False)

    models = {
        "bert-base-uncased": bert(12),
        "bert-large-uncased": bert(24),
        "google/vit-base-patch16-224": vit(12),
        "google/vit-base-patch16-224-in21k": vit(12),
        "google/vit-large-patch16-224-in21k": vit(24),
        "microsoft/swin-base-patch4-window7-224-in22k": hf.SwinModel(
            hf.SwinConfig(image_size=64, patch_size=4, **swin), add_pooling_layer=False
        ),
    }
    folder = tmp_path_factory.mktemp("encoders")
    for name, model in models.items():
        model.save_pretrained(folder / name)
        if name.startswith("bert"):
            for file in tiny_encoders["bert"].glob("*token*"):
                shutil.copy(file, folder / name)
    paths = {name: str(folder / name) for name in models}
    for modality, size in {**SIZES, **EXPERTS}.items():
        source = f"features:dim={size},width=32,depth=3,heads=4,max_length=30"
        tower = load_tower(resolve_encoder(modality, source, kind="features"))
        tower.model.save_pretrained(folder / "hosts" / modality)
        paths[f"{modality}=HOST_FOLDER/{modality}"] = f"{modality}={folder}/hosts/{modality}"
    return {
        **paths,
        "gpt2": str(tiny_encoders["gpt2"]),
        "bow:bert-base-uncased": f"bow:{paths['bert-base-uncased']}",
    }


@pytest.fixture(scope="module")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The addresses of small datasets, by those in the commands."""
    folder = tmp_path_factory.mktemp("datasets")
    return {f"{name}:FOLDER": f"{name}:{write(folder / name)}" for name, write in DATASETS.items()}


def _commands(dataset: str) -> Iterator[list[str]]:
    """Yield the commands of each of the papers' experiments on a dataset."""
    tables = importlib.import_module("paper_tables")
    for paper in map(tables.read, PAPERS):
        for experiment in paper.experiments:
            rows = (None, *experiment.rows)
            commands = [command for row in rows for command in paper.commands(experiment, row)]
            yield [command for command in commands if f"--dataset {dataset}:FOLDER " in command]


def _small(command: str, words: dict[str, str]) -> str:
    """Return a command with the small datasets and encoders, and with no more rows than there are."""
    command = re.sub(r"--train-rows \d+", "--train-rows 4", command)
    return " ".join(words.get(word, word) for word in command.split())


@pytest.mark.parametrize("dataset", DATASETS)
def test_each_experiments_settings_fit_the_dataset(
    asked: Asked, datasets: dict[str, str], encoders: dict[str, str], dataset: str
) -> None:
    for command in [commands[0] for commands in _commands(dataset) if commands]:
        found = look_up(asked(_small(command, {**datasets, **encoders})))
        assert found.backend.task.name == TASKS[dataset][0]
        assert set(found.backend.encoders) <= FEATURES.get(dataset, PICTURES)


@pytest.mark.full
@pytest.mark.parametrize("dataset", DATASETS)
def test_each_command_is_set_up_as_far_as_its_first_trial(
    asked: Asked, datasets: dict[str, str], encoders: dict[str, str], dataset: str
) -> None:
    for command in itertools.chain(*_commands(dataset)):
        found = look_up(asked(_small(command, {**datasets, **encoders})))
        setup = set_up(found.in_precision("fp32"), Console(file=io.StringIO()))
        assert setup.details


@pytest.mark.ray
@pytest.mark.full
@pytest.mark.parametrize("dataset", DATASETS)
def test_a_command_ends_with_a_front(
    datasets: dict[str, str],
    encoders: dict[str, str],
    dataset: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    ray_address: str,
    empty_store: Path,
) -> None:
    results: list[SearchResult] = []

    def searched(*arguments: Any, **options: Any) -> SearchResult:
        results.append(run_search(*arguments, **options))
        return results[0]

    monkeypatch.setattr("search.api.run_search", searched)
    every = list(itertools.chain(*_commands(dataset)))
    method = "--method wander " if dataset in FEATURES else "--method pmf "
    command = _small(next((each for each in every if method in each), every[0]), {**datasets, **encoders})
    options = "--seeds 1 --epochs 1 --batch-size 4 --target cpu --tracking-uri sqlite:///mlflow.db"
    monkeypatch.setattr(sys, "argv", shlex.split(f"{command} {options}")[1:])
    with ray_in(tmp_path, ray_address, empty_store), pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 0
    (result,) = results
    assert not result.failed
    (member,) = result.front
    assert f"test_{TASKS[dataset][1]}" in member
