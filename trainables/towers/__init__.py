"""Encoders as towers: pretrained unimodal transformers taken apart into steps."""

from trainables.towers.base import ModalityInput, Sequence, Tower
from trainables.towers.bundled import BUNDLED
from trainables.towers.source import (
    ARCHITECTURES,
    ATTENTION,
    FAMILIES,
    EncoderSource,
    load_tower,
    resolve_encoder,
)

__all__ = [
    "ARCHITECTURES",
    "ATTENTION",
    "BUNDLED",
    "FAMILIES",
    "EncoderSource",
    "ModalityInput",
    "Sequence",
    "Tower",
    "load_tower",
    "resolve_encoder",
]
