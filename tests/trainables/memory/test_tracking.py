"""What is logged of a forward pass without gradient."""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack

import torch
from torch import nn

from trainables.memory.storage_log import StorageLog
from trainables.memory.tracking import inferring, track_inference
from trainables.step.setting import TrainingSetting

SETTING = TrainingSetting(precision="bf16", target="cpu")
CPU = torch.device("cpu")


def peak(*contexts: AbstractContextManager[object]) -> int:
    """Return the peak of a pass through four trained layers, of which each takes more than the batch."""
    net = nn.Sequential(*(nn.Linear(64, 64) for _ in range(4)))
    tokens = torch.zeros(2, 64)

    def forward() -> None:
        with ExitStack() as stack:
            for context in contexts:
                stack.enter_context(context)
            net(tokens)

    weights = [(None, parameter) for parameter in net.parameters()]
    return sum(track_inference(weights, [tokens], forward, StorageLog()).values())


def test_it_is_that_of_inference_mode_in_which_no_copies_of_weights_are_kept() -> None:
    inferred = peak(torch.inference_mode(), SETTING.autocast(CPU))
    assert peak(inferring(SETTING, CPU)) == inferred
    assert peak(torch.no_grad(), SETTING.autocast(CPU)) > inferred + 3 * 2 * 64 * 64
