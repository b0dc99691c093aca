"""UniAdapter: adapters with a down-projection that all modalities share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor, nn

from trainables.methods.base import MethodContext, register_method
from trainables.methods.config import option
from trainables.methods.inserting import (
    ADAPTER_SIZES,
    BranchEnd,
    BranchStart,
    TunedLayers,
    TunedLayersConfig,
    adapter_points,
    zero_linear,
)
from trainables.methods.space import DefaultSpace, tuned_layers
from trainables.parameters import Choices
from trainables.towers import Tower

#: Factor s of the adapters' output.
SCALE = 0.1


@dataclass(frozen=True)
class UniAdapterConfig(TunedLayersConfig):
    """Configuration of ``uniadapter``; the bottleneck size is from the Wander paper (Table 1)."""

    bottleneck: int = option(128, "bottleneck size d of the adapters", low=1, other=8)
    placement: str = option(
        "released",
        "beside the feed-forward network (paper), or beside it and its LayerNorm (released code)",
        choices=("released", "paper"),
        other="paper",
    )


class SharedAdapter(nn.Module):
    """The adapter of one layer of every encoder.

    Args:
        widths: Hidden size of each modality's layer.
        bottleneck: Bottleneck size d.
    """

    def __init__(self, widths: Mapping[str, int], bottleneck: int) -> None:
        super().__init__()
        self.down = nn.ModuleDict(
            {
                str(width): nn.Sequential(nn.LayerNorm(width), nn.Linear(width, bottleneck), nn.ReLU())
                for width in sorted(set(widths.values()))
            }
        )
        self.up = nn.ModuleDict({m: zero_linear(bottleneck, width) for m, width in widths.items()})

    def forward(self, modality: str, tokens: Tensor) -> Tensor:
        """Return the summand for a feed-forward network's output, with the tokens' shape (B, T, D)."""
        return SCALE * self.up[modality](self.down[str(tokens.shape[-1])](tokens))


@register_method(
    "uniadapter",
    description="adapters beside the feed-forward networks, down-projection shared by the modalities",
    source="Lu et al., ICLR 2024 (UniAdapter); Wander paper, Sec. 4.2",
    space=DefaultSpace(
        "UniAdapter: bottleneck d, adapted top layers, placement",
        {
            "n_layers": tuned_layers,
            "bottleneck": ADAPTER_SIZES,
            "placement": Choices(("released", "paper"), ordered=False),
        },
        lambda context: [
            {**point, "placement": "released"} for point in adapter_points(context, "bottleneck", 128)
        ],
    ),
)
class UniAdapter(TunedLayers):
    """UniAdapter (Lu et al., ICLR 2024, Sec. 3.2) for independent unimodal encoders.

    An adapter computes A(x) = s W_m ReLU(W_d LN(x)) with s = 0.1. LN and the down-projection W_d are shared
    by the layers of all modalities that have the same number of layers above them and the same hidden size.
    The up-projection W_m belongs to modality m. Adapters and head train. Any number of modalities is
    supported.

    Adapters stand beside the feed-forward network: its output becomes FFN(x) + A(x) (``placement="paper"``).
    In the released code they stand beside the network and its LayerNorm N, which is the default. In encoders
    that normalise first, such as ViT, h + FFN(N(h)) + A(h) follows, where A reads the residual stream. In
    others, such as BERT, it is N(h + FFN(h)) + A(h), where A's output is not normalised.

    The paper adapts BLIP. Its parts for cross-attention layers (the cross-modal sum of up-projections and the
    query residual) are left out, because unimodal encoders have no such layers. All up-projections start at
    zero, so that the encoders start as pretrained. In the released code, the image's up-projection starts
    with random values.
    """

    config_class = UniAdapterConfig
    elastic = ("n_layers", "bottleneck")

    def __init__(self, context: MethodContext, config: Any) -> None:
        super().__init__(context, config)
        tuned = {m: self.tuned_layers(m) for m in self.towers}
        adapters = []
        for above in range(max(map(len, tuned.values()))):
            layers = {m: indices[-1 - above] for m, indices in tuned.items() if above < len(indices)}
            widths = {m: self.tower(m).layer_width(index) for m, index in layers.items()}
            adapter = SharedAdapter(widths, config.bottleneck)
            for modality, index in layers.items():
                tower = self.tower(modality)
                layer, (first, last) = tower.layers[index], _span(tower, config.placement)
                start = BranchStart(layer.get_submodule(first))
                # A partial is not a module, so that the adapter does not become a submodule of every layer
                end = BranchEnd(layer.get_submodule(last), partial(adapter, modality), start.take)
                layer.set_submodule(first, start)
                layer.set_submodule(last, end)
            adapters.append(adapter)
        self.adapters = nn.ModuleList(adapters)


def _span(tower: Tower, placement: str) -> tuple[str, str]:
    """Return the paths of the modules beside which adapters stand: from the first one's input to the last."""
    first, last = tower.MATRICES["up"], tower.SUBLAYERS["feed_forward"]
    if placement == "paper":
        return first, last
    return (tower.FEED_FORWARD_NORM, last) if tower.norms_first else (first, tower.FEED_FORWARD_NORM)
