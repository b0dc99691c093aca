"""One optimisation step, in the two halves that memory prediction and training share."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from trainables.methods import FusionMethod
from trainables.setting import TrainingSetting
from trainables.tasks import Classification
from trainables.towers import ModalityInput


def forward_loss(
    method: FusionMethod,
    inputs: Mapping[str, ModalityInput],
    labels: Tensor,
    task: Classification,
    setting: TrainingSetting,
) -> Tensor:
    """Return the loss of a batch, ready for backward."""
    with setting.autocast(labels.device):
        output = method(inputs)
    loss = task.loss(output.logits, labels)
    return loss if output.aux_loss is None else loss + output.aux_loss


def update(loss: Tensor, optimizer: torch.optim.Optimizer) -> None:
    """Backward and optimiser step; gradients are freed afterwards."""
    loss.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
