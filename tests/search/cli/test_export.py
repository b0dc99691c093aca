"""The command ``export``, and the commands that it and others print."""

from __future__ import annotations

import shlex
from typing import Any

import pytest

from search.config import SearchConfig
from search.exporting.commands import train_command
from spaces import get_space
from spaces.single import configuration
from trainables.methods.space import SpaceContext

CONTEXT = SpaceContext({"text": 6, "image": 12}, {"text": 384, "image": 384})
SETTINGS: dict[str, Any] = {
    "epochs": 3,
    "batch_size": 24,
    "precision": "bf16",
    "text_length": 16,
    "train_rows": 200,
    "seed": 7,
    "max_memory": 2**30,
    "encoder": ("text=minilm",),
    "target": "cpu",
}


@pytest.mark.parametrize(
    ("space", "changes"),
    [
        ("pmf_nas", {}),
        ("all_methods", {"weight_decay": 0.0123456789}),
        ("pmf_nas", {"recipe": "pmf"}),
        ("wander", {"gradient_checkpointing": "search"}),
        ("mope", {}),
    ],
)
def test_a_member_is_trained_again_with_the_same_configuration(asked, space, changes) -> None:
    search = SearchConfig(space=space, **SETTINGS | changes)
    for config in get_space(space).smallest(CONTEXT)[::6]:
        if search.trial.gradient_checkpointing == "search":
            config = {**config, "gradient_checkpointing": True}
        words = shlex.split(train_command(config, search))
        training = asked(*words[words.index("train") :])
        assert training.configuration.method == config["method"]
        made = configuration(config["method"], training.configuration.values(), CONTEXT)
        assert {name: made[name] for name in config} == config
        now, before = training.to_dict(), search.to_dict()
        same = ("epochs", "precision", "text_length", "train_rows", "seed", "encoder", "recipe", "dataset")
        assert {name: now[name] for name in same} == {name: before[name] for name in same}
        for name in ("batch_size", "weight_decay"):
            assert made.get(name, now[name]) == config.get(name, before[name])
