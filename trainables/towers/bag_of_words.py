"""Bag of words: an encoder without layers, whose vector is the mean of a text's word embeddings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor, nn

from trainables.towers.base import Family, Sequence
from trainables.towers.bert import BertTower

#: Users write this before the name of the text encoder whose word embeddings they want.
PREFIX = "bow:"


class BagOfWordsTower(BertTower):
    """The average of pretrained word embeddings (MoPE, Jiang et al. 2024, Table 4).

    The tower has no positions, no normalisation and no layers (depth 0). Its inputs are ``input_ids`` (B, T)
    and ``attention_mask`` (B, T).
    """

    POOLINGS = ("mean", "max")
    MATRICES = {}
    SUBLAYERS = {}
    FEED_FORWARD_NORM = ""
    EMBEDDINGS: ClassVar[tuple[str, ...]] = ("word_embeddings",)

    def __init__(self, modality: str, model: Any) -> None:
        super().__init__(modality, model)
        self._layers = nn.ModuleList()

    @property
    def layers(self) -> nn.ModuleList:
        """An empty list."""
        return self._layers

    def embed(self, inputs: Mapping[str, Tensor]) -> Sequence:
        """Look up word embeddings."""
        return Sequence(
            self.model.word_embeddings(inputs["input_ids"]), inputs["attention_mask"].bool(), layer=0
        )


def bag_of_words_config(encoder: Any, max_length: int) -> Any:
    """Return the configuration of a text encoder's word embeddings.

    Args:
        encoder: The text encoder's configuration.
        max_length: The largest number of tokens that the text encoder takes.
    """
    from trainables.towers.models.configuration import BagOfWordsConfig

    return BagOfWordsConfig(
        vocab_size=encoder.vocab_size,
        hidden_size=encoder.hidden_size,
        max_position_embeddings=max_length,
        pad_token_id=encoder.pad_token_id,
    )


FAMILIES: dict[str, Family] = {
    "bag_of_words": Family(
        BagOfWordsTower, "bag_of_words.BagOfWordsModel", package="trainables.towers.models"
    ),
}
