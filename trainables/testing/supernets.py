"""Checks that the predicted memory of training a supernet equals that of a real step."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils._python_dispatch import _disable_current_modes

from trainables.data import Batch
from trainables.elastic import Supernet
from trainables.memory.optimizer import make_state
from trainables.memory.report import report_of
from trainables.methods import METHODS
from trainables.step.setting import TrainingSetting
from trainables.supernet.prediction import predict_supernet, track_supernet_step
from trainables.supernet.step import Curriculum
from trainables.testing.cases import CLASSES, PAIRS, beside_random, make_batch, task
from trainables.testing.checks import Check
from trainables.testing.elastic import largest, legal
from trainables.testing.memory import predictor_of, setting_of
from trainables.testing.tiny import MODALITIES, RANDOM, tiny_towers
from trainables.towers import Sequence

#: Checked steps: whether smaller subnets learn from the largest one, and changed fields of the setting.
_STEPS: list[tuple[bool, dict[str, Any]]] = [
    (False, {"gradient_accumulation": 3, "precision": "bf16", "attention": "sdpa", "label_smoothing": 0.1}),
    (True, {"prefix": "cached", "skip_unused": True, "gradient_checkpointing": True, "clip_norm": 0.5}),
]


def supernet_checks(name: str) -> Iterator[Check]:
    """Yield the checks of a supernet's predicted memory; none if the method has no elastic options.

    Args:
        name: Name of a registered method.
    """
    if METHODS[name].method.elastic:
        for distill, changes in _STEPS:
            yield Check(check_predicted_memory_of_a_supernet, (name, distill, changes), slow=True)
        if beside_random(name, "image"):  # it trains with the supernet
            yield Check(check_predicted_memory_of_a_supernet, (name, *_STEPS[1], RANDOM), slow=True)


def curriculum_of(name: str, *, distill: bool = False) -> Curriculum:
    """Return a ``sandwich`` curriculum over all elastic options."""
    top = largest(name)

    def draw(rng: random.Random) -> dict[str, Any]:
        return {**top, **{option: rng.choice(legal(name, option)) for option in top}}

    return Curriculum("sandwich", distill, top, {o: legal(name, o)[0] or 1 for o in top}, draw)


def supernet_of(name: str, setting: TrainingSetting, pair: tuple[str, str] = PAIRS[0]) -> Supernet:
    """Return a supernet over tiny towers."""
    torch.manual_seed(0)
    return Supernet(setting.context(tiny_towers(pair, setting.attention), CLASSES), name, largest(name))


def fresh(tensor: torch.Tensor, rows: slice) -> torch.Tensor:
    """Return a copy of some rows that a step's log records, although it does not record the original."""
    with _disable_current_modes():
        part = tensor[rows].clone()
    return part.clone()


def check_predicted_memory_of_a_supernet(
    name: str, distill: bool, changes: dict[str, Any], image: str = PAIRS[0][1]
) -> None:
    """Check that the predicted memory of a step equals the tracked peak, to the byte and in every part.

    Args:
        name: Name of a method.
        distill: Whether smaller subnets learn from the largest one.
        changes: Fields of the training setting that differ from the default.
        image: The encoder family of the images.
    """
    setting = setting_of(**changes)
    curriculum = curriculum_of(name, distill=distill)
    pair = (PAIRS[0][0], image)
    families = tuple(zip(MODALITIES, pair, strict=True))
    predicted = predict_supernet(predictor_of(families).changed(**changes), name, curriculum)
    supernet = supernet_of(name, setting, pair).train()
    inputs, labels = make_batch(tiny_towers(pair))
    optimizer = setting.make_optimizer(supernet.largest, 0.0)
    make_state(optimizer)
    stored: dict[str, dict[str, Any]] = {}
    for config in (curriculum.largest, curriculum.smallest):
        model = supernet.shell(config)
        given = model.eval().prefix(inputs) if setting.prefix == "cached" else {}
        stored[str(config)] = {m: {**inputs, **given}[m] for m in model.modalities}

    def load(config: Any, rows: slice) -> Batch:
        """Return new tensors, as a memory-mapped dataset does."""
        some: dict[str, Any] = {}
        for modality, tensors in stored[str(config)].items():
            if isinstance(tensors, Sequence):
                mask = None if tensors.mask is None else fresh(tensors.mask, rows)
                some[modality] = Sequence(fresh(tensors.tokens.float(), rows), mask, tensors.layer)
            else:
                some[modality] = {name: fresh(tensor, rows) for name, tensor in tensors.items()}
        return Batch(some, fresh(labels, rows))

    held, _ = track_supernet_step(
        supernet,
        curriculum.heaviest,
        load,
        setting,
        optimizer,
        task(),
        distill=curriculum.distill,
    )
    assert predicted == report_of(supernet.largest, held)
