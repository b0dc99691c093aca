"""BERT-like text encoders: BERT (and MiniLM, which is a BERT), RoBERTa, DistilBERT."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from trainables.towers.base import Sequence, Tower


class BertTower(Tower):
    """BERT and RoBERTa; inputs ``input_ids`` (B, T) and ``attention_mask`` (B, T)."""

    @property
    def layers(self) -> nn.ModuleList:
        """The transformer layers, lowest first."""
        return self.model.encoder.layer

    def embed(self, inputs: Mapping[str, Tensor]) -> Sequence:
        """Look up token, position and (where the family has them) segment embeddings."""
        tokens = self.model.embeddings(input_ids=inputs["input_ids"])
        return Sequence(tokens, inputs["attention_mask"].bool(), layer=0)

    def _layer_at(self, layer: Any, tokens: Tensor, keep: slice, bias: Tensor | None) -> Tensor:
        attention, kept = layer.attention.self, tokens[:, keep]
        context = self._attend(
            attention.query(kept),
            attention.key(tokens),
            attention.value(tokens),
            bias,
            attention.num_attention_heads,
            attention.dropout.p if layer.training else 0.0,
        )
        return layer.feed_forward_chunk(layer.attention.output(context, kept))

    def example_inputs(self, batch_size: int, **sizes: Any) -> dict[str, Tensor]:
        """Return token ids and a mask without padding, both (B, T)."""
        shape = (batch_size, sizes["text_length"])
        return {
            "input_ids": torch.ones(shape, dtype=torch.long),
            "attention_mask": torch.ones(shape, dtype=torch.bool),
        }


class DistilBertTower(BertTower):
    """DistilBERT: as BERT, without segments."""

    @property
    def layers(self) -> nn.ModuleList:
        """The transformer layers, lowest first."""
        return self.model.transformer.layer

    def _layer_at(self, layer: Any, tokens: Tensor, keep: slice, bias: Tensor | None) -> Tensor:
        attention, kept = layer.attention, tokens[:, keep]
        context = self._attend(
            attention.q_lin(kept),
            attention.k_lin(tokens),
            attention.v_lin(tokens),
            bias,
            attention.n_heads,
            attention.dropout.p if layer.training else 0.0,
        )
        kept = layer.sa_layer_norm(attention.out_lin(context) + kept)
        return layer.output_layer_norm(layer.ffn(kept) + kept)
