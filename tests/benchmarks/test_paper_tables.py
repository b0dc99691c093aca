"""The papers' experiments are commands that the program understands, and the guide shows them."""

from __future__ import annotations

import functools
import importlib
import re
from collections.abc import Iterator
from typing import Any

import pytest
from torch._subclasses.fake_tensor import FakeTensorMode

from search import SearchConfig
from spaces import SpaceContext
from spaces.single import configuration
from tests.conftest import ROOT
from trainables.configuration import split_config
from trainables.methods import MethodContext, build_method
from trainables.towers import EncoderSource, load_tower, resolve_encoder

PAPERS = ("pmf", "mope", "wander")
#: The architectures of the encoders that commands name.
ARCHITECTURES = {
    "bert-base-uncased": "arch:bert-base",
    "bert-large-uncased": "arch:bert-large",
    "bow:bert-base-uncased": "bow:arch:bert-base",
    "gpt2": "arch:gpt2",
    "google/vit-base-patch16-224": "arch:vit-base",
    "google/vit-base-patch16-224-in21k": "arch:vit-base",
    "google/vit-large-patch16-224-in21k": "arch:vit-large",
    "microsoft/swin-base-patch4-window7-224-in22k": "arch:swin-base",
}
#: What stands for the encoders of datasets that are extracted features.
FEATURES = "features:dim=35"


@pytest.fixture
def tables() -> Any:
    return importlib.import_module("paper_tables")


def _commands(paper: Any) -> Iterator[str]:
    """Commands of a paper with all rows and all that varies, but not with each combination of both."""
    for experiment in paper.experiments:
        yield from paper.commands(experiment, None)
        every = [list(paper.commands(experiment, row)) for row in experiment.rows]
        yield from max(every, key=len, default=[])
        yield from (commands[0] for commands in every if commands)


def _encoders(config: SearchConfig) -> dict[str, EncoderSource]:
    """The encoders that the settings name, without their weights."""
    names = {m: ARCHITECTURES.get(name, FEATURES) for m, name in config.encoders.names.items()}
    return {modality: resolve_encoder(modality, name) for modality, name in names.items()}


def _configuration(config: SearchConfig) -> dict[str, Any]:
    """The configuration that is trained."""
    method, recipe = config.configuration.method, config.trial.paper
    assert method is not None
    first = recipe.settings if recipe and recipe.method == method else {}
    return configuration(method, config.configuration.values(), SpaceContext.of(_encoders(config)), first)


def test_the_guide_shows_them(tables) -> None:
    guide = (ROOT / "docs" / "tasks.md").read_text()
    shown = tables.section([tables.read(name) for name in PAPERS])
    assert guide.endswith(shown), "run python benchmarks/paper_tables.py --write"


def test_the_guides_other_commands_are_understood_too(asked) -> None:
    commands = re.findall(r"^python search.py .*$", (ROOT / "docs" / "tasks.md").read_text(), re.MULTILINE)
    assert [asked(command).search.space for command in commands] == ["all_methods"] * 8


@pytest.mark.parametrize("name", PAPERS)
def test_each_is_a_command_of_the_program(tables, asked, name) -> None:
    for command in _commands(tables.read(name)):
        if "fusion_cost" in command:  # it has no options here
            assert (ROOT / command.split()[1]).exists()
            continue
        config = asked(command)
        if config.configuration.method is not None:
            _configuration(config)


@pytest.mark.full
@pytest.mark.parametrize("name", PAPERS)
def test_each_configuration_fits_the_papers_encoders(tables, asked, name) -> None:
    tower = functools.cache(lambda *names: load_tower(resolve_encoder(*names), weights=False))
    for command in _commands(tables.read(name)):
        config = asked(command) if "search.py train" in command else None
        if config is not None and set(config.encoders.names.values()) <= set(ARCHITECTURES):
            method, options = split_config(_configuration(config))
            with FakeTensorMode(allow_non_fake_inputs=True):
                context = MethodContext({m: tower(m, e.name) for m, e in _encoders(config).items()}, 101)
                assert build_method(method, options, context).trainable_parameter_count() > 0


def test_a_row_has_a_figure_for_each_column(tables, tmp_path, monkeypatch) -> None:
    text = (tables.FOLDER / "pmf.toml").read_text()
    (tmp_path / "pmf.toml").write_text(text.replace('"< 0.1", ', "", 1))
    monkeypatch.setattr(tables, "FOLDER", tmp_path)
    with pytest.raises(ValueError, match="pmf, Table 2, Linear: 5 figures"):
        tables.read("pmf")


def test_words_are_replaced_by_what_they_stand_for(tables) -> None:
    experiment = tables.Experiment(
        "Table 1", "x", command="RUN DATA ROW", vary={"DATA": ["A", "B"]}, rows=[tables.Row("r", "--c 3", ())]
    )
    words = {"RUN": "python search.py", "A": "--a 1", "B": "--b A"}
    paper = tables.Paper("P", "", "", words, [experiment])
    assert list(paper.commands(experiment, experiment.rows[0])) == [
        "python search.py --a 1 --c 3",
        "python search.py --b --a 1 --c 3",
    ]
