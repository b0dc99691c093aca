"""Training supernets: with which memory, and on how many workers."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import _disable_current_modes

from tests.conformance.methods import CLASSES, MODALITIES, PAIRS, make_batch, tiny_towers
from tests.conformance.test_elastic import ELASTIC, largest, legal
from tests.conformance.test_memory import predictor_of, setting_of
from tests.tasks import classification
from trainables.data import Batch
from trainables.elastic import Supernet
from trainables.memory.optimizer import make_state
from trainables.memory.report import report_of
from trainables.step.setting import TrainingSetting
from trainables.supernet.prediction import predict_supernet, track_supernet_step
from trainables.supernet.step import Curriculum
from trainables.towers import Sequence


def curriculum_of(name: str, paths: str = "sandwich", *, distill: bool = False) -> Curriculum:
    top = largest(name)

    def draw(rng: random.Random) -> dict[str, Any]:
        return {**top, **{option: rng.choice(legal(name, option)) for option in top}}

    return Curriculum(paths, distill, top, {o: legal(name, o)[0] or 1 for o in top}, draw)


def supernet_of(name: str, setting: TrainingSetting, pair: tuple[str, str] = PAIRS[0]) -> Supernet:
    torch.manual_seed(0)
    return Supernet(setting.context(tiny_towers(pair, setting.attention), CLASSES), name, largest(name))


def fresh(tensor: torch.Tensor, rows: slice) -> torch.Tensor:
    """A copy that the log of a step sees, of a tensor that it does not."""
    with _disable_current_modes():
        part = tensor[rows].clone()
    return part.clone()


@pytest.mark.slow
@pytest.mark.parametrize("name", ELASTIC)
@pytest.mark.parametrize(
    ("paths", "changes"),
    [
        ("sandwich", {"gradient_accumulation": 3, "precision": "bf16", "attention": "sdpa"}),
        ("distill", {"prefix": "cached", "skip_unused": True, "gradient_checkpointing": True}),
    ],
    ids=str,
)
def test_predicted_memory_is_the_tracked_peak(tiny_encoders, name, paths, changes) -> None:
    setting = setting_of(**changes)
    curriculum = curriculum_of(
        name, "uniform" if paths == "uniform" else "sandwich", distill=paths == "distill"
    )
    folders = tuple((m, str(tiny_encoders[f])) for m, f in zip(MODALITIES, PAIRS[0], strict=True))
    predicted = predict_supernet(predictor_of(folders).changed(**changes), name, curriculum)
    supernet = supernet_of(name, setting).train()
    inputs, labels = make_batch()
    optimizer = setting.make_optimizer(supernet.largest.trainable_parameters(), 0.0)
    make_state(optimizer)
    stored = {}
    for config in (curriculum.largest, curriculum.smallest):
        model = supernet.shell(config)
        given = model.eval().prefix(inputs) if setting.prefix == "cached" else {}
        stored[str(config)] = {m: {**inputs, **given}[m] for m in model.modalities}

    def load(config: Any, rows: slice) -> Batch:
        """Tensors that are new, as those from a memory map."""
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
        classification(CLASSES),
        distill=curriculum.distill,
    )
    assert predicted == report_of(supernet.largest, held)
