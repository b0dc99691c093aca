"""GPT-2: a causal text encoder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from trainables.towers.base import Architecture, Family, PrefixTokens, Sequence
from trainables.towers.bert import BertTower


class GPT2Tower(BertTower):
    """GPT-2; inputs ``input_ids`` (B, T) and ``attention_mask`` (B, T), padded on the right.

    A token attends only to itself and to earlier positions. Prompts stand before the tokens: every token
    attends to all prompts, and no prompt attends to a token. By default, the vector of a text is its last
    real token, which attends to all others.
    """

    POOLINGS = ("last", "mean", "max")
    PROMPTS_FIRST = True
    MATRICES = {
        "query_key_value": "attn.c_attn",
        "output": "attn.c_proj",
        "up": "mlp.c_fc",
        "down": "mlp.c_proj",
    }
    SUBLAYERS = {"attention": "attn.resid_dropout", "feed_forward": "mlp.dropout"}
    FEED_FORWARD_NORM = "ln_2"
    EMBEDDINGS: ClassVar[tuple[str, ...]] = ("wte", "wpe")

    @property
    def norms_first(self) -> bool:
        """Return True."""
        return True

    @property
    def layers(self) -> nn.ModuleList:
        """The transformer layers, lowest first."""
        return self.model.h

    def embed(self, inputs: Mapping[str, Tensor]) -> Sequence:
        """Look up token and position embeddings."""
        ids = inputs["input_ids"]
        positions = torch.arange(ids.shape[1], device=ids.device)
        tokens = self.model.drop(self.model.wte(ids) + self.model.wpe(positions))
        return Sequence(tokens, inputs["attention_mask"].bool(), layer=0)

    def finish(self, sequence: Sequence) -> Sequence:
        """Apply the final LayerNorm."""
        return replace(sequence, tokens=self.model.ln_f(sequence.tokens))

    def _bias(
        self, sequence: Sequence, prefix_tokens: PrefixTokens | None, *, blind: bool | slice
    ) -> Tensor | None:
        """Return the bias of the base class, which additionally hides all later positions."""
        bias = super()._bias(sequence, prefix_tokens, blind=blind)
        dtype, device = sequence.tokens.dtype, sequence.tokens.device
        n_prefix = 0 if prefix_tokens is None else prefix_tokens[0].shape[1]
        hidden = self._hidden(n_prefix, sequence.n_prompts, sequence.tokens.shape[1], device)
        causal = torch.zeros(hidden.shape, dtype=dtype, device=device).masked_fill_(
            hidden, torch.finfo(dtype).min
        )[None, None]
        return causal if bias is None else torch.minimum(bias, causal)

    def _hidden(self, n_prefix: int, n_prompts: int, n_tokens: int, device: torch.device) -> Tensor:
        """Return which keys a position does not see: all later ones. Shape (M + T, P + M + T).

        Args:
            n_prefix: Number of prefix tokens P, which stand first among the keys.
            n_prompts: Number of prompts M, which stand before the tokens.
            n_tokens: Number of tokens T.
            device: Device of the result.
        """
        length = n_prompts + n_tokens
        return torch.ones(length, n_prefix + length, dtype=torch.bool, device=device).triu(n_prefix + 1)

    def _whole_layer(self, layer: Any, tokens: Tensor, bias: Tensor | None) -> Tensor:
        return layer(tokens, attention_mask=bias)

    def _layer_at(
        self, layer: Any, tokens: Tensor, keep: slice, bias: Tensor | None, prefix_tokens: PrefixTokens | None
    ) -> Tensor:
        attention, kept = layer.attn, tokens[:, keep]
        query, key, value = attention.c_attn(layer.ln_1(tokens)).chunk(3, dim=-1)
        # ``_attend`` divides by the square root of the heads' width; some checkpoints use another scale
        scale = attention.scaling * attention.head_dim**0.5
        context = self._attend(
            query[:, keep] if scale == 1 else query[:, keep] * scale,
            key,
            value,
            bias,
            attention.num_heads,
            attention.attn_dropout.p if layer.training else 0.0,
            keep=keep,
            prefix_tokens=prefix_tokens,
        )
        kept = attention.resid_dropout(attention.c_proj(context)) + kept
        return kept + layer.mlp(layer.ln_2(kept))


FAMILIES: dict[str, Family] = {
    "gpt2": Family(GPT2Tower, "gpt2.modeling_gpt2.GPT2Model"),
}

ARCHITECTURES: dict[str, Architecture] = {
    "gpt2": Architecture("gpt2", "GPT-2 (124 M), 12 layers, width 768"),
}
