"""Parts that several methods share: prompts and heads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial

import torch
from torch import Tensor, nn

from trainables.errors import UserError
from trainables.methods.space import SpaceContext
from trainables.towers import ALL, NONE, Sequence, Tower

#: Standard deviation of the initial prompts in the PMF paper (Sec. 4.3). It is also used for methods whose
#: papers do not state one.
PROMPT_STD = 0.02


def listed(depths: Mapping[str, int]) -> str:
    """Return every encoder's number of layers as text for messages, e.g. ``text 6, image 12``."""
    return ", ".join(f"{modality} {depth}" for modality, depth in depths.items())


def fusion_refusal(encoders: SpaceContext) -> str | None:
    """Return why the layers of these encoders cannot be fused by tokens that are added to them, or None.

    The tokens that are added to a causal encoder stand before its own and attend to none of them.
    """
    if (modality := encoders.without_layers) is not None:
        return f"fuses layers, and the {modality} encoder has none; choose another encoder"
    if encoders.causal:
        return (
            f"fuses by added tokens, and the {next(iter(encoders.causal))} encoder is causal, so that they "
            "see nothing that it encodes and cannot carry it to the other modalities; choose another encoder"
        )
    return None


def check_fused_layers(n_fusion_layers: int, depths: Mapping[str, int], *, fewest: int = 1) -> None:
    """Check that every encoder has enough layers to fuse.

    Raises:
        UserError: If an encoder has fewer layers.
    """
    shallowest = min(depths.values())
    if n_fusion_layers > shallowest:
        raise UserError(
            f"n_fusion_layers={n_fusion_layers}: must be {fewest} to {shallowest}, "
            f"the shallowest encoder's depth (layers: {listed(depths)})"
        )


def gaussian_prompts(length: int, width: int, std: float = PROMPT_STD) -> nn.Parameter:
    """Return learned prompts of shape (1, length, width), drawn from N(0, std)."""
    return nn.Parameter(torch.randn(1, length, width) * std)


def uniform_prompts(length: int, width: int, bound: float) -> nn.Parameter:
    """Return learned prompts of shape (1, length, width), drawn uniformly from [-bound, bound]."""
    return nn.Parameter((torch.rand(1, length, width) * 2 - 1) * bound)


def expand(prompts: Tensor, sequence: Sequence) -> Tensor:
    """Expand prompts (1, M, D) to all samples of a sequence, shape (B, M, D)."""
    return prompts.expand(sequence.tokens.shape[0], -1, -1)


def run_prompted(tower: Tower, sequence: Sequence, prompts: Callable[[int], Iterable[Tensor]]) -> Tensor:
    """Run the remaining layers of a tower, each with its own prompts, and pool; shape (B, D).

    Args:
        tower: The tower.
        sequence: Tokens (B, T, D). Prompts that the sequence already has pass through all layers.
        prompts: Returns the prompts, each (B, M, D), for the layer of a given index. Their outputs are
            dropped after the layer.
    """
    travelling = slice(0, sequence.n_prompts)
    for index in range(sequence.layer, tower.depth):
        last = index == tower.depth - 1
        sequence = tower.layer(
            index,
            sequence.prompted(*prompts(index)),
            tokens=tower.pooled_positions if last else ALL,
            prompts=NONE if last else travelling,
        )
    return tower.pooled(sequence)


class DeepPrompts(nn.Module):
    """Separate prompts for each layer of a tower, whose outputs are dropped after the layer (VPT-deep).

    Args:
        tower: The tower to prompt.
        length: Number of prompts per layer.
        initial: Returns the initial prompts (1, length, D) of a layer of width D. None draws them from
            N(0, 0.02).
    """

    def __init__(
        self, tower: Tower, length: int, initial: Callable[[int], nn.Parameter] | None = None
    ) -> None:
        super().__init__()
        draw = initial or partial(gaussian_prompts, length)
        self.prompts = nn.ParameterList(draw(tower.layer_width(index)) for index in range(tower.depth))

    def forward(self, tower: Tower, sequence: Sequence) -> Tensor:
        """Run the tower's layers and pool, shape (B, D).

        Args:
            tower: The tower.
            sequence: Tokens before layer 0; see ``run_prompted``.
        """
        return run_prompted(tower, sequence, lambda index: [expand(self.prompts[index], sequence)])


class MeanHead(nn.Module):
    """One linear layer per modality, with averaged outputs (PMF paper, Sec. 3.3).

    Args:
        widths: Size of each modality's vector.
        output_size: Length D of the output.
    """

    def __init__(self, widths: Mapping[str, int], output_size: int) -> None:
        super().__init__()
        self.heads = nn.ModuleDict({m: nn.Linear(width, output_size) for m, width in widths.items()})

    def forward(self, vectors: Mapping[str, Tensor]) -> Tensor:
        """Return the outputs (B, D) for one vector per modality."""
        return torch.stack([self.heads[m](vector) for m, vector in vectors.items()]).mean(dim=0)
