"""The papers' commands run on the papers' datasets, which are small here, and so are the encoders."""

from __future__ import annotations

import importlib
import io
import itertools
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from search import SearchConfig, run_search
from search.setup import look_up, set_up
from tests.search.on_ray import ray_in
from tests.trainables.data.readers import published

Asked = Callable[[str], SearchConfig]

PAPERS = ("pmf", "mope", "wander")
DATASETS = {"mmimdb": published.mmimdb, "food101": published.food101_lists, "snli_ve": published.snli_ve}
TASKS = {"mmimdb": "multilabel", "food101": "classification", "snli_ve": "classification"}


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
    return {
        **paths,
        "gpt2": str(tiny_encoders["gpt2"]),
        "bow:bert-base-uncased": f"bow:{paths['bert-base-uncased']}",
    }


@pytest.fixture(scope="module")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The addresses of small datasets, by those in the commands."""
    folder = tmp_path_factory.mktemp("datasets")
    return {
        f"{name}:FOLDER": f"{name}:{published.write(folder / name, files())}"
        for name, files in DATASETS.items()
    }


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
        assert found.backend.task.name == TASKS[dataset]
        assert set(found.backend.encoders) <= {"text", "image"}


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
    asked: Asked,
    datasets: dict[str, str],
    encoders: dict[str, str],
    dataset: str,
    tmp_path: Path,
    ray_address: str,
    empty_store: Path,
) -> None:
    command = next(each for each in itertools.chain(*_commands(dataset)) if "--method pmf " in each)
    config = asked(_small(command, {**datasets, **encoders}))
    config = config.replace(epochs=1, batch_size=4, target="cpu", tracking_uri="sqlite:///mlflow.db")
    with ray_in(tmp_path, ray_address, empty_store):
        result = run_search(config, console=Console(file=io.StringIO()))
    assert not result.failed
    (member,) = result.front
    assert f"test_{'macro_f1' if dataset == 'mmimdb' else 'accuracy'}" in member
