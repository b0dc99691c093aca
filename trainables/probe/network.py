"""A probe as a module over its encoders, which takes the batches of a method."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.data.features import encoded, stored_type
from trainables.errors import UserError
from trainables.methods import FusionOutput, MethodContext
from trainables.probe.features import own_vectors, read_by
from trainables.probe.probe import parts_of
from trainables.step.setting import TrainingSetting
from trainables.towers import ModalityInput, Sequence, Tower


class ProbeNetwork(nn.Module):
    """The linear model of a probe on the pooled vectors of frozen encoders.

    Tokens are rounded after each layer, and vectors as well, as in ``pooled_features``: the outputs are those
    that the search has scored. The features of a new encoder are read as they are, see ``own_features``. The
    linear model computes in float32.

    The network has the parts of a ``FusionMethod`` that evaluation needs. Its weights start at zero; those of
    a ``Probe`` are for ``load_trainable_state_dict``.

    Args:
        context: The encoders, of which it uses forks, the size of the output, and the query if there is one.
        poolings: How each modality is read, see ``Probe``. The query is read by its tower's own pooling.
        setting: How the search runs steps: it decides how tokens are rounded.

    Attributes:
        poolings: How each modality is read, in the order of the towers, without the query.
        query: The modality that is the query, or None.
        towers: The encoders, by modality.
        weight: Weights (D, F) of the linear model.
        bias: Shape (D,).
        query_mean: Means (D,) of the query's features in float64, if there is a query.
        query_scale: Their scales (D,).
    """

    query_mean: Tensor
    query_scale: Tensor

    #: Whether batches say which values are present: a value that is missing is the blank.
    uses_presence = False

    def __init__(self, context: MethodContext, poolings: Mapping[str, str], setting: TrainingSetting) -> None:
        super().__init__()
        self.poolings = {m: poolings[m] for m in context.towers if m in poolings}
        self.query = None if context.query is None else context.query.modality
        self._setting = setting
        used = [m for m in context.towers if m in self.poolings or m == self.query]
        self.towers = nn.ModuleDict(
            {m: context.towers[m].fork(matrices=context.frozen_matrices) for m in used}
        )
        width = sum(self._width(m) * len(parts_of(pooling)) for m, pooling in self.poolings.items())
        size = context.output_size if self.query is None else self._width(self.query)
        self.weight = nn.Parameter(torch.zeros(size, width))
        self.bias = nn.Parameter(torch.zeros(size))
        if self.query is not None:
            self.register_buffer("query_mean", torch.zeros(size, dtype=torch.float64))
            self.register_buffer("query_scale", torch.ones(size, dtype=torch.float64))

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities that the probe reads, a query included."""
        return tuple(self.towers)

    def tower(self, modality: str) -> Tower:
        """Return the tower of a modality."""
        tower = self.towers[modality]
        assert isinstance(tower, Tower)
        return tower

    def prefix_layers(self) -> dict[str, int]:
        """Return the number of layers that are frozen: all, but none of a new encoder, which is not run."""
        return {m: self.tower(m).depth for m in self.towers if self.tower(m).pretrained}

    def forward(self, batch: Mapping[str, ModalityInput]) -> FusionOutput:
        """Return the outputs (B, D) of a batch; with a query (B, 2 D), see ``LinearSolution.outputs``.

        Args:
            batch: One entry per modality: the encoder's inputs, or a sequence that has passed at most
                ``prefix_layers()[modality]`` layers. A new encoder takes inputs only.
        """
        vectors = [
            self._vector(batch[modality], modality, pooling)
            for modality, poolings in self.poolings.items()
            for pooling in parts_of(poolings)
        ]
        queries = None
        if self.query is not None:
            tower = self.tower(self.query)
            queries = self._vector(batch[self.query], self.query, reading_of(tower))
        with torch.autocast(self.weight.device.type, enabled=False):
            found = F.linear(torch.cat(vectors, dim=1), self.weight, self.bias)
            if queries is None:
                return FusionOutput(found)
            asked = ((queries - self.query_mean) / self.query_scale).float()
            return FusionOutput(torch.cat([F.normalize(found), F.normalize(asked)], dim=1))

    def trainable_state_dict(self) -> dict[str, Tensor]:
        """Return the numbers of the linear model by name; all else is the encoders'."""
        state = self.state_dict()
        return {name: state[name] for name in state if not name.startswith("towers.")}

    def load_trainable_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Load numbers that ``trainable_state_dict`` has returned, or those of a ``Probe``.

        Raises:
            UserError: If they are of another probe.
        """
        expected = {name: values.shape for name, values in self.trainable_state_dict().items()}
        given = {name: values.shape for name, values in state.items()}
        if expected != given:
            difference = ", ".join(sorted({name for name, _ in expected.items() ^ given.items()}))
            raise UserError(f"the weights are of another probe: they differ in {difference}")
        self.load_state_dict(dict(state), strict=False)

    def train(self, mode: bool = True) -> Self:
        """Switch to training or evaluation mode. The frozen encoders stay in evaluation mode."""
        super().train(mode)
        self.towers.eval()
        return self

    def _width(self, modality: str) -> int:
        tower = self.tower(modality)
        return tower.width if tower.pretrained else int(tower.model.config.feature_size)

    def _vector(self, inputs: ModalityInput, modality: str, pooling: str) -> Tensor:
        """Return the vectors (B, F) of a modality by one pooling, in float32."""
        tower = self.tower(modality)
        if not tower.pretrained:
            assert not isinstance(inputs, Sequence)
            return own_vectors(inputs, pooling)
        *_, last = inputs, *encoded(tower, inputs, tower.depth, self._setting)
        assert isinstance(last, Sequence)
        with torch.no_grad(), self._setting.autocast(last.tokens.device):
            vectors = read_by(tower, pooling).pool(tower.finish(last))
        return vectors.to(stored_type(self._setting)).float()


def reading_of(tower: Tower) -> str:
    """Return by which pooling a search's probes read an encoder, unless they try others."""
    return tower.pooling if tower.pretrained else "mean"
