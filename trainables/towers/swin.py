"""Swin image encoders: attention within shifted windows of a feature map that shrinks at every stage."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.towers.base import ALL, Architecture, Family, InputSizes, PrefixTokens, Sequence, Tower

#: Bias between two distant tokens that the cyclic shift puts into the same window.
_APART = -100.0


class SwinTower(Tower):
    """Swin (Liu et al., ICCV 2021); input ``pixel_values`` (B, 3, S, S), tokens are the patches, row by row.

    The layers are the blocks of all stages in order. Patch merging halves the side of the map and doubles
    the width. It is part of the first block of a stage, so that tokens after ``layer(i)`` have the side and
    the width of block i's stage. New prompts for a block have the block's ``layer_width``. Prompts that a
    sequence brings from the previous stage are merged too, each as a 2 x 2 patch of equal tokens. Prompts
    of two widths cannot be mixed.

    Every window contains all prompts, as in VPT (Jia et al., ECCV 2022) and MoPE (Jiang et al. 2024). Prompts
    and the tokens of a window attend to each other without relative position bias or shift mask. The output
    of a prompt is its mean over the windows.
    """

    KIND = "image"
    POOLINGS = ("mean", "max")
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

    @classmethod
    def depth_of(cls, config: Any) -> int:
        """Return the number of blocks in all stages."""
        return sum(config.depths)

    @property
    def layers(self) -> nn.ModuleList:
        """The blocks of all stages, lowest first."""
        return nn.ModuleList(block for stage in self.model.encoder.layers for block in stage.blocks)

    def layer_width(self, index: int) -> int:
        """Return the hidden size of a block's stage, which doubles from stage to stage."""
        return int(self.model.config.embed_dim) * 2 ** self._place(index)[0]

    def _place(self, index: int) -> tuple[int, int]:
        """Return the index of a block's stage and the block's index in the stage."""
        for stage, depth in enumerate(self.model.config.depths):
            if index < depth:
                return stage, index
            index -= depth
        raise IndexError(f"the {self.modality} tower has {self.depth} layers, no layer {self.depth + index}")

    def embed(self, inputs: Mapping[str, Tensor]) -> Sequence:
        """Cut images into patches. Absolute positions, where a model has them, are interpolated to S."""
        tokens, _ = self.model.embeddings(inputs["pixel_values"], interpolate_pos_encoding=True)
        return Sequence(tokens, None, layer=0)

    def _run_layer(
        self,
        index: int,
        sequence: Sequence,
        *,
        tokens: slice,
        prompts: slice,
        prefix_tokens: PrefixTokens | None,
        blind: bool | slice,
    ) -> Sequence:
        """Run one block, after patch merging if it is the first of its stage.

        Prompts have the width of the block or of the previous stage. All positions are computed, whatever
        ``skip_unused`` says. Prefix tokens are visible in every window.
        """
        stage, number = self._place(index)
        block = self.model.encoder.layers[stage].blocks[number]
        if stage and number == 0:
            sequence = self._merge(self.model.encoder.layers[stage - 1].downsample, sequence)
        n_tokens = sequence.tokens.shape[1]
        side, size = math.isqrt(n_tokens), int(self.model.config.window_size)
        if sequence.prompts is None and prefix_tokens is None and side > size:
            out, _ = block(sequence.tokens, (side, side))
        else:
            # The library's block fails for a map smaller than a window. For a map that is not larger than a
            # window it also sets its shift to 0, which would affect later maps of any size.
            window, shift = (side, 0) if side <= size else (size, size // 2 * (number % 2))
            joined = self._join(sequence)
            attended = self._attend_in_windows(block, joined, side, window, shift, prefix_tokens, blind=blind)
            hidden = joined + block.drop_path(attended)
            out = hidden + block.dropout(block.mlp(block.layernorm_after(hidden)))
        kept = out[:, n_tokens:][:, prompts]
        return Sequence(out[:, :n_tokens][:, tokens], None, index + 1, kept if kept.shape[1] else None)

    def _merge(self, downsample: Any, sequence: Sequence) -> Sequence:
        """Merge 2 x 2 tokens into one, and four copies of each prompt of the same width."""
        merged, prompts = sequence.tokens, sequence.prompts
        side = math.isqrt(merged.shape[1])
        if prompts is not None and prompts.shape[2] == merged.shape[2]:
            prompts = downsample.reduction(downsample.norm(prompts.repeat(1, 1, 4)))
        return replace(sequence, tokens=downsample(merged, (side, side)), prompts=prompts)

    def _attend_in_windows(
        self,
        block: Any,
        joined: Tensor,
        side: int,
        window: int,
        shift: int,
        prefix_tokens: PrefixTokens | None,
        *,
        blind: bool | slice,
    ) -> Tensor:
        """Return the attention's output for tokens and prompts, both of shape (B, T + M, D)."""
        attention, batch_size = block.attention, joined.shape[0]
        grid, prompts = block.layernorm_before(joined).split([side**2, joined.shape[1] - side**2], dim=1)
        padding = -side % window
        grid = F.pad(grid.unflatten(1, (side, side)), (0, 0, 0, padding, 0, padding))
        windows = _windows(grid.roll((-shift, -shift), dims=(1, 2)), window)
        n_windows = windows.shape[0] // batch_size
        inside = torch.cat([windows, _in_every_window(prompts, n_windows)], dim=1)
        if prefix_tokens is not None:
            prefix_tokens = (
                _in_every_window(prefix_tokens[0], n_windows),
                _in_every_window(prefix_tokens[1], n_windows),
            )
        bias = _position_bias(attention.relative_position_bias, window)
        if shift:
            far = _shift_mask(side + padding, window, shift, bias)
            bias = bias + far.repeat(batch_size, 1, 1, 1)
        n_prefix = 0 if prefix_tokens is None else prefix_tokens[0].shape[1]
        bias = F.pad(bias, (n_prefix, prompts.shape[1], 0, prompts.shape[1]))
        if blind:
            is_blind = torch.zeros(inside.shape[1], dtype=torch.bool, device=bias.device)
            is_blind[window**2 :][ALL if blind is True else blind] = True
            hidden = F.pad(is_blind[:, None] & ~is_blind[None, :], (n_prefix, 0), value=False)
            bias = bias.masked_fill_(hidden, torch.finfo(bias.dtype).min)
        context = self._attend(
            attention.q_proj(inside),
            attention.k_proj(inside),
            attention.v_proj(inside),
            bias,
            attention.num_attention_heads,
            attention.attention_dropout if attention.training else 0.0,
            prefix_tokens=prefix_tokens,
        )
        inside = block.dropout(attention.o_proj(context))
        grid = _grid(inside[:, : window**2], batch_size, window).roll((shift, shift), dims=(1, 2))
        prompts = inside[:, window**2 :].unflatten(0, (batch_size, n_windows)).mean(dim=1)
        return torch.cat([grid[:, :side, :side].flatten(1, 2), prompts], dim=1)

    def finish(self, sequence: Sequence) -> Sequence:
        """Apply the final LayerNorm."""
        return replace(sequence, tokens=self.model.layernorm(sequence.tokens))

    def token_count(self, layer: int, sizes: InputSizes) -> int:
        """Return the number of patches. Each stage halves the side of the map, rounded up."""
        side = sizes.image_size // int(self.model.config.patch_size)
        for _ in range(self._place(layer - 1)[0] if layer else 0):
            side = (side + 1) // 2
        return side**2

    def example_inputs(self, batch_size: int, sizes: InputSizes) -> dict[str, Tensor]:
        """Return pixels of shape (B, 3, S, S)."""
        return {"pixel_values": torch.zeros(batch_size, 3, sizes.image_size, sizes.image_size)}


def _windows(grid: Tensor, window: int) -> Tensor:
    """Cut maps (B, S, S, D) into windows (B * n, window ** 2, D), ordered by sample and then by row."""
    cut = grid.unflatten(2, (-1, window)).unflatten(1, (-1, window))
    return cut.transpose(2, 3).flatten(3, 4).flatten(0, 2)


def _grid(windows: Tensor, batch_size: int, window: int) -> Tensor:
    """Join windows (B * n, window ** 2, D) into maps (B, S, S, D)."""
    n_a_side = math.isqrt(windows.shape[0] // batch_size)
    cut = windows.unflatten(1, (window, window)).unflatten(0, (batch_size, n_a_side, n_a_side))
    return cut.transpose(2, 3).flatten(3, 4).flatten(1, 2)


def _in_every_window(vectors: Tensor, n_windows: int) -> Tensor:
    """Repeat each sample's vectors (B, M, D) for all of its windows, shape (B * n, M, D)."""
    return vectors[:, None].expand(-1, n_windows, -1, -1).flatten(0, 1)


def _position_bias(table: Any, window: int) -> Tensor:
    """Return a block's relative position bias (1, heads, A, A) for windows of A = window ** 2 tokens."""
    bias: Tensor = table()
    full = table.window_size[0]
    if window < full:
        # All distances within the smaller window also occur within the block's own window
        corner = bias.unflatten(3, (full, full)).unflatten(2, (full, full))
        bias = corner[:, :, :window, :window, :window, :window].flatten(4, 5).flatten(2, 3)
    return bias


def _shift_mask(side: int, window: int, shift: int, like: Tensor) -> Tensor:
    """Return the bias between tokens that only the cyclic shift made neighbours, shape (n, 1, A, A)."""
    place = torch.arange(side, device=like.device)
    band = (place >= side - window).long() + (place >= side - shift).long()
    region = _windows((3 * band[:, None] + band[None, :])[None, :, :, None], window)
    apart = region != region.transpose(1, 2)
    return torch.zeros(apart.shape, dtype=like.dtype, device=like.device).masked_fill_(apart, _APART)[:, None]


FAMILIES: dict[str, Family] = {
    "swin": Family(SwinTower, "swin.modeling_swin.SwinModel", pooling_head=True),
}

ARCHITECTURES: dict[str, Architecture] = {
    "swin-tiny": Architecture("swin", "Swin-T at 224 (28 M), 12 layers, width 768"),
    "swin-base": Architecture(
        "swin",
        "Swin-B at 224 (87 M), 24 layers, width 1024",
        {"embed_dim": 128, "depths": (2, 2, 18, 2), "num_heads": (4, 8, 16, 32)},
    ),
}
