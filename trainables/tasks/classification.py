"""Task kinds: the loss to train with and the metrics to report."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from trainables.errors import unknown
from trainables.tasks.base import Metric


class Classification:
    """One class a sample; labels (B,) of class indices."""

    name = "classification"
    metrics = (
        Metric("accuracy", "maximize", 0.0, 1.0, "%", "accuracy after the last epoch"),
        Metric("macro_f1", "maximize", 0.0, 1.0, "%", "macro F1 after the last epoch"),
        Metric("loss", "minimize", None, 0.0, "", "cross entropy after the last epoch"),
    )

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Mean cross entropy of logits (B, C)."""
        return F.cross_entropy(logits.float(), labels)

    def score(self, logits: Tensor, labels: Tensor) -> dict[str, float]:
        """Return accuracy, macro F1 (mean over the classes that occur) and the mean loss."""
        n_classes = logits.shape[1]
        predicted = logits.argmax(dim=1)
        hit = predicted == labels
        support = torch.bincount(labels, minlength=n_classes)
        guessed = torch.bincount(predicted, minlength=n_classes)
        right = torch.bincount(labels[hit], minlength=n_classes)
        occurs = support + guessed > 0
        f1 = 2 * right[occurs] / (support + guessed)[occurs]
        return {
            "accuracy": hit.float().mean().item(),
            "macro_f1": f1.mean().item(),
            "loss": self.loss(logits, labels).item(),
        }


TASKS = {task.name: task for task in (Classification(),)}


def get_task(name: str) -> Classification:
    """Return a task kind.

    Raises:
        UserError: If there is none of that name.
    """
    if name not in TASKS:
        raise unknown("task", name, TASKS)
    return TASKS[name]
