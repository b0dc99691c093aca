"""Predicted memory is that of a real step, for every registered method and its options."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import pytest
import torch

from tests.conformance.methods import (
    CLASSES,
    MANY,
    MODALITIES,
    PAIRS,
    ROWS,
    each_case,
    each_default,
    make_batch,
    tiny_tower,
)
from tests.conftest import SIZES
from tests.tasks import classification
from trainables.memory import MemoryPredictor, measure_memory
from trainables.methods import METHODS, build_method
from trainables.step.setting import TrainingSetting
from trainables.towers import resolve_encoder

#: Settings under which a step is predicted and tracked, for every option of every method.
SETTINGS: list[dict[str, Any]] = [
    {},
    {"attention": "sdpa", "precision": "bf16", "optimizer": "sgd", "gradient_checkpointing": True},
]
#: More of them, for the defaults.
MORE_SETTINGS: list[dict[str, Any]] = [
    {"gradient_checkpointing": True},
    {"precision": "bf16"},
    {"precision": "bf16-frozen", "gradient_accumulation": 3},
    {"optimizer_kernel": "foreach", "prefix": "cached", "skip_unused": True},
    {"optimizer_kernel": "fused", "prefix": "offloaded", "encoder_dropout": False},
]


@each_case
@pytest.mark.parametrize("changes", SETTINGS, ids=str)
def test_predicted_memory_is_the_tracked_peak(tiny_encoders, name, config, changes) -> None:
    assert_predicted(tiny_encoders, name, config, dict(zip(MODALITIES, PAIRS[0], strict=True)), changes)


@pytest.mark.slow
@each_default
@pytest.mark.parametrize("changes", MORE_SETTINGS, ids=str)
def test_so_it_is_in_other_settings(tiny_encoders, name, config, changes) -> None:
    assert_predicted(tiny_encoders, name, config, dict(zip(MODALITIES, PAIRS[0], strict=True)), changes)


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("count", MANY)
def test_so_it_is_for_three_and_seven_modalities(tiny_encoders, name, count) -> None:
    most = METHODS[name].method.n_modalities[1]
    if most is None or most >= count:
        assert_predicted(tiny_encoders, name, {}, MANY[count], {})


@functools.cache
def predictor_of(folders: tuple[tuple[str, str], ...]) -> MemoryPredictor:
    return MemoryPredictor(
        {m: resolve_encoder(m, folder) for m, folder in folders}, classification(CLASSES), setting_of()
    )


def setting_of(**changes: Any) -> TrainingSetting:
    return TrainingSetting(batch_size=ROWS, **dataclasses.asdict(SIZES), **changes)


def assert_predicted(
    encoders: dict[str, Any], name: str, config: dict[str, Any], families: dict[str, str], changes: Any
) -> None:
    setting = setting_of(**changes)
    folders = tuple((m, str(encoders[family])) for m, family in families.items())
    predicted = predictor_of(folders).changed(**changes).predict(name, config)
    towers = {m: tiny_tower(m, family, setting.attention) for m, family in families.items()}
    torch.manual_seed(0)
    method = build_method(name, config, setting.context(towers, CLASSES))
    inputs, labels = make_batch({m: method.context.towers[m] for m in method.modalities})
    if setting.prefix != "computed":  # as a cache returns it
        for modality, sequence in method.eval().prefix(inputs).items():
            tokens = sequence.tokens.float().contiguous()
            inputs[modality] = dataclasses.replace(sequence, tokens=tokens)
    if setting.prefix == "offloaded":
        for module in method.prefix_modules():  # so that whatever a step needs of them is missing
            module.to("meta")
    real = measure_memory(method, inputs, labels, setting, classification(CLASSES))
    assert predicted == real  # to the byte, in every part
    assert predicted.total == sum(v for k, v in predicted.to_dict().items() if k != "total")
    assert predicted.trainable_parameters == method.trainable_parameter_count()
    if setting.precision == "bf16-frozen":
        assert all(
            p.dtype == (torch.bfloat16 if p.ndim > 1 and not p.requires_grad else torch.float32)
            for p in method.parameters()
        )
