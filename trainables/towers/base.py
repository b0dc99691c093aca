"""An encoder taken apart into steps: embed, layer 0 … depth-1, finish, pool."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class Sequence:
    """Tokens on their way through a tower.

    Attributes:
        tokens: Hidden states, shape (B, T, D).
        mask: True where a token is real, shape (B, T); None where there is no padding.
        layer: How many layers the tokens have been through, i.e. the index of the next one.
    """

    tokens: Tensor
    mask: Tensor | None
    layer: int

    def append(self, *extra: Tensor) -> Sequence:
        """Return the sequence with tokens of shape (B, M, D) added at its end, visible to every token."""
        tokens = torch.cat([self.tokens, *extra], dim=1)
        if self.mask is None:
            return replace(self, tokens=tokens)
        added = tokens.shape[1] - self.tokens.shape[1]
        visible = self.mask.new_ones(self.mask.shape[0], added)
        return replace(self, tokens=tokens, mask=torch.cat([self.mask, visible], dim=1))

    def take(self, positions: slice) -> Sequence:
        """Return the sequence with only the tokens at some positions."""
        mask = None if self.mask is None else self.mask[:, positions]
        return replace(self, tokens=self.tokens[:, positions], mask=mask)


#: What a method receives for one modality: the encoder's own inputs (batch first), or a sequence that
#: has already been through the encoder's lower layers.
ModalityInput = Mapping[str, Tensor] | Sequence


class Tower(nn.Module):
    """A pretrained unimodal transformer as steps that a fusion method can interleave with its own.

    Running ``embed``, every ``layer`` and ``finish`` equals the last hidden state of the Hugging Face model.
    Subclasses say how a family embeds its input and where its layers are.

    Args:
        modality: The modality the tower encodes.
        model: The Hugging Face model, without pooling head.

    Attributes:
        skip_unused: Do not compute outputs that the caller of ``layer`` does not keep. Off, a layer runs as
            the library runs it; memory is predicted that way.
    """

    #: The positions that ``pool`` reads.
    POOLED = slice(0, 1)

    def __init__(self, modality: str, model: nn.Module) -> None:
        super().__init__()
        self.modality = modality
        self.model: Any = model
        self.skip_unused = False
        self.requires_grad_(False)
        self.eval()

    @property
    def width(self) -> int:
        """Hidden size D of the encoder's tokens."""
        return int(self.model.config.hidden_size)

    @property
    def depth(self) -> int:
        """Number of transformer layers."""
        return len(self.layers)

    @property
    def layers(self) -> nn.ModuleList:
        """The transformer layers, lowest first."""
        raise AttributeError(f"{type(self).__name__} does not define its layers")

    def embed(self, inputs: Mapping[str, Tensor]) -> Sequence:
        """Turn raw inputs into the tokens before layer 0.

        Args:
            inputs: The encoder's inputs, batch first; their names depend on the modality.
        """
        raise AttributeError(f"{type(self).__name__} does not define its embedding")

    def layer(self, index: int, sequence: Sequence, keep: slice | None = None) -> Sequence:
        """Run one transformer layer; the sequence may hold tokens that the caller added.

        Args:
            index: The layer, 0 for the lowest.
            sequence: Tokens (B, T, D).
            keep: Positions whose outputs are wanted; None is all. With ``skip_unused`` the others' are not
                computed (they still serve as keys and values), which changes nothing but the time.

        Returns:
            Tokens (B, T, D), or those at the positions to keep.
        """
        bias = None
        if sequence.mask is not None:
            # One additive row per sample, broadcast over heads and queries: the same for every attention
            # kernel, and never dependent on the data (an all-real mask is not dropped), so that the
            # memory of a step depends on shapes only.
            lowest = torch.finfo(sequence.tokens.dtype).min
            bias = torch.zeros(
                sequence.mask.shape, dtype=sequence.tokens.dtype, device=sequence.tokens.device
            ).masked_fill_(~sequence.mask, lowest)[:, None, None, :]
        after = replace(sequence, layer=index + 1)
        if keep is not None and self.skip_unused:
            kept = self._layer_at(self.layers[index], sequence.tokens, keep, bias)
            return replace(after.take(keep), tokens=kept)
        output = self.layers[index](sequence.tokens, bias)
        # transformers 4 returned a tuple, 5 returns the tensor
        after = replace(after, tokens=output[0] if isinstance(output, tuple) else output)
        return after if keep is None else after.take(keep)

    def _layer_at(self, layer: Any, tokens: Tensor, keep: slice, bias: Tensor | None) -> Tensor:
        """Run a layer for the positions to keep only; shape (B, kept, D)."""
        raise AttributeError(f"{type(self).__name__} does not define layers at some positions")

    def _attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        bias: Tensor | None,
        heads: int,
        dropout: float,
    ) -> Tensor:
        """Multi-head attention of query (B, Q, D) over key and value (B, T, D), as the kernel set says."""
        query, key, value = (
            projected.unflatten(-1, (heads, -1)).transpose(1, 2) for projected in (query, key, value)
        )
        if self.model.config._attn_implementation == "sdpa":
            context = F.scaled_dot_product_attention(query, key, value, attn_mask=bias, dropout_p=dropout)
        else:
            scores = query @ key.transpose(2, 3) * query.shape[-1] ** -0.5
            weights = (scores if bias is None else scores + bias).softmax(dim=-1)
            context = F.dropout(weights, p=dropout, training=dropout > 0) @ value
        return context.transpose(1, 2).flatten(-2)

    def finish(self, sequence: Sequence) -> Sequence:
        """Apply what follows the last layer (a final LayerNorm where the family has one)."""
        return sequence

    def pool(self, sequence: Sequence) -> Tensor:
        """Return one vector a sample, shape (B, D): the first ([CLS]) token."""
        return sequence.tokens[:, 0]

    def encode(self, inputs: ModalityInput, stop: int) -> Sequence:
        """Run the tower up to, not including, layer ``stop``, from wherever ``inputs`` stands.

        Args:
            inputs: Raw inputs, or a sequence that has been through at most ``stop`` layers.
            stop: Number of layers the result has been through, 0 to ``depth``.

        Raises:
            ValueError: If the sequence is already past ``stop``.
        """
        sequence = inputs if isinstance(inputs, Sequence) else self.embed(inputs)
        if sequence.layer > stop:
            raise ValueError(f"the {self.modality} sequence is past layer {stop} already: {sequence.layer}")
        for index in range(sequence.layer, stop):
            sequence = self.layer(index, sequence)
        return sequence

    def example_inputs(self, batch_size: int, **sizes: Any) -> dict[str, Tensor]:
        """Return inputs of the right shapes with arbitrary content, e.g. to count memory.

        Args:
            batch_size: Samples B.
            sizes: ``text_length`` (tokens) and ``image_size`` (pixels); a tower takes what it needs.
        """
        raise AttributeError(f"{type(self).__name__} does not define its inputs")
