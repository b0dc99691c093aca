"""Supernets: one set of weights of maximal size. Smaller configurations use slices of it."""

from __future__ import annotations

import fnmatch
import json
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from trainables.errors import UserError
from trainables.methods import FusionMethod, FusionOutput, MethodConfig, MethodContext, build_method
from trainables.methods.inserting import WRAPPED
from trainables.towers import ModalityInput

#: File that describes the supernet beside its weights.
DESCRIPTION = "supernet.json"
#: Number of shells that are kept: the largest and the smallest subnet, which recur, and a few others.
_KEPT = 4


@dataclass(frozen=True)
class SupernetWeights:
    """A supernet without its towers: everything that is needed to cut subnets from it.

    Attributes:
        method: Name of the method.
        config: The method's own fields in the largest configuration.
        state: The trained weights, named as in ``FusionMethod.trainable_state_dict``.
    """

    method: str
    config: dict[str, Any]
    state: dict[str, Tensor]

    @classmethod
    def load(cls, folder: Path) -> SupernetWeights:
        """Read a supernet that ``save`` has written."""
        described = json.loads((folder / DESCRIPTION).read_text())
        return cls(described["method"], described["config"], load_file(folder / "weights.safetensors"))

    def save(self, folder: Path) -> None:
        """Write ``weights.safetensors``, a checkpoint of the largest subnet, and ``supernet.json``."""
        save_file({k: v.contiguous().cpu() for k, v in self.state.items()}, folder / "weights.safetensors")
        (folder / DESCRIPTION).write_text(json.dumps({"method": self.method, "config": self.config}))

    def supernet(self, context: MethodContext) -> Supernet:
        """Return the supernet with these weights over the towers of a context."""
        supernet = Supernet(context, self.method, self.config)
        supernet.largest.load_trainable_state_dict(self.state)
        return supernet


class Supernet(nn.Module):
    """The weights of a method's largest configuration, run as any of its smaller ones.

    A subnet's weights are leading slices of the supernet's, along every dimension (weight entanglement, Chen
    et al. 2021, AutoFormer, Sec. 3.2). Layers are counted from the top: subnets that work in more or fewer
    layers share the upper ones. ``FusionMethod.elastic`` names the options that may differ between subnets.

    Args:
        context: Towers, output size and so on.
        method: Name of a registered method.
        config: The method's largest configuration.

    Attributes:
        largest: The largest subnet, an ordinary model. It holds the supernet's trained weights.

    Raises:
        UserError: If the configuration does not fit the method or the towers.
    """

    def __init__(self, context: MethodContext, method: str, config: Mapping[str, Any] | MethodConfig) -> None:
        super().__init__()
        self.method = method
        self.context = context
        self.largest = build_method(method, config, context)
        self._by_name = {_bare(n): p for n, p in self.largest.named_parameters() if p.requires_grad}
        self._shells: OrderedDict[str, _Shell] = OrderedDict()

    @property
    def weights(self) -> SupernetWeights:
        """The trained weights and what is needed to use them."""
        config = self.largest.config.to_dict()
        return SupernetWeights(self.method, config, self.largest.trainable_state_dict())

    def forward(self, config: Mapping[str, Any], batch: Mapping[str, ModalityInput]) -> FusionOutput:
        """Run a subnet on a batch; gradients reach the supernet's weights.

        Args:
            config: The subnet's configuration; see ``shell``.
            batch: See ``FusionMethod.forward``.
        """
        return self.bound(config)(batch)

    def bound(self, config: Mapping[str, Any]) -> FusionMethod:
        """Return a subnet that runs on slices of the supernet's current weights.

        The subnet is in the supernet's mode, training or evaluation. It is valid until the supernet's weights
        change. Its ``parameters()`` do not include trained weights.
        """
        shell = self._shell(config)
        for slot in shell.slots:
            setattr(slot.module, slot.name, slot.weight[slot.part])
        return shell.method

    def shell(self, config: Mapping[str, Any]) -> FusionMethod:
        """Return a subnet without its trained weights, for example to ask for its frozen prefix.

        Args:
            config: A configuration of the method. Fields that are not elastic must equal the supernet's.

        Raises:
            UserError: If the configuration is not a subnet of this supernet.
        """
        return self._shell(config).method

    def weights_of(self, config: Mapping[str, Any]) -> list[nn.Parameter]:
        """Return the supernet's weights of which a subnet uses slices.

        Args:
            config: See ``shell``.
        """
        return [slot.weight for slot in self._shell(config).slots]

    def subnet(self, config: Mapping[str, Any]) -> FusionMethod:
        """Return a subnet as an ordinary model of its method, with its own copy of the weights."""
        model = build_method(self.method, config, self.context)
        model.load_trainable_state_dict(self.subnet_state_dict(config, model))
        return model

    def subnet_state_dict(
        self, config: Mapping[str, Any], model: FusionMethod | None = None
    ) -> dict[str, Tensor]:
        """Return a copy of a subnet's trained weights, named as in ``FusionMethod.trainable_state_dict``.

        Args:
            config: See ``shell``.
            model: An existing model of that configuration; None builds one.
        """
        model = model or build_method(self.method, config, self.context)
        parts = {slot.path: slot.weight.detach()[slot.part].clone() for slot in self._slots(model)}
        return {name: parts[name] for name in model.trainable_state_dict()}

    def _shell(self, config: Mapping[str, Any]) -> _Shell:
        key = json.dumps(config, sort_keys=True)
        shell = self._shells.get(key)
        if shell is None:
            with torch.random.fork_rng():  # the initial weights are not used
                method = build_method(self.method, config, self.context)
            shell = self._shells[key] = _Shell(method, self._slots(method))
            for slot in shell.slots:
                delattr(slot.module, slot.name)
            device = next(iter(self._by_name.values())).device
            if any(tensor.device != device for tensor in (*method.parameters(), *method.buffers())):
                method.to(device)
            method.train(self.training)  # a new model's towers are always in evaluation mode
            while len(self._shells) > _KEPT:
                self._shells.popitem(last=False)
        self._shells.move_to_end(key)
        if shell.method.training is not self.training:
            shell.method.train(self.training)
        return shell

    def _slots(self, model: FusionMethod) -> list[_Slot]:
        """Return, for each trained parameter of a subnet, which slice of which weight it is."""
        self._check(model.config)
        shifts = _shifts(self.largest, model)
        slots = []
        for module_path, module in model.named_modules():
            for name, parameter in module.named_parameters(recurse=False):
                if not parameter.requires_grad:
                    continue
                path = f"{module_path}.{name}" if module_path else name
                weight = self._by_name.get(_bare(_shifted(path, shifts)))
                if weight is None or any(a > b for a, b in zip(parameter.shape, weight.shape, strict=True)):
                    raise UserError(
                        f"{self.method} with {_described(model.config)}: is larger than the supernet, "
                        f"{_described(self.largest.config)}"
                    )
                part = tuple(slice(0, size) for size in parameter.shape)
                slots.append(_Slot(path, module, name, weight, part))
        return slots

    def _check(self, config: MethodConfig) -> None:
        """Refuse a configuration that differs from the supernet's in an option that is not elastic."""
        mine = self.largest.config.to_dict()
        for name, value in config.to_dict().items():
            if name not in self.largest.elastic and value != mine[name]:
                raise UserError(
                    f"{self.method} with {name}={value}: the supernet has {name}={mine[name]}, and only "
                    f"{', '.join(self.largest.elastic) or 'nothing'} may differ"
                )


@dataclass(frozen=True)
class _Slot:
    """A trained parameter of a subnet: its place in the subnet and its slice of a supernet's weight."""

    path: str
    module: nn.Module
    name: str
    weight: nn.Parameter
    part: tuple[slice, ...]


@dataclass(frozen=True)
class _Shell:
    """A subnet without trained parameters. Slices of the supernet's weights are set before each use."""

    method: FusionMethod
    slots: list[_Slot]


def _shifts(largest: FusionMethod, model: FusionMethod) -> dict[str, int]:
    """Return how many lower layers a subnet lacks, for each list whose last entry is the top layer."""
    shifts = {}
    for path, stack in model.named_modules():
        if any(fnmatch.fnmatchcase(path, pattern) for pattern in model.stacked):
            whole: Any = largest.get_submodule(path)
            entries: Any = stack
            shifts[path] = len(whole) - len(entries)
    return shifts


def _shifted(path: str, shifts: Mapping[str, int]) -> str:
    """Return the supernet's name for a subnet's parameter."""
    for stack, shift in shifts.items():
        if path.startswith(f"{stack}."):
            index, *rest = path.removeprefix(f"{stack}.").split(".")
            return ".".join([stack, str(int(index) + shift), *rest])
    return path


def _bare(path: str) -> str:
    """Return a parameter's name without the modules that methods put around others.

    The layers of an encoder that trains have such modules in the layers that a subnet tunes, and not below.
    """
    return ".".join(name for name in path.split(".") if name not in WRAPPED)


def _described(config: MethodConfig) -> str:
    return ", ".join(f"{name}={value}" for name, value in config.to_dict().items())
