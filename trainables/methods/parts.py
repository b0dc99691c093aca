"""Parts that several methods share: prompts and heads."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from trainables.towers import ALL, NONE, Sequence, Tower

#: Standard deviation of prompts' initial values: the PMF paper's (Sec. 4.3), ours where others are silent.
PROMPT_STD = 0.02


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

    def forward(self, tower: Tower, sequence: Sequence, *, extra: Tensor | None = None) -> Sequence:
        """Run the tower from layer ``start`` to its end.

        Args:
            tower: The tower.
            sequence: Tokens before layer ``start``.
            extra: More prompts (B, M, D), the same for every layer.

        Returns:
            The tokens that are pooled, after the last layer.
        """
        for index, prompts in enumerate(self.prompts, start=self.start):
            prompted = sequence.prompted(expand(prompts, sequence), *([] if extra is None else [extra]))
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
