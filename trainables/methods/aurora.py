"""Aurora: updates of all weight matrices from a few factors that they share."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.methods.base import Inserted, MethodContext, option, register_method
from trainables.methods.inserting import (
    ADAPTER_SIZES,
    TunedLayers,
    TunedLayersConfig,
    adapter_points,
    matrix_sizes,
    zero_linear,
)
from trainables.methods.space import DefaultSpace, top_layers


@dataclass(frozen=True)
class AuroraConfig(TunedLayersConfig):
    """Configuration of ``aurora``; the rank is the Wander paper's (Table 1), the dropout Aurora's."""

    rank: int = option(128, "rank R of the updates; they share R x R x R weights", low=1, other=8)
    dropout: float = option(0.1, "dropout inside the updates", low=0, high=1, other=0.5)


class SharedFactors(nn.Module):
    """The factors U, V and C, which all matrices share.

    Args:
        widths: The hidden sizes there are; each has a U and a V.
        rank: R.
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
            vectors: The matrix's vectors p, one a pair of input and output chunk, shape (I, O, R).
            tokens: The matrix's input, shape (..., I * D); what is missing counts as 0.
        """
        filled = F.pad(tokens, (0, len(vectors) * width - tokens.shape[-1]))
        chunks = self.down[str(width)](filled.unflatten(-1, (-1, width)))
        slices = torch.einsum("rsk,iok->iors", self.core, vectors)  # C x_3 p
        mixed = self.dropout(torch.einsum("...ir,iors->...ios", chunks, slices)).sum(dim=-3)
        return self.up[str(width)](mixed).flatten(-2)


class UpdatedMatrix(Inserted):
    """W x and its update, added.

    Args:
        inner: The matrix W, of at most I * D inputs and O * D outputs.
        width: D.
        rank: R.
        update: Returns the update, given vectors (I, O, R) and the input.
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
        """Return the matrix's output, updated."""
        output = self.inner(tokens)
        return output + self.update(self.vectors, tokens)[..., : output.shape[-1]]


@register_method(
    "aurora",
    description="updates of all weight matrices of frozen encoders from factors that they share",
    source="Wang et al., NeurIPS 2023 (Aurora); Wander paper, Sec. 4.2",
    space=DefaultSpace(
        "Aurora: rank R, adapted top layers",
        {"n_layers": top_layers, "rank": ADAPTER_SIZES},
        lambda context: adapter_points(context, "rank", 128, 64),
    ),
)
class Aurora(TunedLayers):
    """Aurora's mode approximation (Wang et al., NeurIPS 2023, Sec. 3.2) of every matrix's update.

    W x + V dropout((U x) (C x_3 p)), with U: D -> R, V: R -> D (0 at first) and the core C in R^(R x R x R)
    shared by all matrices of all layers and modalities, and p in R^R one a matrix. The matrices of the
    feed-forward network, and one that holds query, key and value, are cut into chunks of D inputs and D
    outputs, with a p each; a side that is no multiple of D has an incomplete last chunk. The factors and the
    head train.

    Left out is what the paper adds to the multimodal layers of BLIP (the informative context enhancement,
    or query transformation): there are none here. Hidden sizes that differ have a U and a V of their own,
    but the same C; any number of modalities.
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
                # A partial is no module: the factors are a part of this method, not of every matrix
                layer, update = tower.layers[index], partial(self.factors, width)
                for path in tower.MATRICES.values():
                    matrix = UpdatedMatrix(layer.get_submodule(path), width, config.rank, update)
                    layer.set_submodule(path, matrix)
