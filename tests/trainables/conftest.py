"""A small search's common part, for trials without Ray."""

from __future__ import annotations

import pytest

from trainables.data import open_dataset, prepare
from trainables.setting import TrainingSetting
from trainables.towers import resolve_encoder
from trainables.workbench import TrialSpec


@pytest.fixture
def trial_spec(workplace, tiny_encoders, squares) -> TrialSpec:
    names = {"text": str(tiny_encoders["bert"]), "image": str(tiny_encoders["vit"])}
    encoders = {modality: resolve_encoder(modality, name) for modality, name in names.items()}
    data = prepare(open_dataset(str(squares)), encoders, text_length=8, image_size=32)
    return TrialSpec(
        dataset=str(squares),
        prepared=data.key,
        encoders=names,
        fingerprints={modality: encoder.fingerprint() for modality, encoder in encoders.items()},
        setting=TrainingSetting(batch_size=8, text_length=8, image_size=32),
        epochs=4,
    )
