"""What the tests of adapters and tuning baselines share."""

from __future__ import annotations

from typing import Any

import torch

from tests.tasks import classification
from tests.trainables.methods.paper import trained_parameters
from trainables.memory.predictor import MemoryPredictor
from trainables.methods import FusionMethod, MethodContext, build_method
from trainables.step.setting import TrainingSetting
from trainables.testing.tiny import SIZES, random_inputs
from trainables.towers import Tower, resolve_encoder

#: The head over BERT-base and ViT-B/16, 101 classes.
HEAD = 1536 * 101 + 101

#: The head of the Wander paper's host instead: Linear(768, 768), Linear(768, 101).
HOST_HEAD = 768 * 769 + 769 * 101


def trained_at_base_size(method: str, **config: Any) -> int:
    """Return the number of trained parameters over BERT-base and ViT-B/16, 101 classes."""
    return trained_parameters(method, config)


def build(method: str, towers: dict[str, Tower], **config: Any) -> FusionMethod:
    """Build a method for three classes; the head's weights depend on nothing but the encoders' widths."""
    built = build_method(method, config, MethodContext(towers, 3, SIZES))
    head: Any = built.head
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return built


def logits(method: FusionMethod, towers: dict[str, Tower], seed: int = 0) -> torch.Tensor:
    """Return a method's scores of three random samples, in evaluation."""
    generator = torch.Generator().manual_seed(seed)
    inputs = {m: random_inputs(tower, 3, generator) for m, tower in towers.items()}
    with torch.no_grad():
        return method.eval()(inputs).outputs


def predicted_at_tiny_size(method: str, encoders: dict[str, Any], **config: Any) -> int:
    """Return the predicted peak over the small BERT and ViT, in bytes."""
    sources = {
        "text": resolve_encoder("text", str(encoders["bert"])),
        "image": resolve_encoder("image", str(encoders["vit"])),
    }
    setting = TrainingSetting(batch_size=8, text_length=32, image_size=32)
    return MemoryPredictor(sources, classification(3), setting).predict(method, config).total
