"""Every setting is an option, and what is given as one arrives in the settings."""

from __future__ import annotations

from typing import Any

import pytest

from search import SearchConfig, cli
from search.cli.options import options_of
from trainables.options import OneOf, OnlyWith, Option, Registered

#: Values other than the default, as written and as meant, where none can be made from the field.
VALUES: dict[str, tuple[str, Any]] = {
    "space": ("linear", "linear"),
    "task": ("multilabel", "multilabel"),
    "method": ("wander", "wander"),
    "settings": ("learning_rate=0.1", ("learning_rate=0.1",)),
    "objectives": ("params, loss", ("params", "loss")),
    "constraints": ("params<=5M", ("params<=5M",)),
    "num_samples": ("7", 7),
    "max_memory": ("3GiB", 3 * 2**30),
    "time_budget": ("30m", 1800.0),
    "feature_cache_size": ("1MiB", 2**20),
    "gpu_memory": ("22GiB", 22 * 2**30),
    "compute_capability": ("8.6", 8.6),
    "context_size": ("300MiB", 300 * 2**20),
    "hang_timeout": ("90s", 90.0),
    "min_epochs": ("2", 2),
    "workers": ("4", 4),
    "gradient_accumulation": ("2", 2),
    "paths": ("sandwich", "sandwich"),
    "augment": ("flip", "flip"),
    "learning_rate": ("0.01", 0.01),
    "gpus_per_trial": ("0.5", 0.5),
    "pooling": ("text=mean", ("text=mean",)),
    "weight_decay": ("0.05", 0.05),
    "clip_norm": ("1.5", 1.5),
    "label_smoothing": ("0.1", 0.1),
    "warm_up": ("0.2", 0.2),
    "temperature": ("0.05", 0.05),
    "modality_learning_rates": ("text=2", "text=2"),
    "milestones": ("3,6", "3,6"),
    "gamma": ("0.5", 0.5),
    "validation_fraction": ("0.2", 0.2),
    "audio_seconds": ("3.5", 3.5),
    "modalities": ("text,image", ("text", "image")),
    "encoder": ("text=minilm", ("text=minilm",)),
}
#: What else must be given.
TOGETHER = {"distill": ["--paths", "sandwich"], "augment": ["--no-feature-cache"]}


#: The options of a search and of a training.
OPTIONS = SearchConfig.options()


def _other(option: Option, plugin: str) -> tuple[list[str], Any]:
    """Return an option with a value that is not its default, as written and as meant."""
    if option.name == "plugins":
        return ["--plugin", plugin], (plugin,)
    if option.type is bool:
        return [f"--no-{option.flag[2:]}" if option.default else option.flag], not option.default
    if option.name in VALUES:
        text, value = VALUES[option.name]
        return [option.flag, text], value
    one_of = option.find(OneOf) or option.find(Registered)
    if one_of is not None:
        names = one_of.names() if callable(one_of.names) else one_of.names
        value = next(name for name in sorted(names, reverse=True) if name != option.default)
        return [option.flag, value], value
    if isinstance(option.default, int | float):
        return [option.flag, str(option.default + 1)], option.default + 1
    return [option.flag, "7"], 7 if int in getattr(option.type, "__args__", ()) else "7"


@pytest.mark.parametrize("name", [option.name for option in options_of(cli.search) if option.name in OPTIONS])
def test_what_is_given_arrives_in_the_settings(asked, tmp_path, monkeypatch, name) -> None:
    plugin = tmp_path / "mine.py"
    plugin.touch()
    monkeypatch.setattr("trainables.plugin.Plugin.load", lambda self: None)
    option = OPTIONS[name]
    needed = [marker for marker in option.markers if isinstance(marker, OnlyWith)]
    words, value = _other(option, str(plugin))
    space = [] if name == "space" else ["--space", "pmf_nas"]
    together = [word for marker in needed for word in (OPTIONS[marker.option].flag, marker.values[0])]
    config = asked(*space, *together, *TOGETHER.get(name, []), *words)
    assert config.to_dict()[name] == value != option.default
    assert asked("--resume", "mine", *words) == {name: value if name != "num_samples" else "7"}


@pytest.mark.parametrize("strategy", ["trials", "oneshot"])
def test_what_is_not_given_has_its_default(asked, strategy) -> None:
    config = asked("--space", "pmf_nas", "--strategy", strategy)
    assert config == SearchConfig(space="pmf_nas", strategy=strategy, created=config.created)


@pytest.mark.parametrize("name", ["method", "settings", "seeds", "epochs", "optimizer", "recipe"])
def test_what_a_training_is_given_arrives_in_the_settings(asked, name) -> None:
    words, value = _other(OPTIONS[name], "")
    method = [] if name == "method" else ["--method", "linear"]
    config = asked("train", *method, *TOGETHER.get(name, []), *words)
    assert config.to_dict()[name] == value != OPTIONS[name].default


def test_every_option_is_one_of_a_search_or_of_a_training() -> None:
    """Those that say how trials are trained are of both."""
    of_search, of_training = ({o.name for o in options_of(command)} for command in (cli.search, cli.train))
    assert of_search | of_training >= set(OPTIONS)
    assert of_training - of_search == {"method", "settings"}
    ways = {option.name for name in ("search", "oneshot") for option in SearchConfig.blocks()[name].options()}
    assert ways & of_training == {"seeds", "seed"}


def test_a_training_is_a_search_of_a_space_of_one(asked) -> None:
    config = asked("train", "--method", "pmf", "--set", "prompt_length=4", "--seeds", "3")
    same = SearchConfig.of_training("pmf", {"prompt_length": 4}, seeds=3)
    assert config == same.replace(created=config.created)
    assert (config.search.num_samples, config.search.probe, config.run_name[:4]) == (1, False, "pmf-")


def test_repeated_options_keep_their_order(asked) -> None:
    config = asked("--space", "pmf_nas", "--constraint", "params<=5M", "--constraint", "memory<=1GiB")
    assert config.search.constraints == ("params<=5M", "memory<=1GiB")


@pytest.mark.parametrize(
    "command", [cli.search, cli.train, cli.predict, cli.explain, cli.calibrate, cli.cache]
)
def test_help_is_written_in_sentences(command) -> None:
    for option in options_of(command):
        text = option.help.text
        assert text[0].isupper(), option.flag
        assert text.endswith("."), option.flag
