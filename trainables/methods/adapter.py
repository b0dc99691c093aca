"""Adapter: bottleneck modules after the sublayers of frozen encoders."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from trainables.methods.base import MethodContext, register_method
from trainables.methods.config import option
from trainables.methods.inserting import (
    ADAPTER_SIZES,
    Serial,
    TunedLayers,
    TunedLayersConfig,
    adapter_points,
    train_norms,
)
from trainables.methods.space import DefaultSpace, tuned_layers
from trainables.parameters import Choices

#: Standard deviation of the initial weights, as in the released code.
INITIAL_STD = 1e-3


@dataclass(frozen=True)
class AdapterConfig(TunedLayersConfig):
    """Configuration of ``adapter``. The Wander paper uses sizes 64 and 128 on UPMC-Food 101."""

    bottleneck: int = option(64, "bottleneck size d of the adapters", low=1, other=8)
    train_norms: bool = option(True, "train the LayerNorms of adapted layers too", other=False)


class Bottleneck(nn.Sequential):
    """W_2 GELU(W_1 x + b_1) + b_2, nearly zero at first.

    Args:
        width: Hidden size D of the tokens.
        bottleneck: Bottleneck size d.
    """

    def __init__(self, width: int, bottleneck: int) -> None:
        super().__init__(nn.Linear(width, bottleneck), nn.GELU(), nn.Linear(bottleneck, width))
        for module in self:
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=INITIAL_STD)
                nn.init.zeros_(module.bias)


@register_method(
    "adapter",
    description="bottleneck adapters after attention and feed-forward network of frozen encoders",
    source="Houlsby et al., ICML 2019 (Adapter); Wander paper, Sec. 4.2",
    space=DefaultSpace(
        "Houlsby's adapters: bottleneck d, adapted top layers, whether their LayerNorms train",
        {"n_layers": tuned_layers, "bottleneck": ADAPTER_SIZES, "train_norms": Choices((False, True))},
        lambda context: [
            {**point, "train_norms": True} for point in adapter_points(context, "bottleneck", 64, 128)
        ],
    ),
)
class Adapter(TunedLayers):
    """Adapter tuning (Houlsby et al., ICML 2019, Sec. 2.1, Fig. 2) of every encoder.

    An adapter computes h + W_2 GELU(W_1 h + b_1) + b_2, where h is the output of a layer's attention or
    feed-forward network before the residual is added. Adapters, the LayerNorms of the adapted layers and the
    head train. The final LayerNorm after the last layer, which only pre-norm encoders have, stays frozen, and
    so does the LayerNorm of BERT's embedding. The released code trains that one, too. The gradient then
    passes through all layers, so that not even the embedding's output can be computed once.
    W_1 and W_2 are drawn near zero, so that the encoders start nearly as pretrained. Their distribution is
    normal, not a truncated normal.
    """

    config_class = AdapterConfig
    elastic = ("n_layers", "bottleneck")

    def __init__(self, context: MethodContext, config: Any) -> None:
        super().__init__(context, config)
        for modality in self.towers:
            tower = self.tower(modality)
            for index in self.tuned_layers(modality):
                layer = tower.layers[index]
                for path in tower.SUBLAYERS.values():
                    bottleneck = Bottleneck(tower.layer_width(index), config.bottleneck)
                    layer.set_submodule(path, Serial(layer.get_submodule(path), bottleneck))
                if config.train_norms:
                    train_norms(layer)
