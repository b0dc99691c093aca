"""Training memory, known before it is spent.

The memory of a configuration is the peak of the bytes held by tensors during one ordinary optimisation
step. ``MemoryPredictor`` finds it by running the step of the real model on fake tensors, which have shapes
but no content: exact, without a GPU, in a fraction of a second. ``measure_memory`` tracks the same step on
real tensors. Not counted: what a device's runtime and allocator hold beside the tensors.
"""

from __future__ import annotations

import gc
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from collections.abc import Sequence as Listing
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from trainables.configuration import setting_changes, split_config
from trainables.data.loader import Batch
from trainables.elastic import Supernet
from trainables.memory.fake import FakeTensors
from trainables.memory.memo import PredictionMemo
from trainables.memory.storage_log import KINDS, Holdings, StorageLog
from trainables.methods import FusionMethod, MethodConfig, build_method, get_method
from trainables.step.setting import TrainingSetting
from trainables.step.training import training_step
from trainables.supernet.step import Curriculum, Replica, supernet_step
from trainables.tasks.classification import Classification, get_task
from trainables.towers import EncoderSource, ModalityInput, Sequence, Tower, load_tower

#: Bytes by part of the model and kind.
Breakdown = dict[str, dict[str, int]]


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
    optimizer = setting.make_optimizer(method.trainable_parameters(), learning_rate=0.0)
    _make_state(optimizer)
    method.train()
    held, _ = track_step(method, inputs, labels, setting, optimizer, get_task(task))
    return _report(method, held)


def track_step(
    method: FusionMethod,
    inputs: Mapping[str, ModalityInput],
    labels: Tensor,
    setting: TrainingSetting,
    optimizer: torch.optim.Optimizer,
    task: Classification,
    log: StorageLog | None = None,
    most_parts: int | None = None,
) -> tuple[Holdings, Tensor]:
    """Take one optimisation step; return what is held at its peak, and the mean loss.

    Args:
        method: The method, in training mode.
        inputs: A batch, one entry a modality.
        labels: Its labels, shape (B,).
        setting: How the step is run.
        optimizer: The optimiser; it has its state already.
        task: For the loss.
        log: A log of this step alone; None makes one.
        most_parts: See ``training_step``.
    """
    log = log or StorageLog()

    def step(after_forward: Callable[[], None]) -> Tensor:
        return training_step(method, inputs, labels, task, setting, optimizer, after_forward, most_parts)

    return _tracked(method, [labels, *_tensors(inputs)], setting, optimizer, step, log)


def track_supernet_step(
    supernet: Supernet,
    configs: Listing[Mapping[str, Any]],
    load: Callable[[Mapping[str, Any], slice], Batch],
    setting: TrainingSetting,
    optimizer: torch.optim.Optimizer,
    task: Classification,
    *,
    distill: bool = False,
    log: StorageLog | None = None,
) -> tuple[Holdings, Tensor]:
    """Take one step of a supernet; return what is held at its peak, and the mean loss.

    Args:
        supernet: The supernet, in training mode.
        configs: The subnets that the step trains.
        load: See ``supernet_step``.
        setting: How the step is run.
        optimizer: Of the supernet's trained weights; it has its state already.
        task: For the loss.
        distill: See ``supernet_step``.
        log: A log of this step alone; None makes one.
    """

    def step(after_forward: Callable[[], None]) -> Tensor:
        return supernet_step(
            Replica(supernet),
            configs,
            load,
            setting.batch_size,
            task,
            setting,
            optimizer,
            distill=distill,
            after_forward=after_forward,
        )

    return _tracked(supernet.largest, [], setting, optimizer, step, log or StorageLog())


def _tracked(
    method: FusionMethod,
    batch: Iterable[Tensor],
    setting: TrainingSetting,
    optimizer: torch.optim.Optimizer,
    step: Callable[[Callable[[], None]], Tensor],
    log: StorageLog,
) -> tuple[Holdings, Tensor]:
    """Log a step of a method's weights; ``step`` is told what to call after a forward pass."""
    owned = list(_owned(method))
    owners = {id(tensor): owner for owner, tensor in owned}

    def note_gradient(parameter: Tensor) -> None:
        log.note("gradients", _tensors(parameter.grad), owners[id(parameter)])

    hooks = [p.register_post_accumulate_grad_hook(note_gradient) for p in method.trainable_parameters()]
    away = method.prefix_modules() if setting.prefix == "offloaded" else []
    absent = {id(tensor) for module in away for tensor in (*module.parameters(), *module.buffers())}
    try:
        with log:
            for owner, tensor in owned:
                if id(tensor) not in absent:
                    log.note("weights", [tensor], owner)
                log.note("optimizer", _tensors(optimizer.state.get(tensor, {})), owner)
            log.note("activations", batch, "inputs")
            loss = step(lambda: log.note_live("activations"))
    finally:
        for hook in hooks:
            hook.remove()
    return log.peak(), loss


@dataclass
class MemoryPredictor:
    """Predicts the training memory of configurations over the same encoders and setting.

    Encoders are built once, on fake tensors, and what their frozen lower layers take is found out once.
    Equal configurations are answered from memory, or from the disk.

    Args:
        encoders: One resolved encoder a modality; their weights are never loaded.
        n_classes: Number of classes.
        setting: Batch size, lengths, precision and so on.
        task: Task kind.
        memo: Predictions of earlier processes; None does without.
    """

    encoders: Mapping[str, EncoderSource]
    n_classes: int
    setting: TrainingSetting
    task: str = "classification"
    memo: PredictionMemo | None = None
    _fake: FakeTensors = field(default_factory=FakeTensors, repr=False)
    _towers: dict[str, dict[str, Tower]] = field(default_factory=dict, repr=False)
    _known: dict[str, MemoryReport] = field(default_factory=dict, repr=False)
    _prefixes: dict[str, list[_Encoded]] = field(default_factory=dict, repr=False)
    _others: dict[TrainingSetting, MemoryPredictor] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self._others[self.setting] = self
        for encoder in self.encoders.values():
            encoder.check_sizes(self.setting.sizes)

    def changed(self, **changes: Any) -> MemoryPredictor:
        """Return a predictor for the same encoders in another setting.

        Args:
            changes: Fields of the setting.

        Raises:
            UserError: If the encoders or the setting do not take them.
        """
        setting = replace(self.setting, **changes)
        if setting not in self._others:
            self._others[setting] = replace(self, setting=setting, _known={}, _prefixes={})
        return self._others[setting]

    def predict(self, method: str, config: Mapping[str, Any] | MethodConfig) -> MemoryReport:
        """Return the memory of a configuration.

        Args:
            method: A registered method.
            config: Its configuration, or the fields that differ from the defaults.

        Raises:
            UserError: If the method or the configuration is invalid for these encoders.
        """
        spec = get_method(method)
        if not isinstance(config, MethodConfig):
            config = spec.config_class.from_dict(config)
        key = json.dumps([method, spec.method.__module__, config.to_dict()], sort_keys=True)
        if key not in self._known:
            self._known[key] = self._recall(key) or self._remember(key, self._run(method, config))
        return self._known[key]

    def predict_configuration(self, config: Mapping[str, Any]) -> MemoryReport:
        """Return the memory of a search's configuration, which may change the setting.

        Args:
            config: ``method``, ``learning_rate``, the method's fields and fields of the setting.
        """
        return self.changed(**setting_changes(config)).predict(*split_config(config))

    def predict_as_run(self, config: Mapping[str, Any], *, cached: bool) -> MemoryReport:
        """Return what a search's configuration takes in the search itself, which saves what it can.

        Args:
            config: See ``predict_configuration``.
            cached: Whether the output of frozen lower layers is cached.
        """
        setting = replace(self.setting, **setting_changes(config)).as_run(cached=cached)
        return self.changed(**setting.to_dict()).predict(*split_config(config))

    def predict_supernet(self, method: str, curriculum: Curriculum) -> MemoryReport:
        """Return the memory of training a supernet: the peak of the heaviest step that may be drawn.

        Of several workers, each takes as much; what they need to share gradients comes on top.

        Args:
            method: A registered method.
            curriculum: Which subnets a step trains; configurations are the method's own fields.
        """
        config = get_method(method).config_class.from_dict(curriculum.largest)
        heaviest = curriculum.heaviest
        key = json.dumps([method, "supernet", heaviest, curriculum.distill], sort_keys=True)
        return self._recall(key) or self._remember(key, self._run_supernet(method, config, curriculum))

    def _run_supernet(self, method: str, config: MethodConfig, curriculum: Curriculum) -> MemoryReport:
        from transformers.initialization import no_init_weights

        setting, heaviest = self.setting, curriculum.heaviest
        with self._fake.active(), _garbage_kept(), no_init_weights():
            context = setting.context(self._encoders(), self.n_classes)
            supernet = Supernet(context, method, config)
            supernet.train()
            optimizer = setting.make_optimizer(supernet.largest.trainable_parameters(), learning_rate=0.0)
            _make_state(optimizer)
            if setting.optimizer_kernel == "single":
                _step_decisive_only(optimizer)

            for subnet in heaviest:
                supernet.shell(subnet)

            def load(config: Mapping[str, Any], rows: slice) -> Batch:
                model = supernet.shell(config)
                count = min(rows.stop, setting.batch_size) - rows.start
                inputs: dict[str, ModalityInput] = {}
                for m in model.modalities:
                    if setting.prefix != "computed" and m in model.prefix_layers():
                        inputs[m] = self._encoded(m)[model.prefix_layers()[m]].cached(count)
                    else:
                        inputs[m] = model.tower(m).example_inputs(count, setting.sizes)
                return Batch(inputs, torch.zeros(count, dtype=torch.long))

            held, _ = track_supernet_step(
                supernet,
                heaviest,
                load,
                setting,
                optimizer,
                get_task(self.task),
                distill=curriculum.distill,
            )
            return _report(supernet.largest, held)

    def explain(self, method: str, config: Mapping[str, Any]) -> Breakdown:
        """Return the bytes held at the peak, by part of the model and kind; their sum is the memory.

        Parts are the layers and embeddings of each encoder, the method's own modules by their names, the
        batch (``inputs``), ``fusion`` (activations between the encoders' layers and behind them), the
        ``backward pass`` and the ``optimiser step``.
        """
        built, held = self._held(method, get_method(method).config_class.from_dict(config))
        parts: Breakdown = defaultdict(lambda: dict.fromkeys(KINDS, 0))
        for (kind, part), size in held.items():
            parts[part or "fusion"][kind] += size
        order = [*dict.fromkeys(owner for owner, _ in _owned(built)), *parts]
        return {part: parts[part] for part in dict.fromkeys(order) if part in parts}

    def prefix_layers(self, method: str, config: Mapping[str, Any]) -> dict[str, int]:
        """Return how many layers of each encoder a configuration leaves frozen and untouched."""
        with self._fake.active():
            return self._build(method, get_method(method).config_class.from_dict(config)).prefix_layers()

    def encoding_memory(self) -> int:
        """Return the bytes that running an encoder takes beside the others' weights, without gradient.

        That is what filling a cache with its output takes.
        """
        with self._fake.active():
            weights = sum(p.nbytes for tower in self._encoders().values() for p in tower.parameters())
            return weights + max(self._encoded(modality)[-1].rise for modality in self.encoders)

    def _recall(self, key: str) -> MemoryReport | None:
        known = self.memo.get(self._content(key)) if self.memo else None
        return None if known is None else MemoryReport(**known)

    def _remember(self, key: str, report: MemoryReport) -> MemoryReport:
        if self.memo:
            self.memo.put(self._content(key), asdict(report))
        return report

    def _content(self, key: str) -> str:
        """Everything that a prediction depends on beside the program, as one text."""
        encoders = {m: encoder.config.to_dict() for m, encoder in self.encoders.items()}
        return json.dumps(
            [encoders, self.n_classes, self.task, self.setting.to_dict(), key], sort_keys=True, default=str
        )

    def _encoders(self) -> dict[str, Tower]:
        kernel = self.setting.attention
        if kernel not in self._towers:
            self._towers[kernel] = {
                modality: load_tower(encoder, attention=kernel, weights=False)
                for modality, encoder in self.encoders.items()
            }
        return self._towers[kernel]

    def _build(self, method: str, config: MethodConfig) -> FusionMethod:
        from transformers.initialization import no_init_weights

        context = self.setting.context(self._encoders(), self.n_classes)
        with no_init_weights():  # there is nothing to initialise
            return build_method(method, config, context)

    def _run(self, method: str, config: MethodConfig) -> MemoryReport:
        return _report(*self._held(method, config))

    def _held(self, method: str, config: MethodConfig) -> tuple[FusionMethod, Holdings]:
        """Run a step on fake tensors; return the method and what is held at the peak."""
        setting = self.setting
        with self._fake.active(), _garbage_kept():
            built = self._build(method, config)
            built.train()
            optimizer = setting.make_optimizer(built.trainable_parameters(), learning_rate=0.0)
            _make_state(optimizer)
            if setting.optimizer_kernel == "single":
                _step_decisive_only(optimizer)
            log = StorageLog()
            inputs: dict[str, ModalityInput] = {
                m: built.tower(m).example_inputs(setting.batch_size, setting.sizes) for m in built.modalities
            }
            for modality, stop in built.prefix_layers().items():
                tower = built.tower(modality)
                if setting.prefix == "computed":
                    tower.__dict__["encode"] = partial(_encode, tower, self._encoded(modality), log)
                else:
                    inputs[modality] = self._encoded(modality)[stop].cached(setting.batch_size)
            labels = torch.zeros(setting.batch_size, dtype=torch.long)
            task = get_task(self.task)
            held, _ = track_step(built, inputs, labels, setting, optimizer, task, log, most_parts=2)
            return built, held

    def _encoded(self, modality: str) -> list[_Encoded]:
        """Return an encoder's output after 0, 1, … layers without gradient, and what these take."""
        if modality not in self._prefixes:
            setting = self.setting
            matrices = setting.context({}, self.n_classes).frozen_matrices
            tower = self._encoders()[modality].fork(matrices=matrices)
            rows = setting.batch_size // setting.gradient_accumulation
            inputs = tower.example_inputs(rows, setting.sizes)
            with torch.no_grad(), setting.autocast(torch.device("cpu")), StorageLog() as log:
                log.note("weights", [*tower.parameters(), *tower.buffers()])
                sequence = tower.encode(inputs, 0)
                start = log.mark()
                found = [_Encoded.of(sequence, 0)]
                for stop in range(1, tower.depth + 1):
                    sequence = tower.encode(sequence, stop)
                    found.append(_Encoded.of(sequence, log.rise(start)))
            self._prefixes[modality] = found
        return self._prefixes[modality]


@dataclass(frozen=True)
class _Encoded:
    """The tokens that some frozen layers of an encoder return, without their content.

    Attributes:
        layer: Number of layers.
        rise: The most bytes that these layers need at a moment, beyond what is live before the first.
        storage: Bytes of the tokens' storage.
        size: Shape of the tokens.
        stride: Their stride.
        offset: Their offset in the storage.
        dtype: Their type.
        masked: Whether there is a padding mask.
    """

    layer: int
    rise: int
    storage: int
    size: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int
    dtype: torch.dtype
    masked: bool

    @classmethod
    def of(cls, sequence: Sequence, rise: int) -> _Encoded:
        """Describe a sequence."""
        tokens = sequence.tokens
        return cls(
            sequence.layer,
            rise,
            tokens.untyped_storage().nbytes(),
            tuple(tokens.shape),
            tokens.stride(),
            int(tokens.storage_offset()),
            tokens.dtype,
            sequence.mask is not None,
        )

    def computed(self, before: Sequence) -> Sequence:
        """Return the sequence as if the layers had run on the one before."""
        storage = torch.empty(self.storage // self.dtype.itemsize, dtype=self.dtype)
        tokens = storage.as_strided(self.size, self.stride, self.offset)
        return replace(before, tokens=tokens, layer=self.layer)

    def cached(self, rows: int) -> Sequence:
        """Return the sequence as it comes from a cache, which holds float32."""
        mask = torch.zeros(rows, self.size[1], dtype=torch.bool) if self.masked else None
        return Sequence(torch.empty(rows, *self.size[1:]), mask, self.layer)


@contextmanager
def _garbage_kept() -> Iterator[None]:
    """Keep the garbage collector from going through the millions of objects of the libraries meanwhile."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _encode(
    tower: Tower, encoded: list[_Encoded], log: StorageLog, inputs: ModalityInput, stop: int
) -> Sequence:
    """Do what ``Tower.encode`` does, without running frozen layers whose needs are known."""
    if torch.is_grad_enabled() or isinstance(inputs, Sequence) or stop == 0:
        return Tower.encode(tower, inputs, stop)
    sequence = Tower.encode(tower, inputs, 0)
    log.transient(encoded[stop].rise)
    return encoded[stop].computed(sequence)


def _make_state(optimizer: torch.optim.Optimizer) -> None:
    """Give the optimiser the state that it has after a step, by a step of one parameter only."""
    parameters = _parameters(optimizer)
    largest = max(parameters, key=lambda p: p.numel())
    largest.grad = torch.zeros_like(largest)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    for parameter in parameters:
        if parameter is not largest:
            optimizer.state[parameter] = {
                name: torch.zeros_like(parameter) if value.shape == largest.shape else value.clone()
                for name, value in optimizer.state[largest].items()
            }


def _step_decisive_only(optimizer: torch.optim.Optimizer) -> None:
    """Let a step change only those parameters that decide what the step takes at most.

    Parameters that are stepped one by one need temporaries of their own size, and some of the one before are
    still there. So only pairs of neighbours matter, and of these only such that no other pair is as large
    in both; each of them is stepped on its own.
    """
    parameters = _parameters(optimizer)
    step = optimizer.step
    pairs = {
        (before.numel(), parameter.numel()): (before, parameter)
        for before, parameter in zip(parameters[:1] + parameters, parameters, strict=False)
    }
    decisive = [
        pair
        for sizes, pair in pairs.items()
        if not any(o != sizes and o[0] >= sizes[0] and o[1] >= sizes[1] for o in pairs)
    ]

    def step_decisive() -> None:
        gradients = {parameter: parameter.grad for parameter in parameters}
        for pair in decisive:
            for parameter in parameters:
                parameter.grad = gradients[parameter] if any(parameter is one for one in pair) else None
            step()
        for parameter, gradient in gradients.items():
            parameter.grad = gradient

    optimizer.__dict__["step"] = step_decisive


def _parameters(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _owned(method: FusionMethod) -> Iterator[tuple[str, Tensor]]:
    """Every parameter and buffer once, with the part of the model that it belongs to."""
    seen: set[int] = set()
    modules: list[tuple[str, nn.Module]] = []
    for modality in method.modalities:
        tower = method.tower(modality)
        embedding = tower.prefix_modules(0)
        modules += [(f"{modality} embedding", module) for module in embedding]
        modules += [(f"{modality} layer {i}", layer) for i, layer in enumerate(tower.layers)]
        modules += [(f"{modality} output", tower)]
    modules += [(name, module) for name, module in method.named_children() if name != "towers"]
    for owner, module in [*modules, ("fusion", method)]:
        for tensor in (*module.parameters(), *module.buffers()):
            if id(tensor) not in seen:
                seen.add(id(tensor))
                yield owner, tensor


def _report(method: FusionMethod, held: Holdings) -> MemoryReport:
    kinds = {kind: sum(size for (of, _), size in held.items() if of == kind) for kind in KINDS}
    return MemoryReport(
        total=sum(kinds.values()),
        trainable_parameters=method.trainable_parameter_count(),
        checkpoint=sum(parameter.nbytes for parameter in method.trainable_parameters()),
        **kinds,
    )


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
