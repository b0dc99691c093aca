"""Prediction of a configuration's memory, by running its training step on fake tensors."""

from __future__ import annotations

import itertools
import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

import torch

from trainables.configuration import setting_changes, split_config
from trainables.errors import UserError
from trainables.garbage import garbage_kept
from trainables.memory.encoded import Encoded, encode_known, encoded_layers
from trainables.memory.fake import FakeTensors
from trainables.memory.memo import PredictionMemo
from trainables.memory.optimizer import decisive_pairs, make_state, step_only
from trainables.memory.report import Breakdown, MemoryReport
from trainables.memory.storage_log import KINDS, Holdings, StorageLog
from trainables.memory.target import context_of, kernels_of, libraries_of, report_on_target
from trainables.memory.tracking import owned_tensors, track_forward, track_step
from trainables.methods import (
    FusionMethod,
    MethodConfig,
    MethodContext,
    MethodSpec,
    build,
    build_method,
    get_method,
)
from trainables.step.setting import TrainingSetting
from trainables.tasks import Task
from trainables.towers import EncoderSource, ModalityInput, Tower, load_tower


@dataclass
class MemoryPredictor:
    """Predicts the training memory of configurations with the same encoders and setting.

    Encoders are built once, on fake tensors, and the memory of their frozen lower layers is recorded once.
    Each prediction is kept, so that an equal configuration is not run again.

    Args:
        encoders: One resolved encoder per modality. Their weights are never loaded.
        task: The task, which determines the output size and the loss.
        setting: Batch size, lengths, precision and so on.
        memo: Store for the predictions of all processes; None keeps them in this object only.
        inference: Whether the memory of a search's configurations and probes says, too, what a forward pass
            takes without gradient. A prediction then takes a quarter longer.
    """

    encoders: Mapping[str, EncoderSource]
    task: Task
    setting: TrainingSetting
    memo: PredictionMemo | None = None
    inference: bool = False
    _fake: FakeTensors = field(default_factory=FakeTensors, repr=False)
    _towers: dict[str, dict[str, Tower]] = field(default_factory=dict, repr=False)
    _known: dict[str, MemoryReport] = field(default_factory=dict, repr=False)
    _encoded: dict[str, list[Encoded]] = field(default_factory=dict, repr=False)
    _others: dict[TrainingSetting, MemoryPredictor] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if self.setting.label_smoothing and not self.task.smooths_labels:
            raise UserError(f"--label-smoothing: is not for the task {self.task.name}; leave it out")
        self._others[self.setting] = self
        self._others.setdefault(self.setting.same_memory(), self)
        for encoder in self.encoders.values():
            encoder.check_sizes(self.setting.sizes)

    @property
    def kinds(self) -> set[str]:
        """The kinds of modalities that the encoders are of."""
        return {encoder.kind for encoder in self.encoders.values()}

    def changed(self, **changes: Any) -> MemoryPredictor:
        """Return a predictor for the same encoders and a changed setting.

        Args:
            changes: New values for fields of the setting.

        Raises:
            UserError: If the setting or the encoders do not accept the values.
        """
        return self._under(replace(self.setting, **changes))

    def predict(self, method: str, config: Mapping[str, Any] | MethodConfig) -> MemoryReport:
        """Return the memory of a configuration.

        Args:
            method: Name of a registered method.
            config: The method's configuration, or the fields that differ from the defaults.

        Raises:
            UserError: If the method or the configuration is invalid for these encoders.
        """
        spec, config = _looked_up(method, config)
        key = json.dumps([method, spec.method.__module__, config.to_dict()], sort_keys=True)
        if key not in self._known:
            self._known[key] = self.remembered(key, lambda: self._run(method, config))
        return self._known[key]

    def predict_configuration(self, config: Mapping[str, Any]) -> MemoryReport:
        """Return the memory of a search's configuration, which may change fields of the setting.

        Args:
            config: ``method``, ``learning_rate``, the method's fields and fields of the setting.
        """
        setting = replace(self.setting, **setting_changes(config))
        method, fields = split_config(config)
        under = self._under(setting.same_memory())
        report = under.predict(method, fields)
        if not self.inference:
            return report
        return replace(report, inference=under.predict_inference(method, fields))

    def predict_as_run(self, config: Mapping[str, Any], *, cached: bool, target: str) -> MemoryReport:
        """Return the memory of a configuration as the search runs it; see ``TrainingSetting.as_run``.

        Args:
            config: See ``predict_configuration``.
            cached: Whether the output of frozen lower layers is cached.
            target: Kind of device on which the search runs it.
        """
        setting = replace(self.setting, **setting_changes(config), target=target).as_run(cached=cached)
        return self._under(setting.same_memory()).predict(*split_config(config))

    def predict_inference(self, method: str, config: Mapping[str, Any] | MethodConfig) -> int:
        """Return the bytes that a configuration's forward pass takes without gradient.

        All samples of a step are computed at once, in evaluation mode and from their inputs on. The bytes
        are the tensors' peak, or what a GPU's allocator holds for them.

        Args:
            method: Name of a registered method.
            config: The method's configuration, or the fields that differ from the defaults.

        Raises:
            UserError: If the method or the configuration is invalid for these encoders.
        """
        spec, config = _looked_up(method, config)
        return self.forward_bytes(spec.method, config, tuple(self.encoders))

    def forward_bytes(
        self, method: type[FusionMethod], config: MethodConfig, modalities: Sequence[str]
    ) -> int:
        """Return the same as ``predict_inference`` for a method that need not be registered.

        Args:
            method: The method's class.
            config: The method's configuration.
            modalities: The modalities whose encoders the method gets.
        """
        at = self._under(self.setting.of_inference())
        report = at.predict_forward(method, config, modalities)
        return report.memory - report.context

    def predict_forward(
        self, method: type[FusionMethod], config: MethodConfig, modalities: Sequence[str]
    ) -> MemoryReport:
        """Return the memory of a method's forward pass without gradient, over some of the encoders.

        It runs as many samples at once as each part of a step does.

        Args:
            method: The method's class, which need not be registered.
            config: The method's configuration.
            modalities: The modalities whose encoders the method gets.
        """
        names = [method.__module__, method.__qualname__, *modalities]
        key = json.dumps(["forward", *names, config.to_dict()], sort_keys=True)
        if key not in self._known:
            self._known[key] = self.remembered(key, lambda: self._forward(method, config, modalities))
        return self._known[key]

    def explain(self, method: str, config: Mapping[str, Any]) -> Breakdown:
        """Return the bytes held at the peak, by part of the model and kind; their sum is the memory.

        Parts are the layers and embeddings of each encoder, the method's own modules by name, the batch
        (``inputs``), ``fusion`` (activations between and after the encoders' layers), the ``backward pass``
        and the ``optimizer step``.
        """
        built, held, _ = self._held(method, _looked_up(method, config)[1])
        parts: Breakdown = defaultdict(lambda: dict.fromkeys(KINDS, 0))
        for (kind, part), size in held.items():
            parts[part or "fusion"][kind] += size
        order = [*dict.fromkeys(owner for owner, _ in owned_tensors(built)), *parts]
        return {part: parts[part] for part in dict.fromkeys(order) if part in parts}

    def prefix_layers(self, method: str, config: Mapping[str, Any]) -> dict[str, int]:
        """Return the number of layers in each encoder's frozen prefix for a configuration."""
        with self.faking():
            return build_method(method, config, self.context()).prefix_layers()

    def encoding_memory(self, target: str) -> int:
        """Return the bytes that must be free to fill the feature cache.

        They are the weights of all encoders plus the largest peak of one encoder that runs without gradient,
        and on a GPU the context.

        Args:
            target: Kind of device on which the cache is filled.
        """
        here = self.changed(target=target)
        with here.faking():
            weights = sum(p.nbytes for tower in here._encoders().values() for p in tower.parameters())
            rise = max(here.encoded(modality)[-1].stretch.rise for modality in here.encoders)
        return weights + rise + context_of(here.setting)

    @contextmanager
    def faking(self) -> Iterator[None]:
        """Make all new tensors fake ones, on which operators do what the target's do.

        The initialisation of weights is skipped, because fake weights have no content.
        """
        from transformers.initialization import no_init_weights

        with self._fake.active(), garbage_kept(), no_init_weights(), kernels_of(self.setting):
            yield

    def context(self) -> MethodContext:
        """Return the context from which methods are built; call it while ``faking``."""
        return self.setting.context(self._encoders(), self.task.output_size, self.task.query)

    def optimizer(self, method: FusionMethod) -> torch.optim.Optimizer:
        """Return a method's optimizer with its state; call it while ``faking``.

        The optimizer's step skips parameters that do not affect the peak.
        """
        optimizer = self.setting.make_optimizer(method, learning_rate=0.0)
        if self.setting.optimizer_kernel == "single":
            pairs = decisive_pairs(optimizer)
            make_state(optimizer, itertools.chain(*pairs))
            step_only(optimizer, pairs)
        else:
            make_state(optimizer)
        return optimizer

    def log(self) -> StorageLog:
        """Return an empty log, to be used while ``faking``."""
        return StorageLog(self._fake)

    def encoded(self, modality: str) -> list[Encoded]:
        """Return ``encoded_layers`` of a modality's encoder; call it while ``faking``."""
        if modality not in self._encoded:
            matrices = self.context().frozen_matrices
            tower = self._encoders()[modality].fork(matrices=matrices)
            self._encoded[modality] = encoded_layers(tower, self.setting)
        return self._encoded[modality]

    def remembered(self, key: str, run: Callable[[], MemoryReport]) -> MemoryReport:
        """Return a prediction from the store, or compute and store it.

        Args:
            key: Text that identifies the prediction together with the encoders, the task and the setting.
            run: Computes the prediction.
        """
        known = self.memo.get(self._content(key)) if self.memo else None
        if known is not None:
            return replace(MemoryReport(**known), context=context_of(self.setting))
        report = run()
        if self.memo:
            self.memo.put(self._content(key), asdict(report))
        return report

    def _under(self, setting: TrainingSetting) -> MemoryPredictor:
        """Return a predictor for the same encoders and a setting."""
        if setting not in self._others:
            self._others[setting] = replace(self, setting=setting, _known={}, _encoded={})
        return self._others[setting]

    def _content(self, key: str) -> str:
        """Return everything that a prediction depends on, except the program, as one text."""
        encoders = {
            m: [encoder.config.to_dict(), encoder.pooling, encoder.from_seed]
            for m, encoder in self.encoders.items()
        }
        task = [self.task.name, type(self.task).__module__, self.task.output_size, self.task.loss_kind]
        setting = replace(self.setting.same_memory(), context_bytes=0).to_dict()  # it is only added
        libraries = libraries_of(self.setting)  # a variable may set their size
        return json.dumps([encoders, task, setting, libraries, key], sort_keys=True, default=str)

    def _encoders(self) -> dict[str, Tower]:
        kernel = self.setting.attention
        if kernel not in self._towers:
            self._towers[kernel] = {
                modality: load_tower(encoder, attention=kernel, weights=False)
                for modality, encoder in self.encoders.items()
            }
        return self._towers[kernel]

    def _run(self, method: str, config: MethodConfig) -> MemoryReport:
        return report_on_target(*self._held(method, config), self.setting)

    def _held(self, method: str, config: MethodConfig) -> tuple[FusionMethod, Holdings, StorageLog]:
        """Run a step on fake tensors as the target would.

        Returns:
            The method; the bytes held at the peak; and the log of the step.
        """
        setting = self.setting
        with self.faking(), countable():
            built = build_method(method, config, self.context())
            built.train()
            optimizer = self.optimizer(built)
            log = self.log()
            inputs = self._inputs(built, setting.batch_size, log)
            labels = self.task.example_labels(setting.batch_size)
            held, _ = track_step(built, inputs, labels, setting, optimizer, self.task, log, most_parts=2)
            return built, held, log

    def _forward(
        self, method: type[FusionMethod], config: MethodConfig, modalities: Sequence[str]
    ) -> MemoryReport:
        setting = self.setting
        rows = setting.batch_size // setting.gradient_accumulation
        with self.faking(), countable():
            context = self.context()
            built = build(method, config, replace(context, towers={m: context.towers[m] for m in modalities}))
            log = self.log()
            held = track_forward(built, self._inputs(built, rows, log), setting, log)
            return report_on_target(built, held, log, setting, backward=False)

    def _inputs(self, built: FusionMethod, rows: int, log: StorageLog) -> dict[str, ModalityInput]:
        """Return a fake batch. The frozen layers of the method are not run, if their memory is known."""
        inputs: dict[str, ModalityInput] = {
            m: built.tower(m).example_inputs(rows, self.setting.sizes) for m in built.modalities
        }
        for modality, stop in built.prefix_layers().items():
            tower = built.tower(modality)
            if self.setting.prefix == "computed":
                tower.__dict__["encode"] = partial(encode_known, tower, self.encoded(modality), log)
            else:
                inputs[modality] = self.encoded(modality)[stop].cached(rows)
        return inputs | built.example_presence(rows)


def _looked_up(method: str, config: Mapping[str, Any] | MethodConfig) -> tuple[MethodSpec, MethodConfig]:
    """Return a registered method, and its configuration from the fields that differ from the defaults."""
    spec = get_method(method)
    return spec, config if isinstance(config, MethodConfig) else spec.config_class.from_dict(config)


@contextmanager
def countable() -> Iterator[None]:
    """Raise ``UserError`` if a tensor's bytes exceed what PyTorch can count."""
    try:
        yield
    except RuntimeError as error:
        if "overflow" not in str(error):
            raise
        raise UserError(
            "a step of these sizes needs more than 2^63 bytes; choose a smaller batch size or shorter inputs"
        ) from error
