"""Frozen layers that a prediction does not run leave the same log as if they had run."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from trainables.memory.encoded import encode_known
from trainables.memory.replay import StepAllocations
from trainables.memory.storage_log import StorageLog
from trainables.testing.memory import predictor_of
from trainables.testing.tiny import MODALITIES
from trainables.towers import Tower


def sequence_of(step: StepAllocations) -> list[tuple[int, int]]:
    """Return the events of a step, with storages numbered in the order in which they are named."""
    names: dict[int, int] = {}
    return [(names.setdefault(storage, len(names)), size) for storage, size in step.events if size]


@pytest.mark.parametrize("precision", ["fp32", "bf16-frozen"])
@pytest.mark.parametrize("modality", MODALITIES)
@pytest.mark.parametrize("pair", [("bert", "vit"), ("gpt2", "swin"), ("features", "dinov2")])
def test_the_log_is_that_of_the_layers(modality, pair, precision) -> None:
    families = tuple(zip(MODALITIES, pair, strict=True))
    predictor = predictor_of(families).changed(precision=precision)
    setting = predictor.setting

    def log_of(tower: Tower, known: bool, stop: int) -> StepAllocations:
        inputs = tower.example_inputs(setting.batch_size, setting.sizes)
        with torch.no_grad(), setting.autocast(torch.device("cpu")), StorageLog() as log:
            log.note("weights", [*tower.parameters(), *tower.buffers()])
            log.note("activations", inputs.values())
            log.begin()
            encode = partial(encode_known, tower, predictor.encoded(modality), log) if known else tower.encode
            sequence = encode(inputs, stop)
            kept = sequence.tokens + 1  # the layers' tokens are used, and freed after that
            del sequence
            del kept
        return log.allocations()

    with predictor.faking():
        context = predictor.context()
        tower = context.towers[modality].fork(matrices=context.frozen_matrices)
        predictor.encoded(modality)
        for stop in range(1, tower.depth + 1):
            known, run = (log_of(tower, known, stop) for known in (True, False))
            assert sequence_of(known) == sequence_of(run)
            assert sum(size for _, size in known.events) == 0
