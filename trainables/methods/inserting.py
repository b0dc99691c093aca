"""Parts for methods that put small trainable modules into the layers of frozen encoders."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from trainables.errors import UserError
from trainables.methods.base import FusionOutput, Inserted, MethodContext
from trainables.methods.config import MethodConfig, option
from trainables.methods.linear import Linear
from trainables.methods.parts import listed
from trainables.methods.space import SpaceContext
from trainables.parameters import Range
from trainables.towers import ModalityInput

#: Sizes of inserted modules (bottleneck or rank) that spaces search.
ADAPTER_SIZES = Range(4, 128, log=True)

#: Names under which modules that are put around another one hold it: those here, and those of HF peft.
WRAPPED = ("inner", "base_layer")

#: A function of tokens (..., D). If it is a module, it becomes a submodule of the module that holds it.
Update = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class TunedLayersConfig(MethodConfig):
    """Base of the configurations of methods that tune the top layers."""

    n_layers: int | None = option(
        None,
        "top layers of every encoder that are tuned, or all of an encoder that has fewer; none: all of each, "
        "as in the papers",
        low=1,
        other=2,
    )


def adapter_points(context: SpaceContext, size: str, *sizes: int) -> list[dict[str, Any]]:
    """Return points with the paper's sizes in all layers of each encoder, then a cheap point.

    Args:
        context: Depths and widths of the encoders.
        size: Name of the option for the size.
        *sizes: Sizes that the Wander paper uses.
    """
    tried = [(context.most_layers, number) for number in sizes] + [(1, 16)]
    return [{"n_layers": layers, size: number, "learning_rate": 3e-4} for layers, number in tried]


class TunedLayers(Linear):
    """Frozen encoders with trainable parts in their top layers, and a linear head.

    outputs = W [pool(text); pool(image); …] + b, as in ``linear``. All encoders are tuned in the same number
    of top layers, and those that have fewer in all of theirs. Lower layers run without gradient. One modality
    is enough.

    Raises:
        UserError: If ``n_layers`` exceeds the depth of the deepest encoder, or no encoder has layers.
    """

    config_class = TunedLayersConfig

    def __init__(self, context: MethodContext, config: Any) -> None:
        super().__init__(context, config)
        most = max(self.depths.values())
        if (config.n_layers or 0) > most:
            raise UserError(
                f"n_layers={config.n_layers}: must be 1 to {most}, the depth of the deepest encoder "
                f"(layers: {listed(self.depths)}), or none for all layers of each"
            )

    @classmethod
    def refusal(cls, encoders: SpaceContext) -> str | None:
        """Refuse encoders of which none has layers, too."""
        if not any(encoders.depths.values()):
            return "tunes layers, and no encoder has any; choose another encoder"
        return super().refusal(encoders)

    def untouched_layers(self) -> dict[str, int]:
        """Return the number of layers below the tuned ones."""
        return {m: self.tuned_layers(m).start for m in self.towers}

    def tuned_layers(self, modality: str) -> range:
        """Return the indices of the layers that are tuned."""
        depth = self.tower(modality).depth
        return range(depth - min(self.config.n_layers or depth, depth), depth)

    def forward(self, batch: Mapping[str, ModalityInput]) -> FusionOutput:
        """Score a batch; see ``FusionMethod.forward``."""
        vectors = [self.tower(m).pooled(sequence) for m, sequence in self.untouched(batch).items()]
        return FusionOutput(self.head(torch.cat(vectors, dim=-1)))


class Serial(Inserted):
    """Computes h + update(h), where h is the inner module's output."""

    def __init__(self, inner: nn.Module, update: Update) -> None:
        super().__init__(inner)
        self.update = update

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the updated output of the inner module."""
        hidden = self.inner(tokens)
        return hidden + self.update(hidden)


class BranchStart(Inserted):
    """Stores the inner module's input for a ``BranchEnd`` and returns the inner module's output unchanged.

    Args:
        inner: The module whose input is stored.
    """

    def __init__(self, inner: nn.Module) -> None:
        super().__init__(inner)
        self._kept: list[Tensor] = []

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the inner module's output."""
        self._kept[:] = [tokens]
        return self.inner(tokens)

    def take(self) -> Tensor:
        """Return the stored input and drop the reference, so that no tensor of a step outlives the step."""
        return self._kept.pop()


class BranchEnd(Inserted):
    """Computes inner(y) + update(x), where x is the input of an earlier module.

    Args:
        inner: The module to whose output the branch is added.
        update: The branch.
        take: Returns x.
    """

    def __init__(self, inner: nn.Module, update: Update, take: Callable[[], Tensor]) -> None:
        super().__init__(inner)
        self.update = update
        self.take = take

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the sum of the inner module's output and the branch's output."""
        return self.inner(tokens) + self.update(self.take())


def zero_linear(inputs: int, outputs: int, *, bias: bool = True) -> nn.Linear:
    """Return a Linear with weights and bias of zero."""
    linear = nn.Linear(inputs, outputs, bias=bias)
    for parameter in linear.parameters():
        nn.init.zeros_(parameter)
    return linear


def matrix_sizes(module: nn.Module) -> tuple[int, int]:
    """Return the number of inputs and outputs of a weight matrix: a Linear or GPT-2's Conv1D."""
    if isinstance(module, nn.Linear):
        return module.in_features, module.out_features
    inputs, outputs = module.get_parameter("weight").shape
    return inputs, outputs


def train_norms(layer: nn.Module) -> None:
    """Make a forked layer's LayerNorms trainable, on copies of the weights that forks share."""
    for norm in layer.modules():
        if isinstance(norm, nn.LayerNorm):
            for name, parameter in list(norm.named_parameters(recurse=False)):
                setattr(norm, name, nn.Parameter(parameter.detach().clone()))
