"""Base classes and registry of the fusion methods, which are modules over towers."""

from __future__ import annotations

import contextlib
import itertools
import typing
from collections.abc import Callable, Collection, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from trainables.errors import UserError
from trainables.methods.config import MethodConfig
from trainables.methods.space import DefaultSpace, SpaceContext
from trainables.registry import Registry
from trainables.towers import PRESENCE, InputSizes, ModalityInput, Sequence, Tower


@dataclass(frozen=True)
class FusionOutput:
    """The result of a method's forward pass.

    Attributes:
        outputs: The outputs that the task needs, e.g. class scores, shape (B, D).
        aux_loss: A scalar to add to the task's loss, or None.
    """

    outputs: Tensor
    aux_loss: Tensor | None = None


@dataclass(frozen=True)
class Query:
    """The modality that searches for samples by what the other modalities say.

    Attributes:
        modality: Its name.
        temperature: Initial temperature of the similarities, which is learnt; None learns none.
    """

    modality: str
    temperature: float | None = None


@dataclass(frozen=True)
class MethodContext:
    """Encoders and settings that a method is built from.

    Attributes:
        towers: One tower per modality.
        output_size: Length D of the output for a sample.
        sizes: Largest sizes of a sample's inputs. Sequences may be shorter.
        encoder_dropout: Whether frozen encoder layers that the gradient passes through use dropout in
            training. The frozen prefix below them never does, so that its output depends on the data only.
        gradient_checkpointing: Whether encoder layers that the gradient passes through keep only their input.
        skip_unused: Whether encoder layers skip outputs that nothing reads.
        frozen_matrices: Type in which frozen weight matrices are stored; None keeps their type.
        query: The modality that stands apart from those that a method fuses; None fuses all. A method itself
            never sees it, see ``build``.
    """

    towers: Mapping[str, Tower]
    output_size: int
    sizes: InputSizes = field(default_factory=InputSizes)
    encoder_dropout: bool = True
    gradient_checkpointing: bool = False
    skip_unused: bool = False
    frozen_matrices: torch.dtype | None = None
    query: Query | None = None


@dataclass(frozen=True)
class Stage:
    """A step of a method's forward pass that several configurations may share.

    Attributes:
        key: Identifies the step. Two configurations with equal weights, and with equal keys up to and
            including this stage, compute the same sequences.
        run: Maps the sequences of all modalities to the sequences for the next stage.
    """

    key: Hashable
    run: Callable[[Mapping[str, Sequence]], dict[str, Sequence]]


@dataclass(frozen=True)
class ParameterGroup:
    """Trained parameters that an optimizer treats alike.

    Attributes:
        parameters: The parameters, in a fixed order.
        head: Whether they belong to the method's head.
        decays: Whether weight decay applies to them.
        modality: The modality that they serve, if it was asked for; see ``FusionMethod.modality_of``.
    """

    parameters: list[nn.Parameter]
    head: bool
    decays: bool
    modality: str | None = None


class Inserted(nn.Module):
    """A module that a method wraps around a module of a frozen layer, for example an adapter.

    It follows the method's training mode, even if the frozen layer stays in evaluation mode.

    Args:
        inner: The wrapped module.
    """

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner


class FusionMethod(nn.Module):
    """A fusion method over the towers of one or more modalities.

    Args:
        context: Towers, output size and further settings. The method does not change the towers but uses
            forks of them, which share the frozen weights.
        config: The method's configuration.

    Attributes:
        towers: The towers that the method uses, by modality.
        trained: The modalities whose whole encoder trains, because the method trains it
            (``trained_encoders``) or because its weights are random (``Tower.pretrained``).
        head: The last module, an ``nn.Linear`` or a ``parts.MeanHead``. It maps the method's vectors to the
            outputs.
    """

    head: nn.Module

    config_class: ClassVar[type[MethodConfig]] = MethodConfig

    #: Smallest and largest number of modalities; None means no upper limit.
    n_modalities: ClassVar[tuple[int, int | None]] = (2, None)

    #: Whether batches say which values are present, see ``present``.
    uses_presence: bool = False

    #: Options that determine the size of weights. The weights for smaller values are leading slices, along
    #: every dimension, of the weights for larger values.
    elastic: tuple[str, ...] = ()

    #: Paths of lists with one entry per layer, the top layer last; ``*`` matches any name. Configurations
    #: with fewer layers share the last entries of these lists, not the first ones.
    stacked: tuple[str, ...] = ()

    def __init__(self, context: MethodContext, config: Any) -> None:
        super().__init__()
        self.require(SpaceContext.of_towers(context.towers))
        self.context = context
        self.config = config
        used = self.used_modalities(context, config)
        random = {modality for modality in used if not context.towers[modality].pretrained}
        self.trained = self.trained_encoders(context, config) | random
        self.towers = nn.ModuleDict()
        for modality in used:
            self.towers[modality] = self._fork(modality)

    def _fork(self, modality: str) -> Tower:
        """Return a fork of a modality's tower, which trains if the modality is among ``trained``."""
        context = self.context
        tower = context.towers[modality].fork(
            trained=modality in self.trained, matrices=context.frozen_matrices
        )
        tower.gradient_checkpointing = context.gradient_checkpointing
        tower.skip_unused = context.skip_unused
        return tower

    @classmethod
    def refusal(cls, encoders: SpaceContext) -> str | None:
        """Return why the method can fuse these encoders in no configuration; None if it can.

        The text goes on after the method's name. A space of several methods leaves out those that refuse.

        Args:
            encoders: Properties of the encoders of all modalities.
        """
        (fewest, most), count = cls.n_modalities, len(encoders.depths)
        if fewest <= count <= (most or count):
            return None
        accepted = f"{fewest}" if fewest == most else f"at least {fewest}"
        return f"fuses {accepted} modalities, not {count}: {', '.join(encoders.depths)}"

    @classmethod
    def require(cls, encoders: SpaceContext) -> None:
        """Raise ``UserError`` if the method can fuse these encoders in no configuration; see ``refusal``."""
        if (refusal := cls.refusal(encoders)) is not None:
            raise UserError(f"{cls.__name__} {refusal}")

    @classmethod
    def used_modalities(cls, context: MethodContext, config: Any) -> tuple[str, ...]:
        """Return the modalities that the method uses, in order. The default is all modalities."""
        return tuple(context.towers)

    @classmethod
    def trained_encoders(cls, context: MethodContext, config: Any) -> frozenset[str]:
        """Return the modalities whose whole encoder the method trains. The default is none.

        Encoders with random weights train with every method; a method need not name them.
        """
        return frozenset()

    def forward(self, batch: Mapping[str, ModalityInput]) -> FusionOutput:
        """Score a batch.

        Args:
            batch: One entry per modality: the encoder's inputs, or a sequence that has passed at most
                ``prefix_layers()[modality]`` layers.
        """
        raise AttributeError(f"{type(self).__name__} does not define forward")

    def untouched_layers(self) -> dict[str, int]:
        """Return the number of layers of each tower that lie below the first one that the method touches.

        The method adds nothing to these layers. By default they are 0: the method touches all layers, but
        not the embedding.
        """
        return dict.fromkeys(self.towers, 0)

    def prefix_layers(self) -> dict[str, int]:
        """Return the number of layers in each tower's frozen prefix, which runs without gradient.

        These are the untouched layers of the towers that do not train. The output of the prefix depends on
        the data only. It can be computed once and shared by all trials. 0 layers mean that only the embedding
        is frozen. A modality that is missing in the result has no frozen prefix, because its encoder trains
        from the embedding on.
        """
        return {m: n for m, n in self.untouched_layers().items() if m not in self.trained}

    def prefix(self, batch: Mapping[str, ModalityInput]) -> dict[str, Sequence]:
        """Run the remaining layers of every tower's frozen prefix, without gradient."""
        with torch.no_grad():
            return {m: self.tower(m).encode(batch[m], stop) for m, stop in self.prefix_layers().items()}

    def untouched(self, batch: Mapping[str, ModalityInput]) -> dict[str, Sequence]:
        """Run the untouched layers of every tower: frozen ones without gradient, those that train with it."""
        sequences = {}
        for modality, stop in self.untouched_layers().items():
            with self.gradient(modality):
                sequences[modality] = self.tower(modality).encode(batch[modality], stop)
        return sequences

    def vector(self, batch: Mapping[str, ModalityInput], modality: str) -> Tensor:
        """Return the pooled output, shape (B, D), of a tower of which the method touches no layer."""
        with self.gradient(modality):
            return self.tower(modality).pooled(batch[modality])

    def gradient(self, modality: str) -> contextlib.AbstractContextManager[None]:
        """Return the context for running a tower's untouched layers: without gradient, unless it trains."""
        return contextlib.nullcontext() if modality in self.trained else torch.no_grad()

    def present(self, batch: Mapping[str, ModalityInput]) -> Mapping[str, Tensor]:
        """Return masks (B,) of the samples that have each modality; the input of the others is a blank.

        Batches say so for methods with ``uses_presence``; otherwise all samples count as having all.

        Args:
            batch: See ``forward``.
        """
        said = batch.get(PRESENCE)
        if said is not None:
            assert isinstance(said, Mapping)
            return said
        given = batch[self.modalities[0]]
        tensor = given.tokens if isinstance(given, Sequence) else next(iter(given.values()))
        everywhere = torch.ones(len(tensor), dtype=torch.bool, device=tensor.device)
        return dict.fromkeys(self.modalities, everywhere)

    def example_presence(self, rows: int) -> dict[str, ModalityInput]:
        """Return what batches have in addition to inputs, for some rows in which nothing is missing."""
        if not self.uses_presence:
            return {}
        return {PRESENCE: {m: torch.ones(rows, dtype=torch.bool) for m in self.modalities}}

    def prefix_modules(self) -> list[nn.Module]:
        """Return the modules that a step does not use if its batch is the prefix's output."""
        stops = self.prefix_layers().items()
        return [module for m, stop in stops for module in self.tower(m).prefix_modules(stop)]

    def stages(self) -> tuple[Stage, ...]:
        """Return the steps between the frozen prefix and ``conclude``; none if configurations share no steps.

        ``forward`` computes the prefix, then all stages in order, then ``conclude``.
        """
        return ()

    def conclude(self, sequences: Mapping[str, Sequence]) -> FusionOutput:
        """Score sequences that have passed the prefix and all stages."""
        output: FusionOutput = self(sequences)
        return output

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities that the method uses."""
        return tuple(self.towers)

    def tower(self, modality: str) -> Tower:
        """Return the tower of a modality."""
        return typing.cast(Tower, self.towers[modality])

    @property
    def widths(self) -> dict[str, int]:
        """Hidden size of each tower's output."""
        return {modality: self.tower(modality).width for modality in self.towers}

    @property
    def depths(self) -> dict[str, int]:
        """Number of layers of each tower."""
        return {modality: self.tower(modality).depth for modality in self.towers}

    def train(self, mode: bool = True) -> Self:
        """Switch to training or evaluation mode. For frozen layers, ``encoder_dropout`` decides the mode."""
        super().train(mode)
        for modality, stop in self.prefix_layers().items():
            tower = self.tower(modality).eval()
            if mode and self.context.encoder_dropout:
                for layer in tower.layers[stop:]:
                    layer.train()
            for module in tower.modules():
                if isinstance(module, Inserted):
                    module.training = mode
                    for name, part in module.named_children():
                        if name != "inner":
                            part.train(mode)
        return self

    def trainable_parameters(self) -> list[nn.Parameter]:
        """Return the parameters that train, in a fixed order."""
        return [p for p in self.parameters() if p.requires_grad]

    def modality_of(self, name: str) -> str | None:
        """Return the only modality that a trained parameter serves, by the parameter's name, or None.

        By default, it is the modality in the name (``towers.text.…``, ``prompts.text.0``). In a method that
        uses one modality, all parameters serve it.
        """
        if len(self.modalities) == 1:
            return self.modalities[0]
        return next((part for part in name.split(".") if part in self.modalities), None)

    def parameter_groups(self, apart: Collection[str] = ()) -> list[ParameterGroup]:
        """Return the parameters that train, by whether they belong to the head and whether they decay.

        Weight decay is for the weight matrices of linear, convolution and embedding layers: parameters with
        the name ``weight`` and more than one dimension. Biases, norms, prompts, and tokens or factors that
        stand for themselves have other names or one dimension.

        Args:
            apart: Modalities whose parameters are in groups of their own.
        """
        of_head = {id(parameter) for parameter in self.head.parameters()}
        kinds = itertools.product((False, True), (True, False), (None, *sorted(apart)))
        groups = {kind: ParameterGroup([], *kind) for kind in kinds}
        for name, parameter in self.named_parameters():
            if parameter.requires_grad:
                matrix = name.rpartition(".")[2] == "weight" and parameter.ndim > 1
                modality = self.modality_of(name)
                kind = id(parameter) in of_head, matrix, modality if modality in apart else None
                groups[kind].parameters.append(parameter)
        return [group for group in groups.values() if group.parameters]

    def trainable_parameter_count(self) -> int:
        """Return the number of trained scalars."""
        return sum(p.numel() for p in self.trainable_parameters())

    def trainable_state_dict(self) -> dict[str, Tensor]:
        """Return the trained weights by name. A checkpoint needs only these and the pretrained encoders."""
        return {name: p.detach() for name, p in self.named_parameters() if p.requires_grad}

    def load_trainable_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Load weights that ``trainable_state_dict`` returned.

        Raises:
            UserError: If the names do not match this configuration.
        """
        expected = {name for name, p in self.named_parameters() if p.requires_grad}
        if expected != set(state):
            difference = ", ".join(sorted(expected ^ set(state))[:3])
            raise UserError(f"the checkpoint is of another configuration: it differs in {difference}")
        self.load_state_dict(dict(state), strict=False)


@dataclass(frozen=True)
class MethodSpec:
    """A registered method.

    Attributes:
        name: Name in configurations and on the command line.
        description: One line for listings.
        source: Paper and section in which the method is described.
        method: Class of the module.
        space: The default space, if the method's file declares one.
    """

    name: str
    description: str
    source: str
    method: type[FusionMethod]
    space: DefaultSpace | None = None

    @property
    def config_class(self) -> type[MethodConfig]:
        """The method's config dataclass."""
        return self.method.config_class


METHODS: Registry[MethodSpec] = Registry("method")


def register_method(
    name: str, *, description: str, source: str, space: DefaultSpace | None = None
) -> Callable[[type[FusionMethod]], type[FusionMethod]]:
    """Return a class decorator that puts a method in the registry.

    Args:
        name: Name in configurations and on the command line.
        description: One line for listings.
        source: Paper and section in which the method is described.
        space: The default space. It is registered under the method's name and is part of ``all_methods``.

    Raises:
        UserError: If another module has registered a method of that name.
    """

    def register(method: type[FusionMethod]) -> type[FusionMethod]:
        METHODS.register(name, MethodSpec(name, description, source, method, space), method.__module__)
        return method

    return register


def get_method(name: str) -> MethodSpec:
    """Return a registered method.

    Raises:
        UserError: If there is no method of that name. The message lists the existing ones.
    """
    return METHODS[name]
