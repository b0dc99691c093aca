"""The memory of single classifiers, of which only the configuration is known."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForImageClassification, AutoModelForSequenceClassification

from trainables.errors import UserError
from trainables.memory import estimate
from trainables.memory.classifiers import Classifier
from trainables.step.setting import TrainingSetting

IDS = torch.zeros(4, 8, dtype=torch.long)
SETTING = TrainingSetting(batch_size=4, text_length=8, image_size=32, target="cpu")
CASES = {
    "bert": (AutoModelForSequenceClassification, {"input_ids": IDS, "attention_mask": IDS.clone()}),
    "gpt2": (AutoModelForSequenceClassification, {"input_ids": IDS, "attention_mask": IDS.clone()}),
    "vit": (AutoModelForImageClassification, {"pixel_values": torch.rand(4, 3, 32, 32)}),
}


@pytest.mark.parametrize("family", CASES)
def test_it_is_that_of_the_model(tiny_encoders, family) -> None:
    kind, inputs = CASES[family]
    folder = tiny_encoders[family]
    config = AutoConfig.from_pretrained(folder, num_labels=5, pad_token_id=0, image_size=32)
    expected = estimate(
        lambda: kind.from_config(config, attn_implementation="eager"),
        {**inputs, "labels": IDS[:, 0]},
        None,
        partial(torch.optim.AdamW, lr=1e-3),
        target="cpu",
        precision="fp32",
    )
    assert Classifier.resolve(str(folder), 5).memory(SETTING) == expected


def test_settings_move_it(tiny_encoders) -> None:
    def total(**changes: Any) -> int:
        setting = TrainingSetting(**{**{"batch_size": 64, "text_length": 8, "target": "cpu"}, **changes})
        return Classifier.resolve(str(tiny_encoders["bert"]), 5).memory(setting).total

    plain = total()
    for smaller in (
        {"batch_size": 32},
        {"text_length": 4},
        {"gradient_accumulation": 2},
        {"gradient_checkpointing": True},
        {"optimizer": "sgd"},
    ):
        assert total(**smaller) < plain, smaller
    assert total(optimizer_kernel="foreach", batch_size=1) > total(batch_size=1)


def test_texts_are_as_long_as_there_are_positions(tiny_encoders) -> None:
    for family in ("bert", "roberta"):
        classifier = Classifier.resolve(str(tiny_encoders[family]), 5)
        most = classifier.config.max_position_embeddings - (2 if family == "roberta" else 0)
        assert classifier.memory(TrainingSetting(batch_size=1, text_length=most)).total > 0
        with pytest.raises(UserError, match=f"--text-length {most + 1}: .* takes at most {most} tokens"):
            classifier.memory(TrainingSetting(batch_size=1, text_length=most + 1))


def test_what_cannot_be_run_is_one_line() -> None:
    with pytest.raises(UserError, match="no classifier of texts or images of the family 'whisper'"):
        Classifier.resolve("arch:whisper-tiny", 5)
    with pytest.raises(UserError, match=r"model 'arch:vit-base': cannot be run \(.*Kernel size"):
        Classifier.resolve("arch:vit-base", 5).memory(TrainingSetting(image_size=8))
