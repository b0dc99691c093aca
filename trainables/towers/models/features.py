"""A small transformer over sequences of extracted features."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.masking_utils import create_bidirectional_mask
from transformers.modeling_outputs import BaseModelOutput
from transformers.models.vit.modeling_vit import ViTLayer

from trainables.towers.models.configuration import FeaturesConfig


class FeaturesEmbeddings(nn.Module):
    """Projects the feature vectors, prepends a [CLS] token and adds positions."""

    def __init__(self, config: FeaturesConfig) -> None:
        super().__init__()
        self.projection = nn.Linear(config.feature_size, config.hidden_size)
        self.cls_token = nn.Parameter(torch.empty(1, 1, config.hidden_size))
        self.position_embeddings = nn.Parameter(
            torch.empty(1, config.max_position_embeddings + 1, config.hidden_size)
        )
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, features: Tensor) -> Tensor:
        """Return tokens (B, T + 1, D) of features (B, T, F)."""
        projected = self.projection(features)
        tokens = torch.cat([self.cls_token.expand(len(projected), -1, -1).to(projected), projected], dim=1)
        return self.dropout(tokens + self.position_embeddings[:, : tokens.shape[1]])


class FeaturesModel(PreTrainedModel):
    """A pre-LN transformer encoder with the layers of ViT (Dosovitskiy et al., ICLR 2021, Sec. 3.1).

    The layers and a final LayerNorm follow x = [CLS; W f_1; …; W f_T] + positions. The variance of the
    initial weights is one over the fan-in, so that [CLS] depends on the sequence before any training. The
    positions are learned; they start as sinusoids (Vaswani et al., NeurIPS 2017, Sec. 3.5).
    """

    config_class = FeaturesConfig
    base_model_prefix = "encoder"
    main_input_name = "features"
    _no_split_modules = ["FeaturesEmbeddings", "ViTLayer"]
    _supports_sdpa = True

    def __init__(self, config: FeaturesConfig) -> None:
        super().__init__(config)
        self.embeddings = FeaturesEmbeddings(config)
        self.layers = nn.ModuleList([ViTLayer(config) for _ in range(config.num_hidden_layers)])
        self.layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, nn.Linear):
            init.normal_(module.weight, std=module.in_features**-0.5)
        elif isinstance(module, FeaturesEmbeddings):
            init.normal_(module.cls_token)
            init.copy_(module.position_embeddings, _sinusoids(*module.position_embeddings.shape[1:]))

    def forward(self, features: Tensor, attention_mask: Tensor | None = None) -> BaseModelOutput:
        """Encode sequences of feature vectors.

        Args:
            features: Feature vectors, shape (B, T, F).
            attention_mask: True or 1 where a vector is real, shape (B, T). None means all.

        Returns:
            ``last_hidden_state`` of shape (B, T + 1, D), [CLS] first.
        """
        tokens = self.embeddings(features)
        if attention_mask is not None:
            attention_mask = nn.functional.pad(attention_mask, (1, 0), value=1)
        bias = create_bidirectional_mask(
            config=self.config, inputs_embeds=tokens, attention_mask=attention_mask
        )
        for layer in self.layers:
            tokens = layer(tokens, bias)
        return BaseModelOutput(last_hidden_state=self.layernorm(tokens))


def _sinusoids(length: int, width: int) -> Tensor:
    """Return sines and cosines with wavelengths from 2 pi to 10000 * 2 pi, shape (1, length, width)."""
    rates = torch.exp(torch.arange(0, width, 2) * (-math.log(10000.0) / width))
    angles = torch.arange(length)[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)[None, :, :width]
