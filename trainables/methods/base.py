"""What every fusion method is: a config dataclass and a module over towers."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from trainables.errors import UserError, unknown
from trainables.towers import ModalityInput, Sequence, Tower


@dataclass(frozen=True)
class FusionOutput:
    """What a method returns.

    Attributes:
        logits: Class scores, shape (B, C).
        aux_loss: A scalar to add to the task's loss, or None.
    """

    logits: Tensor
    aux_loss: Tensor | None = None


@dataclass(frozen=True)
class MethodConfig:
    """Base of the methods' configurations; every field carries ``metadata={"help": …}``."""

    @property
    def trains_encoders(self) -> bool:
        """Whether the encoders' own weights are trained."""
        return False

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Build a configuration from names and values; texts are read as the field's type.

        Args:
            values: Field values; fields left out keep their defaults.

        Raises:
            UserError: If a name is unknown or a value is not of the field's type or range.
        """
        hints = typing.get_type_hints(cls)
        fields = {field.name for field in dataclasses.fields(cls)}
        for name in values:
            if name not in fields:
                raise unknown(f"{cls.__name__} setting", name, fields or ("none: it has no settings",))
        return cls(**{name: _read(name, value, hints[name]) for name, value in values.items()})

    def to_dict(self) -> dict[str, Any]:
        """Return all fields by name."""
        return dataclasses.asdict(self)

    def require(self, name: str, low: int, high: int | None = None) -> None:
        """Check that an integer field lies in a range; None passes.

        Raises:
            UserError: Naming the field, its value and the range.
        """
        value = getattr(self, name)
        if value is not None and (value < low or (high is not None and value > high)):
            accepted = f"{low} to {high}" if high is not None else f"at least {low}"
            raise UserError(f"{name}={value}: must be {accepted}")


class FusionMethod(nn.Module):
    """A fusion method over the towers of two or more modalities.

    Args:
        towers: One tower a modality. Frozen unless ``config.trains_encoders``.
        n_classes: Number of classes C.
        config: The method's configuration.
        encoder_dropout: Whether dropout is active, in training, in frozen encoder layers that the gradient
            passes through. The frozen prefix below them always runs without dropout, which makes its
            output a constant of the data.
    """

    config_class: ClassVar[type[MethodConfig]] = MethodConfig

    def __init__(
        self, towers: Mapping[str, Tower], n_classes: int, config: Any, *, encoder_dropout: bool = True
    ) -> None:
        super().__init__()
        self.towers = nn.ModuleDict(towers)
        self.n_classes = n_classes
        self.config = config
        self.encoder_dropout = encoder_dropout
        for tower in self.towers.values():
            tower.requires_grad_(config.trains_encoders)

    def forward(self, batch: Mapping[str, ModalityInput]) -> FusionOutput:
        """Score a batch.

        Args:
            batch: One entry a modality: the encoder's inputs, or a sequence that has been through at most
                ``prefix_layers()[modality]`` layers.
        """
        raise AttributeError(f"{type(self).__name__} does not define forward")

    def prefix_layers(self) -> dict[str, int]:
        """Return how many lower layers of each tower run frozen and untouched, without gradient.

        Their output depends on the data only, so that it can be computed once and shared by all trials.
        A modality that is missing has no such prefix: its encoder is trained from the embedding on.
        """
        raise AttributeError(f"{type(self).__name__} does not define its prefix")

    def prefix(self, batch: Mapping[str, ModalityInput]) -> dict[str, Sequence]:
        """Run every tower's frozen prefix, without gradient, from wherever the batch stands."""
        with torch.no_grad():
            return {m: self.tower(m).encode(batch[m], stop) for m, stop in self.prefix_layers().items()}

    def tower(self, modality: str) -> Tower:
        """Return the tower of a modality."""
        return typing.cast(Tower, self.towers[modality])

    def train(self, mode: bool = True) -> Self:
        """Switch to training or evaluation; frozen layers keep the mode that ``encoder_dropout`` says."""
        super().train(mode)
        for modality, stop in self.prefix_layers().items():
            tower = self.tower(modality).eval()
            if mode and self.encoder_dropout:
                for layer in tower.layers[stop:]:
                    layer.train()
        return self

    def trainable_parameters(self) -> list[nn.Parameter]:
        """Return the parameters that train, in a fixed order."""
        return [p for p in self.parameters() if p.requires_grad]

    def trainable_parameter_count(self) -> int:
        """Return the number of trained scalars."""
        return sum(p.numel() for p in self.trainable_parameters())

    def trainable_state_dict(self) -> dict[str, Tensor]:
        """Return the trained weights by name: all that a checkpoint needs beside the pretrained encoders."""
        return {name: p.detach() for name, p in self.named_parameters() if p.requires_grad}

    def load_trainable_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Load what ``trainable_state_dict`` returned.

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
        source: The paper and section it comes from.
        method: The module's class.
    """

    name: str
    description: str
    source: str
    method: type[FusionMethod]

    @property
    def config_class(self) -> type[MethodConfig]:
        """The method's config dataclass."""
        return self.method.config_class


METHODS: dict[str, MethodSpec] = {}


def register_method(
    name: str, *, description: str, source: str
) -> Callable[[type[FusionMethod]], type[FusionMethod]]:
    """Return a class decorator that puts a method in the registry."""

    def register(method: type[FusionMethod]) -> type[FusionMethod]:
        METHODS[name] = MethodSpec(name, description, source, method)
        return method

    return register


def get_method(name: str) -> MethodSpec:
    """Return a registered method.

    Raises:
        UserError: If there is none of that name; the message lists those that exist.
    """
    if name not in METHODS:
        raise unknown("method", name, METHODS)
    return METHODS[name]


def build_method(
    name: str,
    config: Mapping[str, Any] | MethodConfig,
    towers: Mapping[str, Tower],
    n_classes: int,
    *,
    encoder_dropout: bool = True,
) -> FusionMethod:
    """Build a method over towers.

    Args:
        name: A registered method.
        config: Its configuration, or the fields that differ from the defaults.
        towers: One tower a modality. They are shared, not copied: a method that trains the encoders
            (``config.trains_encoders``) must be given towers of its own.
        n_classes: Number of classes.
        encoder_dropout: See ``FusionMethod``.

    Raises:
        UserError: If the method does not exist or the configuration does not fit it or the towers.
    """
    spec = get_method(name)
    if not isinstance(config, MethodConfig):
        config = spec.config_class.from_dict(config)
    return spec.method(towers, n_classes, config, encoder_dropout=encoder_dropout)


def _read(name: str, value: Any, hint: Any) -> Any:
    """Return ``value`` as the type that a field is annotated with; texts come from the command line."""
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if value is None or (value in ("none", "None") and type(None) in options):
        if type(None) in options:
            return None
        raise UserError(f"{name}=none: must be {_type_name(options)}")
    for option in options:
        if option is bool and str(value).lower() in {"true", "false"}:
            return str(value).lower() == "true"
        if option is int and not isinstance(value, bool):
            try:
                number = float(value)
            except ValueError:
                continue
            if number.is_integer():
                return int(number)
        if option is float and not isinstance(value, bool):
            try:
                return float(value)
            except ValueError:
                continue
        if option is str:
            return str(value)
    raise UserError(f"{name}={value}: must be {_type_name(options)}")


def _type_name(options: tuple[Any, ...]) -> str:
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
    return " or ".join(words.get(option, "none") for option in options)
