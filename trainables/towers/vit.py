"""ViT-like image encoders: ViT, DeiT, DINOv2 with and without registers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from trainables.towers.base import Architecture, Family, InputSizes, PrefixTokens, Sequence, Tower


class ViTTower(Tower):
    """ViT and DeiT, with the input ``pixel_values`` (B, 3, S, S).

    Tokens are [CLS], the distillation token where a model has one, and the patches.
    """

    KIND = "image"
    POOLINGS: ClassVar[tuple[str, ...]] = ("cls", "mean", "max")
    MATRICES = {
        "query": "attention.q_proj",
        "key": "attention.k_proj",
        "value": "attention.v_proj",
        "output": "attention.o_proj",
        "up": "mlp.fc1",
        "down": "mlp.fc2",
    }
    SUBLAYERS = {"attention": "attention.o_proj", "feed_forward": "mlp.fc2"}
    FEED_FORWARD_NORM = "layernorm_after"

    @property
    def layers(self) -> nn.ModuleList:
        """The transformer layers, lowest first."""
        return self.model.layers

    @property
    def leading(self) -> int:
        """Number of tokens before the patches."""
        return 2 if hasattr(self.model.embeddings, "distillation_token") else 1

    def embed(self, inputs: Mapping[str, Tensor]) -> Sequence:
        """Cut images into patches and add positions, interpolated if S is not the pretraining size."""
        tokens = self.model.embeddings(inputs["pixel_values"], interpolate_pos_encoding=True)
        return Sequence(tokens, None, layer=0)

    def finish(self, sequence: Sequence) -> Sequence:
        """Apply the final LayerNorm."""
        return replace(sequence, tokens=self.model.layernorm(sequence.tokens))

    def _layer_at(
        self, layer: Any, tokens: Tensor, keep: slice, bias: Tensor | None, prefix_tokens: PrefixTokens | None
    ) -> Tensor:
        kept = tokens[:, keep]
        attended = self._self_attention(
            layer.attention, layer.layernorm_before(tokens), keep, bias, prefix_tokens
        )
        kept = layer.dropout(attended) + kept
        return layer.dropout(layer.mlp(layer.layernorm_after(kept))) + kept

    def _self_attention(
        self,
        attention: Any,
        tokens: Tensor,
        keep: slice,
        bias: Tensor | None,
        prefix_tokens: PrefixTokens | None,
    ) -> Tensor:
        context = self._attend(
            attention.q_proj(tokens[:, keep]),
            attention.k_proj(tokens),
            attention.v_proj(tokens),
            bias,
            attention.num_attention_heads,
            attention.attention_dropout if attention.training else 0.0,
            keep=keep,
            prefix_tokens=prefix_tokens,
        )
        return attention.o_proj(context)

    def token_count(self, layer: int, sizes: InputSizes) -> int:
        """Return the number of patches and of the tokens before them."""
        return (sizes.image_size // int(self.model.config.patch_size)) ** 2 + self.leading

    def example_inputs(self, batch_size: int, sizes: InputSizes) -> dict[str, Tensor]:
        """Return pixels of shape (B, 3, S, S)."""
        return {"pixel_values": torch.zeros(batch_size, 3, sizes.image_size, sizes.image_size)}


class Dinov2Tower(ViTTower):
    """DINOv2. Positions are always interpolated, and S must be a multiple of the patch size."""

    SUBLAYERS = {"attention": "layer_scale1", "feed_forward": "layer_scale2"}
    FEED_FORWARD_NORM = "norm2"

    def __init__(self, modality: str, model: Any) -> None:
        # Only masked-image pretraining uses this parameter. In a fine-tuned encoder it would count as
        # trainable but never receive a gradient.
        model.embeddings.mask_token = None
        super().__init__(modality, model)

    @property
    def layers(self) -> nn.ModuleList:
        """The transformer layers, lowest first."""
        return self.model.encoder.layer

    def embed(self, inputs: Mapping[str, Tensor]) -> Sequence:
        """Cut images into patches and add interpolated positions."""
        return Sequence(self.model.embeddings(inputs["pixel_values"]), None, layer=0)

    def _layer_at(
        self, layer: Any, tokens: Tensor, keep: slice, bias: Tensor | None, prefix_tokens: PrefixTokens | None
    ) -> Tensor:
        kept = tokens[:, keep]
        attended = self._self_attention(layer.attention, layer.norm1(tokens), keep, bias, prefix_tokens)
        kept = layer.drop_path(layer.layer_scale1(attended)) + kept
        return layer.drop_path(layer.layer_scale2(layer.mlp(layer.norm2(kept)))) + kept


class Dinov2WithRegistersTower(Dinov2Tower):
    """DINOv2 with registers (Darcet et al., ICLR 2024): learned tokens between [CLS] and the patches."""

    @property
    def leading(self) -> int:
        """Number of tokens before the patches."""
        return 1 + int(self.model.config.num_register_tokens)


FAMILIES: dict[str, Family] = {
    "vit": Family(ViTTower, "vit.modeling_vit.ViTModel", pooling_head=True),
    "deit": Family(ViTTower, "deit.modeling_deit.DeiTModel", pooling_head=True),
    "dinov2": Family(Dinov2Tower, "dinov2.modeling_dinov2.Dinov2Model"),
    "dinov2_with_registers": Family(
        Dinov2WithRegistersTower,
        "dinov2_with_registers.modeling_dinov2_with_registers.Dinov2WithRegistersModel",
    ),
}

ARCHITECTURES: dict[str, Architecture] = {
    "vit-base": Architecture("vit", "ViT-B/16 at 224 (86 M), 12 layers, width 768"),
    "vit-large": Architecture(
        "vit",
        "ViT-L/16 at 224 (303 M), 24 layers, width 1024",
        {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096},
    ),
}
