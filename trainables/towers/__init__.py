"""Encoders as towers: pretrained unimodal transformers, split into steps."""

from trainables.towers.base import (
    ALL,
    NONE,
    PRESENCE,
    InputSizes,
    ModalityInput,
    PrefixTokens,
    Sequence,
    Tower,
    current_part,
    part,
)
from trainables.towers.bundled import BUNDLED
from trainables.towers.features import PREFIX as FEATURES_PREFIX
from trainables.towers.pooling import POOLINGS
from trainables.towers.saving import save_encoder
from trainables.towers.source import (
    ARCHITECTURES,
    ATTENTION,
    FAMILIES,
    EncoderSource,
    load_tower,
    most_tokens,
    read_config,
    resolve_encoder,
    resolve_encoders,
    usual_image_size,
)

__all__ = [
    "ALL",
    "ARCHITECTURES",
    "ATTENTION",
    "BUNDLED",
    "FAMILIES",
    "FEATURES_PREFIX",
    "NONE",
    "POOLINGS",
    "PRESENCE",
    "EncoderSource",
    "InputSizes",
    "ModalityInput",
    "PrefixTokens",
    "Sequence",
    "Tower",
    "current_part",
    "load_tower",
    "most_tokens",
    "part",
    "read_config",
    "resolve_encoder",
    "resolve_encoders",
    "save_encoder",
    "usual_image_size",
]
