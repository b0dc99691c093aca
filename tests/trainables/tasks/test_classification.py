from __future__ import annotations

import math

import pytest
import torch

from trainables.errors import UserError
from trainables.tasks.classification import get_task


def test_metrics_by_hand() -> None:
    labels = torch.tensor([0, 0, 1, 2])
    logits = torch.eye(4)[torch.tensor([0, 1, 1, 2])] * 10  # one class-0 sample taken for class 1
    scores = get_task("classification").score(logits, labels)
    assert scores["accuracy"] == pytest.approx(0.75)
    # F1 of classes 0, 1, 2: 2/3, 2/3, 1; class 3 neither occurs nor is guessed
    assert scores["macro_f1"] == pytest.approx((2 / 3 + 2 / 3 + 1) / 3)
    assert scores["loss"] > 0


def test_loss_of_guessing_is_the_log_of_the_classes() -> None:
    task = get_task("classification")
    assert task.loss(torch.zeros(3, 7), torch.tensor([1, 2, 3])).item() == pytest.approx(math.log(7))


def test_unknown_task() -> None:
    with pytest.raises(UserError, match="unknown task 'parsing'; known: classification"):
        get_task("parsing")
