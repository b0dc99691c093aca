"""What the methods' tests share: predictions at the papers' sizes, and towers small enough to run."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from tests.tasks import classification
from trainables.memory.predictor import MemoryPredictor
from trainables.methods import MethodContext, build_method
from trainables.step.setting import TrainingSetting
from trainables.testing.tiny import random_inputs, tiny_model
from trainables.towers import FAMILIES, InputSizes, Tower, load_tower, resolve_encoder

#: The papers' encoders come with a pooler, a square Linear layer that towers leave out.
POOLER = 768 * 768 + 768


@functools.cache
def base_predictor(batch_size: int = 2, text_length: int = 16) -> MemoryPredictor:
    """Predictions for BERT-base and ViT-B/16, 101 classes and SGD, as in Table 2 of the PMF paper."""
    encoders = {
        "text": resolve_encoder("text", "arch:bert-base"),
        "image": resolve_encoder("image", "arch:vit-base"),
    }
    setting = TrainingSetting(batch_size=batch_size, text_length=text_length, optimizer="sgd")
    return MemoryPredictor(encoders, classification(101), setting)


#: Classes of MM-IMDB and size of a classifier on Swin-B's vector: the MoPE paper's Table 1 has one figure
#: for three datasets, hence no classifier.
MM_IMDB_CLASSES = 23
SWIN_HEAD = (1024 + 1) * MM_IMDB_CLASSES


@functools.cache
def _context(text: str, image: str, classes: int, text_length: int) -> tuple[FakeTensorMode, MethodContext]:
    fake = FakeTensorMode()
    encoders = {"text": f"arch:{text}", "image": f"arch:{image}"}
    with fake:
        towers = {m: load_tower(resolve_encoder(m, name), weights=False) for m, name in encoders.items()}
    return fake, MethodContext(towers, classes, InputSizes(text_length=text_length))


def trained_parameters(
    name: str,
    config: Mapping[str, Any] | None = None,
    *,
    text: str = "bert-base",
    image: str = "vit-base",
    classes: int = 101,
    text_length: int = 128,
) -> int:
    """Trained parameters over the papers' encoders, classifier included, without running a step."""
    fake, context = _context(text, image, classes, text_length)
    with fake:
        return build_method(name, config or {}, context).trainable_parameter_count()


def swin_parameters(name: str, **config: Any) -> int:
    """Trained parameters over BERT-base and Swin-B, as in Table 1 of the MoPE paper, classifier included."""
    return trained_parameters(name, config, image="swin-base", classes=MM_IMDB_CLASSES)


def tiny_towers(**families: str) -> dict[str, Tower]:
    """Small towers by modality; BERTs have 3 layers of width 32, ViTs 4 of width 48."""
    return {m: FAMILIES[family].tower(m, tiny_model(family)) for m, family in families.items()}


def random_batch(
    towers: Mapping[str, Tower], size: int = 4, seed: int = 0
) -> dict[str, dict[str, torch.Tensor]]:
    """Random inputs, padded where the family knows padding."""
    generator = torch.Generator().manual_seed(seed)
    return {m: random_inputs(tower, size, generator) for m, tower in towers.items()}
