"""ViT-like image encoders: ViT, DeiT, DINOv2."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from trainables.towers.base import Sequence, Tower


class ViTTower(Tower):
    """ViT and DeiT; input ``pixel_values`` (B, 3, S, S), tokens [CLS] (and distillation) + patches."""

    @property
    def layers(self) -> nn.ModuleList:
        """The transformer layers, lowest first."""
        return self.model.layers

    def embed(self, inputs: Mapping[str, Tensor]) -> Sequence:
        """Cut into patches and add positions, interpolated where S is not the pretraining size."""
        tokens = self.model.embeddings(inputs["pixel_values"], interpolate_pos_encoding=True)
        return Sequence(tokens, None, layer=0)

    def finish(self, sequence: Sequence) -> Sequence:
        """Apply the final LayerNorm."""
        return Sequence(self.model.layernorm(sequence.tokens), sequence.mask, sequence.layer)

    def _layer_at(self, layer: Any, tokens: Tensor, keep: slice, bias: Tensor | None) -> Tensor:
        kept = tokens[:, keep]
        attended = self._self_attention(layer.attention, layer.layernorm_before(tokens), keep, bias)
        kept = layer.dropout(attended) + kept
        return layer.dropout(layer.mlp(layer.layernorm_after(kept))) + kept

    def _self_attention(self, attention: Any, tokens: Tensor, keep: slice, bias: Tensor | None) -> Tensor:
        context = self._attend(
            attention.q_proj(tokens[:, keep]),
            attention.k_proj(tokens),
            attention.v_proj(tokens),
            bias,
            attention.num_attention_heads,
            attention.attention_dropout if attention.training else 0.0,
        )
        return attention.o_proj(context)

    def example_inputs(self, batch_size: int, **sizes: Any) -> dict[str, Tensor]:
        """Return pixels of shape (B, 3, S, S)."""
        return {"pixel_values": torch.zeros(batch_size, 3, sizes["image_size"], sizes["image_size"])}


class Dinov2Tower(ViTTower):
    """DINOv2; always interpolates its positions, S must be a multiple of the patch size."""

    def __init__(self, modality: str, model: Any) -> None:
        # Only masked-image pretraining uses it: left in, it would be announced as trainable when the
        # encoder is fine-tuned and never receive a gradient.
        model.embeddings.mask_token = None
        super().__init__(modality, model)

    @property
    def layers(self) -> nn.ModuleList:
        """The transformer layers, lowest first."""
        return self.model.encoder.layer

    def embed(self, inputs: Mapping[str, Tensor]) -> Sequence:
        """Cut into patches and add interpolated positions."""
        return Sequence(self.model.embeddings(inputs["pixel_values"]), None, layer=0)

    def _layer_at(self, layer: Any, tokens: Tensor, keep: slice, bias: Tensor | None) -> Tensor:
        kept = tokens[:, keep]
        attended = self._self_attention(layer.attention, layer.norm1(tokens), keep, bias)
        kept = layer.drop_path(layer.layer_scale1(attended)) + kept
        return layer.drop_path(layer.layer_scale2(layer.mlp(layer.norm2(kept)))) + kept
