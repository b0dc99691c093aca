"""BERT-like text encoders: BERT (and MiniLM, which is a BERT), RoBERTa and its kin, DistilBERT."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from trainables.towers.base import Architecture, Family, InputSizes, PrefixTokens, Sequence, Tower


class BertTower(Tower):
    """BERT, RoBERTa, XLM-RoBERTa, CamemBERT; inputs ``input_ids`` (B, T) and ``attention_mask`` (B, T)."""

    KIND = "text"

    MATRICES = {
        "query": "attention.self.query",
        "key": "attention.self.key",
        "value": "attention.self.value",
        "output": "attention.output.dense",
        "up": "intermediate.dense",
        "down": "output.dense",
    }
    SUBLAYERS = {"attention": "attention.output.dropout", "feed_forward": "output.dropout"}
    FEED_FORWARD_NORM = "output.LayerNorm"

    @property
    def norms_first(self) -> bool:
        """Return False."""
        return False

    @property
    def layers(self) -> nn.ModuleList:
        """The transformer layers, lowest first."""
        return self.model.encoder.layer

    def embed(self, inputs: Mapping[str, Tensor]) -> Sequence:
        """Look up token, position and (where the family has them) segment embeddings."""
        tokens = self.model.embeddings(input_ids=inputs["input_ids"])
        return Sequence(tokens, inputs["attention_mask"].bool(), layer=0)

    def _layer_at(
        self, layer: Any, tokens: Tensor, keep: slice, bias: Tensor | None, prefix_tokens: PrefixTokens | None
    ) -> Tensor:
        attention, kept = layer.attention.self, tokens[:, keep]
        context = self._attend(
            attention.query(kept),
            attention.key(tokens),
            attention.value(tokens),
            bias,
            attention.num_attention_heads,
            attention.dropout.p if layer.training else 0.0,
            keep=keep,
            prefix_tokens=prefix_tokens,
        )
        return layer.feed_forward_chunk(layer.attention.output(context, kept))

    def token_count(self, layer: int, sizes: InputSizes) -> int:
        """Return the length of the text in tokens."""
        return sizes.text_length

    def example_inputs(self, batch_size: int, sizes: InputSizes) -> dict[str, Tensor]:
        """Return token ids and a mask without padding, both (B, T)."""
        shape = (batch_size, sizes.text_length)
        return {
            "input_ids": torch.ones(shape, dtype=torch.long),
            "attention_mask": torch.ones(shape, dtype=torch.bool),
        }


class DistilBertTower(BertTower):
    """DistilBERT: BERT without segment embeddings."""

    MATRICES = {
        "query": "attention.q_lin",
        "key": "attention.k_lin",
        "value": "attention.v_lin",
        "output": "attention.out_lin",
        "up": "ffn.lin1",
        "down": "ffn.lin2",
    }
    SUBLAYERS = {"attention": "attention.out_lin", "feed_forward": "ffn.dropout"}
    FEED_FORWARD_NORM = "output_layer_norm"

    @property
    def layers(self) -> nn.ModuleList:
        """The transformer layers, lowest first."""
        return self.model.transformer.layer

    def _layer_at(
        self, layer: Any, tokens: Tensor, keep: slice, bias: Tensor | None, prefix_tokens: PrefixTokens | None
    ) -> Tensor:
        attention, kept = layer.attention, tokens[:, keep]
        context = self._attend(
            attention.q_lin(kept),
            attention.k_lin(tokens),
            attention.v_lin(tokens),
            bias,
            attention.n_heads,
            attention.dropout.p if layer.training else 0.0,
            keep=keep,
            prefix_tokens=prefix_tokens,
        )
        kept = layer.sa_layer_norm(attention.out_lin(context) + kept)
        return layer.output_layer_norm(layer.ffn(kept) + kept)


FAMILIES: dict[str, Family] = {
    "bert": Family(BertTower, "bert.modeling_bert.BertModel", pooling_head=True),
    "roberta": Family(BertTower, "roberta.modeling_roberta.RobertaModel", pooling_head=True),
    "xlm-roberta": Family(BertTower, "xlm_roberta.modeling_xlm_roberta.XLMRobertaModel", pooling_head=True),
    "camembert": Family(BertTower, "camembert.modeling_camembert.CamembertModel", pooling_head=True),
    "distilbert": Family(DistilBertTower, "distilbert.modeling_distilbert.DistilBertModel"),
}

ARCHITECTURES: dict[str, Architecture] = {
    "bert-base": Architecture("bert", "BERT-base (110 M), 12 layers, width 768"),
    "bert-large": Architecture(
        "bert",
        "BERT-large (335 M), 24 layers, width 1024",
        {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096},
    ),
}
