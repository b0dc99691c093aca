"""Checks that the predicted memory of a method equals the memory of a real step."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

import torch

from trainables.memory import MemoryPredictor, measure_memory
from trainables.memory.storage_log import KINDS
from trainables.memory.tracking import track_forward
from trainables.methods import FusionMethod, build_method
from trainables.step.setting import TrainingSetting
from trainables.tasks import TASKS, Task, get_task
from trainables.testing.cases import (
    CLASSES,
    FUSED,
    PAIRS,
    ROWS,
    beside_random,
    default_cases,
    make_batch,
    option_cases,
    refusal_of,
    task,
)
from trainables.testing.checks import Check
from trainables.testing.tiny import MODALITIES, SIZES, encoder_name, saved_encoders, tiny_tower
from trainables.towers import resolve_encoders

#: Settings in which memory is checked for every option of every method.
SETTINGS: list[dict[str, Any]] = [
    {},
    {
        "attention": "sdpa",
        "precision": "bf16",
        "optimizer": "sgd",
        "gradient_checkpointing": True,
        "clip_norm": 1.0,
    },
]
#: Further settings, in which only the default cases are checked.
MORE_SETTINGS: list[dict[str, Any]] = [
    {"gradient_checkpointing": True, "optimizer": "sgd", "weight_decay": 0.0},
    {"precision": "bf16", "label_smoothing": 0.1, "optimizer": "adam"},
    {
        "precision": "bf16-frozen",
        "gradient_accumulation": 3,
        "weight_decay": 0.0,
        "modality_learning_rates": "text=0.5",
    },
    {"optimizer_kernel": "foreach", "prefix": "cached", "skip_unused": True, "clip_norm": 1.0},
    {"optimizer_kernel": "fused", "prefix": "offloaded", "encoder_dropout": False, "clip_norm": 0.1},
]

#: The encoder families of most checks, by modality.
TWO = dict(zip(MODALITIES, PAIRS[0], strict=True))


def memory_checks(name: str) -> Iterator[Check]:
    """Yield the checks of a method's predicted memory.

    Args:
        name: Name of a registered method.
    """
    cases = [(config, False) for config in default_cases(name)]
    cases += [(config, True) for config in option_cases(name)]
    for config, slow in cases:
        for changes in SETTINGS:
            yield _predicted(name, config, TWO, changes, slow=slow)
    for config in default_cases(name):
        for changes in MORE_SETTINGS:
            yield _predicted(name, config, TWO, changes, slow=True)
    for changes, slow in ({}, False), (MORE_SETTINGS[-2], True):
        yield Check(check_predicted_memory_is_the_tracked_peak, (name, {}, TWO, changes, "mean"), slow)
    for changes, slow in ({}, False), (SETTINGS[1], True), *((more, True) for more in MORE_SETTINGS[2:]):
        yield Check(check_predicted_inference_is_the_tracked_peak, (name, TWO, changes), slow)
    for changes in {}, MORE_SETTINGS[-1]:
        yield Check(check_an_allocator_reserves_what_tensors_take, (name, TWO, changes))
    for modality, changes in (("image", {}), ("text", MORE_SETTINGS[-2])):
        if families := beside_random(name, modality):
            yield _predicted(name, {}, families, changes, slow=modality == "text")
    for families in FUSED.values():
        if refusal_of(name, families) is None:
            yield _predicted(name, {}, families, {}, slow=True)
    for other in (get_task(other).of_size(CLASSES) for other in TASKS):
        if other.name != task().name and other.query is None:
            yield Check(check_predicted_memory_holds_for_a_task, (name, other))


def _predicted(name: str, config: Any, families: Any, changes: Any, *, slow: bool) -> Check:
    return Check(check_predicted_memory_is_the_tracked_peak, (name, config, families, changes), slow)


@functools.cache
def predictor_of(families: tuple[tuple[str, str], ...], pooling: str | None = None) -> MemoryPredictor:
    """Return a predictor for small encoders in the default setting, with a pooling of the text."""
    names = {modality: encoder_name(saved_encoders(), family) for modality, family in families}
    sources = resolve_encoders(names, {"text": pooling} if pooling else {})
    return MemoryPredictor(sources, task(), setting_of())


def setting_of(**changes: Any) -> TrainingSetting:
    """Return the setting for small inputs on a CPU, with changed fields."""
    return TrainingSetting(batch_size=ROWS, target="cpu", **dataclasses.asdict(SIZES), **changes)


def check_predicted_memory_is_the_tracked_peak(
    name: str,
    config: dict[str, Any],
    families: dict[str, str],
    changes: dict[str, Any],
    pooling: str | None = None,
) -> None:
    """Check that predicted memory equals that of a real step, to the byte and in every part.

    Args:
        name: Name of a method.
        config: The method's configuration.
        families: The encoder family of each modality.
        changes: Fields of the training setting that differ from the default.
        pooling: How the text is read; None takes the encoder's own.
    """
    setting = setting_of(**changes)
    predicted = predictor_of(tuple(families.items()), pooling).changed(**changes).predict(name, config)
    towers = {m: tiny_tower(m, family, setting.attention) for m, family in families.items()}
    if pooling:
        towers["text"] = tiny_tower("text", families["text"], setting.attention, pooling)
    torch.manual_seed(0)
    method = build_method(name, config, setting.context(towers, CLASSES))
    inputs, labels = _batch(method)
    if setting.prefix != "computed":  # use the output that a cache returns
        for modality, sequence in method.eval().prefix(inputs).items():
            tokens = sequence.tokens.float().contiguous()
            inputs[modality] = dataclasses.replace(sequence, tokens=tokens)
    if setting.prefix == "offloaded":
        for module in method.prefix_modules():  # a step that uses them fails
            module.to("meta")
    real = measure_memory(method, inputs, labels, setting, task())
    assert predicted == real  # to the byte and in every part
    assert predicted.total == sum(getattr(predicted, kind) for kind in KINDS)
    assert predicted.trainable_parameters == method.trainable_parameter_count()
    if setting.precision == "bf16-frozen":
        assert all(
            p.dtype == (torch.bfloat16 if p.ndim > 1 and not p.requires_grad else torch.float32)
            for p in method.parameters()
        )


def check_predicted_memory_holds_for_a_task(name: str, learnt: Task, smoothing: float = 0.0) -> None:
    """Check that predicted memory equals that of a real step if another task without a query is learnt.

    Args:
        name: Name of a method.
        learnt: The task.
        smoothing: The setting's ``label_smoothing``.
    """
    predictor = dataclasses.replace(predictor_of(tuple(TWO.items())), task=learnt, _known={}, _others={})
    predictor = predictor.changed(label_smoothing=smoothing)
    setting = predictor.setting
    towers = {modality: tiny_tower(modality, family) for modality, family in TWO.items()}
    method = build_method(name, {}, setting.context(towers, learnt.output_size))
    inputs, _ = _batch(method)
    real = measure_memory(method, inputs, learnt.example_labels(ROWS), setting, learnt)
    assert predictor.predict(name, {}) == real


def check_predicted_inference_is_the_tracked_peak(
    name: str, families: dict[str, str], changes: dict[str, Any]
) -> None:
    """Check that predicted inference memory equals that of a real forward pass, to the byte.

    Neither gradient accumulation nor a cache makes it less.

    Args:
        name: Name of a method.
        families: The encoder family of each modality.
        changes: Fields of the training setting that differ from the default.
    """
    predictor = predictor_of(tuple(families.items())).changed(**changes)
    setting = predictor.setting.of_inference()
    towers = {m: tiny_tower(m, family, setting.attention) for m, family in families.items()}
    method = build_method(name, {}, setting.context(towers, CLASSES))
    real = track_forward(method, _batch(method)[0], setting)
    assert predictor.predict_inference(name, {}) == sum(real.values())


def check_an_allocator_reserves_what_tensors_take(
    name: str, families: dict[str, str], changes: dict[str, Any]
) -> None:
    """Check that a GPU's allocator reserves at least the peak of the tensors.

    Args:
        name: Name of a method.
        families: The encoder family of each modality.
        changes: Fields of the training setting that differ from the default.
    """
    on_gpu = predictor_of(tuple(families.items())).changed(target="cuda", **changes).predict(name, {})
    assert on_gpu.reserved is not None
    assert on_gpu.total <= on_gpu.reserved < on_gpu.memory


def _batch(method: FusionMethod) -> tuple[dict[str, Any], torch.Tensor]:
    """Return what a loader gives a method, and labels."""
    inputs, labels = make_batch({m: method.context.towers[m] for m in method.modalities})
    return {**inputs, **method.example_presence(ROWS)}, labels
