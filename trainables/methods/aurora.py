"""Aurora: updates of all weight matrices, computed from a few shared factors."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.methods.base import Inserted, MethodContext, register_method
from trainables.methods.config import option
from trainables.methods.inserting import (
    ADAPTER_SIZES,
    TunedLayers,
    TunedLayersConfig,
    adapter_points,
    matrix_sizes,
    zero_linear,
)
from trainables.methods.space import DefaultSpace, tuned_layers


@dataclass(frozen=True)
class AuroraConfig(TunedLayersConfig):
    """Configuration of ``aurora``: the rank of the Wander paper (Table 1), the dropout of Aurora's code."""

    rank: int = option(128, "rank R of the updates; they share R x R x R weights", low=1, other=8)
    dropout: float = option(0.1, "dropout inside the updates", low=0, high=1, other=0.5)


class SharedFactors(nn.Module):
    """The factors U, V and C, which all matrices share.

    Args:
        widths: Hidden sizes of the layers. Each distinct size has its own U and V.
        rank: Rank R.
        dropout: Probability of dropping a value between the factors.
    """

    def __init__(self, widths: Iterable[int], rank: int, dropout: float) -> None:
        super().__init__()
        sizes = sorted(set(widths))
        self.core = nn.Parameter(torch.empty(rank, rank, rank))
        self.down = nn.ModuleDict({str(size): nn.Linear(size, rank, bias=False) for size in sizes})
        self.up = nn.ModuleDict({str(size): zero_linear(rank, size, bias=False) for size in sizes})
        self.dropout = nn.Dropout(dropout)
        nn.init.xavier_uniform_(self.core)
        for weight in self.down.parameters():
            nn.init.xavier_uniform_(weight)

    def forward(self, width: int, vectors: Tensor, tokens: Tensor) -> Tensor:
        """Return the update of a matrix's output, shape (..., O * D).

        Args:
            width: Hidden size D.
            vectors: The matrix's vectors p, one per pair of input and output chunks, shape (I, O, R).
            tokens: The matrix's input, shape (..., at most I * D). Missing features count as 0.
        """
        filled = F.pad(tokens, (0, len(vectors) * width - tokens.shape[-1]))
        chunks = self.down[str(width)](filled.unflatten(-1, (-1, width)))
        slices = torch.einsum("rsk,iok->iors", self.core, vectors)  # C x_3 p
        mixed = self.dropout(torch.einsum("...ir,iors->...ios", chunks, slices)).sum(dim=-3)
        return self.up[str(width)](mixed).flatten(-2)


class UpdatedMatrix(Inserted):
    """Computes W x plus an update.

    Args:
        inner: The matrix W, with at most I * D inputs and O * D outputs.
        width: Hidden size D.
        rank: Rank R.
        update: Returns the update for vectors (I, O, R) and the input.
    """

    def __init__(
        self, inner: nn.Module, width: int, rank: int, update: Callable[[Tensor, Tensor], Tensor]
    ) -> None:
        super().__init__(inner)
        inputs, outputs = matrix_sizes(inner)
        chunks = math.ceil(inputs / width), math.ceil(outputs / width)
        self.vectors = nn.Parameter(torch.empty(*chunks, rank))
        self.update = update
        nn.init.xavier_uniform_(self.vectors)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the updated output of the matrix."""
        output = self.inner(tokens)
        return output + self.update(self.vectors, tokens)[..., : output.shape[-1]]


@register_method(
    "aurora",
    description="updates of all weight matrices of frozen encoders from factors that they share",
    source="Wang et al., NeurIPS 2023 (Aurora); Wander paper, Sec. 4.2",
    space=DefaultSpace(
        "Aurora: rank R, adapted top layers",
        {"n_layers": tuned_layers, "rank": ADAPTER_SIZES},
        lambda context: adapter_points(context, "rank", 128, 64),
    ),
)
class Aurora(TunedLayers):
    """Aurora's mode approximation (Wang et al., NeurIPS 2023, Sec. 3.2) of every matrix's update.

    A matrix computes W x + V dropout((U x) (C x_3 p)). U: D -> R, V: R -> D (0 at first) and the core C in
    R^(R x R x R) are shared by all matrices of all layers and modalities; p in R^R belongs to one matrix.
    Larger matrices (those of the feed-forward network, and a joint one for query, key and value) are cut
    into chunks of D inputs and D outputs with one p each. If a side is not a multiple of D, the last chunk
    is incomplete. The factors, all p and the head train.

    The dropout stands where the released code has it. Of a matrix with several input chunks, each chunk's
    part is dropped on its own.

    The paper's additions to the multimodal layers of BLIP (informative context enhancement and query
    transformation) are left out, because unimodal encoders have no such layers. Each hidden size has its own
    U and V; C is common to all. Any number of modalities is supported.
    """

    config_class = AuroraConfig
    elastic = ("n_layers", "rank")

    def __init__(self, context: MethodContext, config: Any) -> None:
        super().__init__(context, config)
        widths = {m: {i: self.tower(m).layer_width(i) for i in self.tuned_layers(m)} for m in self.towers}
        used = {width for by_layer in widths.values() for width in by_layer.values()}
        self.factors = SharedFactors(used, config.rank, config.dropout)
        for modality, by_layer in widths.items():
            tower = self.tower(modality)
            for index, width in by_layer.items():
                # A partial is not a module, so that the factors do not become submodules of every matrix
                layer, update = tower.layers[index], partial(self.factors, width)
                for path in tower.MATRICES.values():
                    matrix = UpdatedMatrix(layer.get_submodule(path), width, config.rank, update)
                    layer.set_submodule(path, matrix)
