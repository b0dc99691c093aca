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
from trainables.towers.checking import check_encoder
from trainables.towers.configs import most_tokens, read_config, usual_image_size
from trainables.towers.families import ARCHITECTURES, FAMILIES
from trainables.towers.features import PREFIX as FEATURES_PREFIX
from trainables.towers.loading import ATTENTION, load_tower
from trainables.towers.pooling import POOLINGS
from trainables.towers.processing import image_statistics, normalizes_sounds
from trainables.towers.saving import save_encoder
from trainables.towers.source import EncoderSource, resolve_encoder, resolve_encoders
from trainables.towers.tokenizer import load_tokenizer

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
    "check_encoder",
    "current_part",
    "image_statistics",
    "load_tokenizer",
    "load_tower",
    "most_tokens",
    "normalizes_sounds",
    "part",
    "read_config",
    "resolve_encoder",
    "resolve_encoders",
    "save_encoder",
    "usual_image_size",
]
