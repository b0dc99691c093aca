"""Parts that several methods share: prompts and heads."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from trainables.errors import UserError
from trainables.towers import ALL, NONE, Sequence, Tower

#: Standard deviation of prompts' initial values: the PMF paper's (Sec. 4.3), ours where others are silent.
PROMPT_STD = 0.02


def check_fused_layers(
    method: str, n_fusion_layers: int, towers: Mapping[str, Tower], *, fewest: int = 1
) -> None:
    """Check that every encoder has the top layers that are to be fused, and answers through its prompts.

    Raises:
        UserError: If an encoder has too few layers, or is causal: its prompts stand in front of the tokens
            and see none of them.
    """
    for modality, tower in towers.items():
        if not tower.depth:
            raise UserError(f"{method}: the {modality} encoder has no layers to fuse; choose another encoder")
        if tower.PROMPTS_FIRST:
            raise UserError(
                f"{method}: the {modality} encoder is causal, so that tokens added to it see none of its own "
                "and cannot carry anything to the other modalities; choose another encoder"
            )
    shallowest = min(tower.depth for tower in towers.values())
    if n_fusion_layers > shallowest:
        depths = ", ".join(f"{modality} {tower.depth}" for modality, tower in towers.items())
        raise UserError(
            f"n_fusion_layers={n_fusion_layers}: must be {fewest} to {shallowest}, "
            f"the shallowest encoder's depth (layers: {depths})"
        )


def gaussian_prompts(length: int, width: int, std: float = PROMPT_STD) -> nn.Parameter:
    """Return learned prompts of shape (1, length, width), drawn from N(0, std)."""
    return nn.Parameter(torch.randn(1, length, width) * std)


def uniform_prompts(length: int, width: int, bound: float) -> nn.Parameter:
    """Return learned prompts of shape (1, length, width), drawn uniformly from [-bound, bound]."""
    return nn.Parameter((torch.rand(1, length, width) * 2 - 1) * bound)


def expand(prompts: Tensor, sequence: Sequence) -> Tensor:
    """Return prompts (1, M, D) for every sample of a sequence, shape (B, M, D)."""
    return prompts.expand(sequence.tokens.shape[0], -1, -1)


class DeepPrompts(nn.Module):
    """Fresh prompts for each of a tower's top layers, dropped after the layer (VPT-deep).

    Args:
        tower: The tower to prompt.
        length: Prompts a layer.
        start: First layer that is prompted.
    """

    def __init__(self, tower: Tower, length: int, start: int = 0) -> None:
        super().__init__()
        self.start = start
        self.prompts = nn.ParameterList(
            gaussian_prompts(length, tower.layer_width(index)) for index in range(start, tower.depth)
        )

    def forward(self, tower: Tower, sequence: Sequence) -> Sequence:
        """Run the tower from layer ``start`` to its end.

        Args:
            tower: The tower.
            sequence: Tokens before layer ``start``.

        Returns:
            The tokens that are pooled, after the last layer.
        """
        for index, prompts in enumerate(self.prompts, start=self.start):
            prompted = sequence.prompted(expand(prompts, sequence))
            last = index == tower.depth - 1
            sequence = tower.layer(index, prompted, tokens=tower.POOLED if last else ALL, prompts=NONE)
        return sequence


class MeanHead(nn.Module):
    """One linear classifier a modality; their logits are averaged (PMF paper, Sec. 3.3).

    Args:
        widths: Size of each modality's vector.
        n_classes: Number of classes C.
    """

    def __init__(self, widths: Mapping[str, int], n_classes: int) -> None:
        super().__init__()
        self.heads = nn.ModuleDict({m: nn.Linear(width, n_classes) for m, width in widths.items()})

    def forward(self, vectors: Mapping[str, Tensor]) -> Tensor:
        """Return logits (B, C) of one vector (B, D) a modality."""
        return torch.stack([self.heads[m](vector) for m, vector in vectors.items()]).mean(dim=0)
