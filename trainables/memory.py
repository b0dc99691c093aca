"""Training memory, known before it is spent.

The memory of a configuration is the peak of the bytes held by tensors during one ordinary optimisation
step. ``predict_memory`` finds it by running the step of the real model on fake tensors, which have shapes
but no content: exact, without a GPU, in about a second. ``measure_memory`` tracks the same step on real
tensors. Not counted: what a device's runtime and allocator hold beside the tensors.
"""

from __future__ import annotations

import json
import weakref
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from trainables.methods import FusionMethod, MethodConfig, MethodContext, build_method, get_method
from trainables.setting import TrainingSetting
from trainables.step import forward_loss, update
from trainables.tasks import get_task
from trainables.towers import EncoderSource, ModalityInput, Sequence, Tower, load_tower

KINDS = ("weights", "gradients", "optimizer", "activations", "temporary")


@dataclass(frozen=True)
class MemoryReport:
    """The peak of one optimisation step, in bytes, and what is held at that moment.

    Attributes:
        total: The peak.
        weights: Parameters and buffers, frozen ones included.
        gradients: Gradients of trained parameters.
        optimizer: The optimiser's state.
        activations: The batch, and what the forward pass keeps for the backward pass.
        temporary: The rest: intermediate results of the operation at work.
        trainable_parameters: Number of trained scalars.
        checkpoint: Bytes of the trained weights, which is what a checkpoint holds of the model.
    """

    total: int
    weights: int
    gradients: int
    optimizer: int
    activations: int
    temporary: int
    trainable_parameters: int
    checkpoint: int

    def to_dict(self) -> dict[str, int]:
        """Return total and parts of the peak, in bytes."""
        return {"total": self.total, **{kind: getattr(self, kind) for kind in KINDS}}


class _StorageLog(TorchDispatchMode):
    """Logs when every tensor storage appears and disappears, and finds the peak afterwards.

    The kind of a storage is known only after the fact (what a forward pass leaves behind are activations,
    the rest were temporaries), so the log is replayed once the step is over.
    """

    def __init__(self) -> None:
        super().__init__()
        self._events: list[tuple[int, int]] = []  # (storage, +bytes or -bytes)
        self._kind: dict[int, str] = {}
        self._live: dict[int, tuple[int, int]] = {}  # address of the C++ storage -> (storage, bytes)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor):
                self._see(leaf)
        return out

    def note(self, kind: str, tensors: Iterable[Tensor]) -> None:
        """Say what kind the storages of these tensors are."""
        for tensor in tensors:
            self._kind[self._see(tensor)] = kind

    def note_live(self, kind: str) -> None:
        """Say that all live storages without a kind are of this one."""
        for storage, _ in self._live.values():
            self._kind.setdefault(storage, kind)

    def peak(self) -> dict[str, int]:
        """Replay the log and return the bytes of each kind at the (first) moment of the peak."""
        now = dict.fromkeys(KINDS, 0)
        total = most = 0
        at_peak = dict(now)
        for storage, size in self._events:
            now[self._kind.get(storage, "temporary")] += size
            total += size
            if total > most:
                most, at_peak = total, dict(now)
        return at_peak

    def _see(self, tensor: Tensor) -> int:
        storage = tensor.untyped_storage()
        address = storage._cdata
        if address not in self._live:
            number, size = len(self._events), storage.nbytes()
            self._live[address] = (number, size)
            self._events.append((number, size))
            weakref.finalize(storage, self._gone, address)
        return self._live[address][0]

    def _gone(self, address: int) -> None:
        number, size = self._live.pop(address)
        self._events.append((number, -size))


def measure_memory(
    method: FusionMethod,
    inputs: Mapping[str, ModalityInput],
    labels: Tensor,
    setting: TrainingSetting,
    task: str = "classification",
) -> MemoryReport:
    """Track one optimisation step of a built method, on whatever tensors it is given.

    The optimiser's state exists before the step, as in every step but the first; the method's weights are
    changed by a step of learning rate 0.

    Args:
        method: The method, with weights.
        inputs: A batch, one entry a modality.
        labels: Its labels, shape (B,).
        setting: Optimiser, precision and so on.
        task: Task kind, for the loss.
    """
    parameters = method.trainable_parameters()
    optimizer = setting.make_optimizer(parameters, learning_rate=0.0)
    for parameter in parameters:
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    method.train()

    log = _StorageLog()
    hooks = [
        parameter.register_post_accumulate_grad_hook(
            lambda p: log.note("gradients", [p.grad] if p.grad is not None else [])
        )
        for parameter in parameters
    ]
    try:
        with log:
            log.note("weights", [*method.parameters(), *method.buffers()])
            log.note("optimizer", _tensors(optimizer.state))
            log.note("activations", [labels, *_tensors(inputs)])
            loss = forward_loss(method, inputs, labels, get_task(task), setting)
            log.note_live("activations")
            update(loss, optimizer)
    finally:
        for hook in hooks:
            hook.remove()
    peak = log.peak()
    return MemoryReport(
        total=sum(peak.values()),
        trainable_parameters=method.trainable_parameter_count(),
        checkpoint=sum(weight.nbytes for weight in method.trainable_state_dict().values()),
        **peak,
    )


@dataclass
class MemoryPredictor:
    """Predicts the training memory of configurations over the same encoders and setting.

    Encoders are built once, on fake tensors; equal configurations are answered from memory.

    Args:
        encoders: One resolved encoder a modality; their weights are never loaded.
        n_classes: Number of classes.
        setting: Batch size, lengths, precision and so on.
        task: Task kind.
    """

    encoders: Mapping[str, EncoderSource]
    n_classes: int
    setting: TrainingSetting
    task: str = "classification"
    _known: dict[str, MemoryReport] = field(default_factory=dict, repr=False)
    _towers: dict[str, Tower] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        for encoder in self.encoders.values():
            encoder.check_sizes(self.setting.sizes)
        self._fake = FakeTensorMode()

    def predict(self, method: str, config: Mapping[str, Any] | MethodConfig) -> MemoryReport:
        """Return the memory of a configuration.

        Args:
            method: A registered method.
            config: Its configuration, or the fields that differ from the defaults.

        Raises:
            UserError: If the method or the configuration is invalid for these encoders.
        """
        if not isinstance(config, MethodConfig):
            config = get_method(method).config_class.from_dict(config)
        key = json.dumps([method, config.to_dict()], sort_keys=True)
        if key not in self._known:
            with self._fake:
                self._known[key] = self._run(method, config)
        return self._known[key]

    def prefix_layers(self, method: str, config: Mapping[str, Any]) -> dict[str, int]:
        """Return how many layers of each encoder a configuration leaves frozen and untouched."""
        with self._fake:
            return self._build(method, get_method(method).config_class.from_dict(config)).prefix_layers()

    def _build(self, method: str, config: MethodConfig) -> FusionMethod:
        if not self._towers:
            self._towers = {
                modality: load_tower(encoder, attention=self.setting.attention, weights=False)
                for modality, encoder in self.encoders.items()
            }
        context = MethodContext(
            self._towers, self.n_classes, self.setting.sizes, self.setting.encoder_dropout
        )
        return build_method(method, config, context)

    def _run(self, method: str, config: MethodConfig) -> MemoryReport:
        built = self._build(method, config)
        inputs = {
            modality: built.tower(modality).example_inputs(self.setting.batch_size, self.setting.sizes)
            for modality in built.modalities
        }
        labels = torch.zeros(self.setting.batch_size, dtype=torch.long)
        return measure_memory(built, inputs, labels, self.setting, self.task)


def _tensors(tree: Any) -> Iterator[Tensor]:
    """Every tensor in nested mappings and token sequences."""
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, Mapping):
        for value in tree.values():
            yield from _tensors(value)
    elif isinstance(tree, Sequence):
        yield tree.tokens
        if tree.mask is not None:
            yield tree.mask
