"""Searches as they are written on the command line."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable
from typing import Any

import pytest

from search.config import SearchConfig
from search.config.starting import command_line
from search.invocation import program

DEFAULTS = ("memory", "accuracy")

SEARCHES: dict[str, dict[str, Any]] = {
    "plain": {},
    "numbers": {"max_memory": 800 * 2**20, "time_budget": 5400.0, "validation_fraction": 1 / 3, "seed": 7},
    "switches": {"feature_cache": False, "robustness": False, "defer": True},
    "lists": {"constraints": ("memory<=2GiB", "accuracy>=60%"), "objectives": ("params", "loss")},
    "texts": {"name": "two-words", "text_encoder": "it's mine", "modalities": ("text", "image")},
    "oneshot": {"strategy": "oneshot", "num_samples": 12},
    "recipe": {"recipe": "pmf", "epochs": 3},
}


@pytest.mark.parametrize("named", SEARCHES)
def test_it_starts_the_same_search(named: str, asked: Callable[..., Any]) -> None:
    config = SearchConfig(space="pmf_nas", **SEARCHES[named])
    words = shlex.split(command_line(config, DEFAULTS).removeprefix(program()))
    started = asked(*words)
    assert started.to_dict() == config.to_dict()


def test_it_starts_the_same_training(asked: Callable[..., Any]) -> None:
    config = SearchConfig.of_training("pmf", {"L_f": 10, "prompt_length": 4}, seeds=3)
    words = shlex.split(command_line(config).removeprefix(program()))
    settings = ["--set", "L_f=10", "--set", "prompt_length=4"]
    assert words == ["train", "--seeds", "3", "--method", "pmf", *settings]
    assert asked(*words).to_dict() == config.to_dict()


def test_what_a_search_has_by_default_is_left_out() -> None:
    config = SearchConfig(space="pmf_nas", objectives=DEFAULTS, storage_path="runs")
    assert command_line(config, DEFAULTS) == f"{program()} --space pmf_nas"
    named = time.strftime("pmf_nas-%Y%m%d-%H%M%S", time.localtime(config.created))
    assert command_line(config.replace(name=named), DEFAULTS) == f"{program()} --space pmf_nas"


def test_a_secret_is_not_in_it() -> None:
    config = SearchConfig(space="pmf_nas", tracking_uri="http://me:geheim@host/?token=abc")
    line = command_line(config)
    assert "http://me:***@host/?token=***" in line
    assert "geheim" not in line
