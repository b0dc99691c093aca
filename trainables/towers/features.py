"""An encoder of extracted feature vectors of any modality, such as facial landmarks or prosody."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from trainables.errors import UserError
from trainables.seeds import MAX_SEED
from trainables.towers.base import Family, InputSizes, Sequence
from trainables.towers.pooling import POOLINGS
from trainables.towers.vit import ViTTower

#: Users write this before the options of a new tower.
PREFIX = "features:"

#: Options of a new tower: name in the configuration, default (None if the option is required), and the
#: lowest accepted value.
_OPTIONS: Mapping[str, tuple[str, float | None, float]] = {
    "dim": ("feature_size", None, 1),
    "width": ("hidden_size", 64, 2),
    "depth": ("num_hidden_layers", 4, 1),
    "heads": ("num_attention_heads", 4, 1),
    "max_length": ("max_position_embeddings", 512, 1),
    "dropout": ("hidden_dropout_prob", 0.1, 0),
    "seed": ("seed", 0, 0),
}


class FeaturesTower(ViTTower):
    """A small pre-LN transformer over feature vectors.

    Inputs are ``features`` (B, T, F) and ``attention_mask`` (B, T). Tokens are [CLS] and one per vector.
    """

    KIND = "features"
    POOLINGS = tuple(POOLINGS)

    def embed(self, inputs: Mapping[str, Tensor]) -> Sequence:
        """Project the vectors, prepend [CLS] and add positions."""
        mask = F.pad(inputs["attention_mask"].bool(), (1, 0), value=True)
        return Sequence(self.model.embeddings(inputs["features"]), mask, layer=0)

    def token_count(self, layer: int, sizes: InputSizes) -> int:
        """Return the number of vectors plus one for [CLS]."""
        return self._length(sizes) + self.leading

    def example_inputs(self, batch_size: int, sizes: InputSizes) -> dict[str, Tensor]:
        """Return features (B, T, F) and a mask without padding (B, T)."""
        shape = (batch_size, self._length(sizes))
        return {
            "features": torch.zeros(*shape, self.model.config.feature_size),
            "attention_mask": torch.ones(shape, dtype=torch.bool),
        }

    def _length(self, sizes: InputSizes) -> int:
        """Return the number of vectors that a sample is padded to, which is at most the encoder's own."""
        return min(sizes.feature_length, int(self.model.config.max_position_embeddings))


def features_config(name: str) -> Any:
    """Return the configuration for a name such as ``features:dim=74,width=40,depth=4,heads=8``.

    The tower starts from random weights that the name determines, and trains with every method. Saved with
    ``save_pretrained`` and named by its folder, it is an encoder like any other: frozen unless a method
    trains it.

    Args:
        name: ``features:`` and options, separated by commas. ``dim``, the size of a vector, is required.
            Optional are ``width`` (default 64), ``depth`` (4), ``heads`` (4), ``max_length`` (512 vectors),
            ``dropout`` (0.1) and ``seed`` (0). Feed-forward networks are four times as wide as the tokens.

    Raises:
        UserError: If an option is unknown, missing or out of range.
    """
    from trainables.towers.models.configuration import FeaturesConfig

    values: dict[str, Any] = {key: default for key, (_, default, _) in _OPTIONS.items()}
    for item in filter(None, name.removeprefix(PREFIX).split(",")):
        key, _, text = item.partition("=")
        if key not in _OPTIONS:
            raise UserError(f"encoder '{name}': unknown option '{key}'; known: {', '.join(_OPTIONS)}")
        values[key] = _number(name, key, text)
    if values["dim"] is None:
        raise UserError(f"encoder '{name}': say how large a feature vector is, as in {PREFIX}dim=74")
    if values["width"] % values["heads"]:
        raise UserError(
            f"encoder '{name}': width={values['width']} must be a multiple of heads={values['heads']}"
        )
    settings = {_OPTIONS[key][0]: value for key, value in values.items()}
    return FeaturesConfig(
        **settings,
        intermediate_size=4 * values["width"],
        attention_probs_dropout_prob=values["dropout"],
    )


def _number(name: str, key: str, text: str) -> Any:
    """Return an option's value: a probability for ``dropout``, a whole number for all others."""
    least = _OPTIONS[key][2]
    below = {"dropout": 1, "seed": MAX_SEED + 1}.get(key, math.inf)
    kind = float if key == "dropout" else int
    accepted = f"at least {least}" if below == math.inf else f"{least} to less than {below}"
    try:
        value = kind(text)
    except ValueError:
        value = -1
    if not least <= value < below:
        raise UserError(f"encoder '{name}': {key}={text} must be {accepted}")
    return value


FAMILIES: dict[str, Family] = {
    "features": Family(FeaturesTower, "features.FeaturesModel", package="trainables.towers.models"),
}
