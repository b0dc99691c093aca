"""The configurations and encoders with which methods are checked, and functions that the checks share."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from trainables.methods import METHODS, FusionMethod, MethodContext, build_method
from trainables.methods.space import SpaceContext
from trainables.step.setting import TrainingSetting
from trainables.step.training import forward_loss, training_step
from trainables.tasks import Task, get_task
from trainables.testing.tiny import MODALITIES, RANDOM, SIZES, random_inputs, tiny_tower, tiny_towers
from trainables.towers import Tower

CLASSES = 5
ROWS = 6

#: Configurations to check in addition to a method's default and to those with one changed option.
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

#: Encoders with which default configurations are checked: (text, image).
PAIRS = [
    ("bert", "vit"),
    ("distilbert", "dinov2"),
    ("roberta", "swin"),
    ("clip_text_model", "clip_vision_model"),
    ("gpt2", "deit"),
]

#: Pairs with a causal encoder. Some methods refuse them, because added tokens would not see the input.
CAUSAL = [("clip_text_model", "clip_vision_model"), ("gpt2", "deit")]
REFUSED = {"pmf": CAUSAL, "mbt": CAUSAL}

#: Encoder families of modalities that not all methods can fuse: fewer or more than two, or two of one kind.
FUSED = {
    "one": {"text": "bert"},
    "two of one kind": {"premise": "bert", "hypothesis": "distilbert"},
    "three": {"text": "bert", "image": "vit", "audio": "hubert"},
    "seven": {
        "text": "bert",
        "image": "vit",
        "audio": "whisper",
        "title": "distilbert",
        "face": "features",
        "scene": "features",
        "sketch": "dinov2",
    },
}


def default_cases(name: str) -> list[dict[str, Any]]:
    """Return a method's default configuration, and some with several changed options."""
    return [{}, *COMBINATIONS.get(name, [])]


def option_cases(name: str) -> list[dict[str, Any]]:
    """Return one configuration for each option, in which only that option differs from the default."""
    fields = dataclasses.fields(METHODS[name].config_class)
    return [{field.name: field.metadata["other"]} for field in fields]


def refusal_of(name: str, families: Mapping[str, str]) -> str | None:
    """Return why a method cannot fuse encoders of some families, or None if it can."""
    towers = {modality: tiny_tower(modality, family) for modality, family in families.items()}
    return METHODS[name].method.refusal(SpaceContext.of_towers(towers))


def beside_random(name: str, modality: str) -> dict[str, str] | None:
    """Return the families of the usual encoders, but ``RANDOM`` for one modality.

    A new encoder is of the kind features. None says that the method, which is for texts or images alone,
    cannot fuse them.
    """
    families = {**dict(zip(MODALITIES, PAIRS[0], strict=True)), modality: RANDOM}
    return families if refusal_of(name, families) is None else None


def task() -> Task:
    """Return the task that all checks use."""
    return get_task("classification").of_size(CLASSES)


def build(
    name: str,
    config: dict[str, Any],
    towers: dict[str, Tower] | None = None,
    *,
    dropout: bool = True,
    **context: Any,
) -> FusionMethod:
    """Return a method over tiny towers, with weights drawn from a fixed seed."""
    torch.manual_seed(0)
    return build_method(
        name, config, MethodContext(towers or tiny_towers(), CLASSES, SIZES, dropout, **context)
    )


def make_batch(
    towers: dict[str, Tower] | None = None,
) -> tuple[dict[str, dict[str, torch.Tensor]], torch.Tensor]:
    """Return inputs for some towers, and labels."""
    generator = torch.Generator().manual_seed(2)
    inputs = {m: random_inputs(tower, ROWS, generator) for m, tower in (towers or tiny_towers()).items()}
    return inputs, torch.arange(ROWS) % CLASSES


def take_step(
    method: FusionMethod,
    optimizer: torch.optim.Optimizer | None = None,
    setting: TrainingSetting | None = None,
) -> float:
    """Run the forward and backward pass, and the optimizer's step if one is given; return the loss."""
    inputs, labels = make_batch(dict(method.context.towers))
    setting = setting or TrainingSetting()
    if optimizer is not None:
        return training_step(method, inputs, labels, task(), setting, optimizer).item()
    loss = forward_loss(method, inputs, labels, task(), setting)
    loss.backward()
    return loss.item()


def training_losses(
    method: FusionMethod, steps: int, setting: TrainingSetting | None = None
) -> Iterator[float]:
    """Yield the losses of some steps on the same batch; a step is taken when its loss is asked for."""
    setting = setting or TrainingSetting()
    optimizer = setting.make_optimizer(method, 1e-2)
    method.train()
    for _ in range(steps):
        yield take_step(method, optimizer, setting)


def train(method: FusionMethod, steps: int) -> list[float]:
    """Return the losses of some steps on the same batch."""
    return list(training_losses(method, steps))
