"""CLIP's two encoders: a causal text encoder and a ViT for images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from trainables.errors import UserError
from trainables.towers.base import Architecture, Family, PrefixTokens, Sequence, Tower
from trainables.towers.gpt2 import GPT2Tower
from trainables.towers.vit import ViTTower

#: ``model_type`` of a model that contains both encoders.
BOTH = "clip"

_PARTS = {"text": "text_config", "image": "vision_config"}

#: The kinds of modalities that they encode.
KINDS = frozenset(_PARTS)


def encoder_config(config: Any, modality: str, name: str) -> Any:
    """Return the configuration of one of a CLIP model's two encoders.

    Args:
        config: The configuration of the whole model.
        modality: ``text`` or ``image``.
        name: The name that the user wrote, for messages.

    Raises:
        UserError: If the modality is neither of them.
    """
    if modality not in _PARTS:
        raise UserError(f"encoder '{name}' encodes {' and '.join(_PARTS)}, not {modality}")
    part = getattr(config, _PARTS[modality])
    # The commit of a hub model identifies its weights
    part._commit_hash = getattr(config, "_commit_hash", None)
    return part


class CLIPTower(Tower):
    """Base of CLIP's two encoders, which have the same layers (Radford et al., ICML 2021)."""

    MATRICES = {
        "query": "self_attn.q_proj",
        "key": "self_attn.k_proj",
        "value": "self_attn.v_proj",
        "output": "self_attn.out_proj",
        "up": "mlp.fc1",
        "down": "mlp.fc2",
    }
    SUBLAYERS = {"attention": "self_attn.out_proj", "feed_forward": "mlp.fc2"}
    FEED_FORWARD_NORM = "layer_norm2"
    EMBEDDINGS: ClassVar[tuple[str, ...]] = ("embeddings",)

    @property
    def layers(self) -> nn.ModuleList:
        """The transformer layers, lowest first."""
        return self.model.encoder.layers

    def _layer_at(
        self, layer: Any, tokens: Tensor, keep: slice, bias: Tensor | None, prefix_tokens: PrefixTokens | None
    ) -> Tensor:
        attention, normed = layer.self_attn, layer.layer_norm1(tokens)
        context = self._attend(
            attention.q_proj(normed[:, keep]),
            attention.k_proj(normed),
            attention.v_proj(normed),
            bias,
            attention.num_heads,
            attention.dropout if attention.training else 0.0,
            keep=keep,
            prefix_tokens=prefix_tokens,
        )
        kept = attention.out_proj(context) + tokens[:, keep]
        return layer.mlp(layer.layer_norm2(kept)) + kept


class CLIPTextTower(CLIPTower, GPT2Tower):
    """CLIP's text encoder, causal like GPT-2; inputs ``input_ids`` and ``attention_mask`` (B, T).

    Prompts stand after the first token, start-of-text, as in MaPLe (Khattak et al., CVPR 2023): start-of-text
    sees none of them, and they see it. Their place decides only who sees whom, because positions are added
    before prompts. In a sequence, they still come before the tokens.

    By default, the vector of a text is its last real token. The library uses the first end-of-text token.
    Both are the same token, because CLIP's tokeniser ends every text with end-of-text and masks all tokens
    after it.
    """

    def embed(self, inputs: Mapping[str, Tensor]) -> Sequence:
        """Look up token and position embeddings."""
        tokens = self.model.embeddings(input_ids=inputs["input_ids"])
        return Sequence(tokens, inputs["attention_mask"].bool(), layer=0)

    def _hidden(self, n_prefix: int, n_prompts: int, n_tokens: int, device: torch.device) -> Tensor:
        """Hide all later positions, where prompts are between the first token and the second."""
        hidden = super()._hidden(n_prefix, n_prompts, n_tokens, device)
        first = n_prompts
        hidden[first, n_prefix : n_prefix + n_prompts] = True
        hidden[:first, n_prefix + first] = False
        return hidden

    def finish(self, sequence: Sequence) -> Sequence:
        """Apply the final LayerNorm."""
        return replace(sequence, tokens=self.model.final_layer_norm(sequence.tokens))


class CLIPVisionTower(CLIPTower, ViTTower):
    """CLIP's image encoder; input ``pixel_values`` (B, 3, S, S), tokens [CLS] + patches.

    Prompts of the first layer pass the first LayerNorm, as the tokens do, because they join these before it
    (MaPLe, Khattak et al., CVPR 2023). Those of other layers do not.
    """

    EMBEDDINGS: ClassVar[tuple[str, ...]] = ("embeddings",)

    def embed(self, inputs: Mapping[str, Tensor]) -> Sequence:
        """Cut images into patches, add positions (interpolated as in ViT) and apply the first LayerNorm."""
        tokens = self.model.embeddings(inputs["pixel_values"], interpolate_pos_encoding=True)
        return Sequence(self.model.pre_layrnorm(tokens), None, layer=0)

    def _run_layer(self, index: int, sequence: Sequence, **options: Any) -> Sequence:
        if index == 0 and sequence.prompts is not None:
            sequence = replace(sequence, prompts=self.model.pre_layrnorm(sequence.prompts))
        return super()._run_layer(index, sequence, **options)

    def finish(self, sequence: Sequence) -> Sequence:
        """Return the sequence unchanged, because CLIP normalises only the pooled vector."""
        return sequence

    def pool(self, sequence: Sequence) -> Tensor:
        """Return the vector that the pooling reads, after the final LayerNorm, shape (B, D)."""
        pooled: Tensor = self.model.post_layernorm(super().pool(sequence))
        return pooled


FAMILIES: dict[str, Family] = {
    "clip_text_model": Family(CLIPTextTower, "clip.modeling_clip.CLIPTextModel"),
    "clip_vision_model": Family(CLIPVisionTower, "clip.modeling_clip.CLIPVisionModel"),
}

ARCHITECTURES: dict[str, Architecture] = {
    "clip-text-base": Architecture(
        "clip_text_model", "text encoder of CLIP ViT-B/32 (63 M), 12 layers, width 512"
    ),
    "clip-vit-base": Architecture(
        "clip_vision_model", "image encoder of CLIP ViT-B/32 at 224 (87 M), 12 layers, width 768"
    ),
}
