"""Configurations of the models in this package. Importing this module registers them with transformers."""

from __future__ import annotations

from transformers import AutoConfig, PreTrainedConfig


class FeaturesConfig(PreTrainedConfig):
    """Configuration of ``FeaturesModel``.

    Attributes:
        feature_size: Size F of a feature vector.
        max_position_embeddings: Largest number of feature vectors in a sequence.
        seed: Seed of the initial weights.
    """

    model_type = "features"

    feature_size: int = 64
    hidden_size: int = 64
    num_hidden_layers: int = 4
    num_attention_heads: int = 4
    intermediate_size: int = 256
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    layer_norm_eps: float = 1e-6
    qkv_bias: bool = True
    max_position_embeddings: int = 512
    seed: int = 0


class BagOfWordsConfig(PreTrainedConfig):
    """Configuration of ``BagOfWordsModel``, with the values of a text encoder's configuration.

    Attributes:
        max_position_embeddings: Largest number of tokens that the text encoder takes.
    """

    model_type = "bag_of_words"

    vocab_size: int = 30522
    hidden_size: int = 768
    num_hidden_layers: int = 0
    max_position_embeddings: int = 512
    pad_token_id: int | None = 0


AutoConfig.register(FeaturesConfig.model_type, FeaturesConfig, exist_ok=True)
