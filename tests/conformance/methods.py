"""Cases and helpers of the tests that every registered method must pass."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import pytest
import torch

from tests.conftest import SIZES, random_inputs, tiny_model
from tests.tasks import classification
from trainables.methods import METHODS, FusionMethod, MethodContext, build_method
from trainables.step.setting import TrainingSetting
from trainables.step.training import forward_loss, training_step
from trainables.towers import FAMILIES, Tower

CLASSES = 5
ROWS = 6

#: Configurations to run beside each method's default and beside those with one option changed.
COMBINATIONS: dict[str, list[dict[str, Any]]] = {
    "pmf": [{"n_fusion_layers": 3, "n_fusion_context_prompts": 0, "n_query_prompts": 2}],
    "wander": [{"n_layers": 2, "target_length": 3, "cp": "product_of_sums", "residual": False}],
    "mope": [
        {"main": "text", "routing": "top1", "complementary_tuning": "finetune", "n_prompted_layers": 2},
        {"main": "text", "complementary_tuning": "frozen", "mapped": False},
    ],
    "adapter": [{"n_layers": 1, "train_norms": False}],
    "lora": [{"n_layers": 1, "targets": "attention"}],
}

MODALITIES = ("text", "image")

#: Encoders to run the defaults over: (text, image).
PAIRS = [
    ("bert", "vit"),
    ("distilbert", "dinov2"),
    ("roberta", "swin"),
    ("clip_text_model", "clip_vision_model"),
    ("gpt2", "deit"),
]

#: Pairs that a method refuses: encoders whose added tokens see nothing of theirs cannot be asked.
CAUSAL = [("clip_text_model", "clip_vision_model"), ("gpt2", "deit")]
REFUSED = {"pmf": CAUSAL, "mbt": CAUSAL}

#: Families of three and seven modalities, for methods that take any number.
MANY = {
    3: {"text": "bert", "image": "vit", "audio": "hubert"},
    7: {
        "text": "bert",
        "image": "vit",
        "audio": "whisper",
        "title": "distilbert",
        "face": "features",
        "scene": "features",
        "sketch": "dinov2",
    },
}


def others_of(name: str) -> dict[str, Any]:
    """Return each option's other value."""
    return {f.name: f.metadata["other"] for f in dataclasses.fields(METHODS[name].config_class)}


DEFAULTS = [(name, config) for name in METHODS for config in ({}, *COMBINATIONS.get(name, []))]
CASES = DEFAULTS + [(name, {key: value}) for name in METHODS for key, value in others_of(name).items()]

#: What ``make test-fast`` leaves out: options, each in turn.
OPTIONS = [pytest.param(*case, marks=pytest.mark.slow) for case in CASES[len(DEFAULTS) :]]

each_default = pytest.mark.parametrize(("name", "config"), DEFAULTS, ids=str)
each_case = pytest.mark.parametrize(("name", "config"), [*DEFAULTS, *OPTIONS], ids=str)


@functools.cache
def tiny_tower(modality: str, family: str, attention: str = "eager") -> Tower:
    """A tower that tests share: methods do not change what they are given."""
    tower = FAMILIES[family].tower(modality, tiny_model(family))
    tower.model.config._attn_implementation = attention
    return tower


def tiny_towers(pair: tuple[str, str] = PAIRS[0], attention: str = "eager") -> dict[str, Tower]:
    """A text and an image tower."""
    return {m: tiny_tower(m, family, attention) for m, family in zip(MODALITIES, pair, strict=True)}


def build(
    name: str,
    config: dict[str, Any],
    towers: dict[str, Tower] | None = None,
    *,
    dropout: bool = True,
    **context: Any,
) -> FusionMethod:
    """A method over tiny towers, with weights that a seed decides."""
    torch.manual_seed(0)
    return build_method(
        name, config, MethodContext(towers or tiny_towers(), CLASSES, SIZES, dropout, **context)
    )


def make_batch(
    towers: dict[str, Tower] | None = None,
) -> tuple[dict[str, dict[str, torch.Tensor]], torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    inputs = {m: random_inputs(tower, ROWS, generator) for m, tower in (towers or tiny_towers()).items()}
    return inputs, torch.arange(ROWS) % CLASSES


def take_step(method: FusionMethod, optimizer: torch.optim.Optimizer | None = None) -> float:
    """Forward and backward, and update where there is an optimiser."""
    inputs, labels = make_batch(dict(method.context.towers))
    if optimizer is not None:
        task = classification(CLASSES)
        return training_step(method, inputs, labels, task, TrainingSetting(), optimizer).item()
    loss = forward_loss(method, inputs, labels, classification(CLASSES), TrainingSetting())
    loss.backward()
    return loss.item()


def train(method: FusionMethod, steps: int) -> list[float]:
    """Losses of some steps on the same batch."""
    optimizer = TrainingSetting().make_optimizer(method.trainable_parameters(), 1e-2)
    method.train()
    return [take_step(method, optimizer) for _ in range(steps)]
