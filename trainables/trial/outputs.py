"""A model's outputs for a split, in the compact form in which a search keeps them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

#: Most numbers that are kept of one trial and split: 4 MB.
MOST_NUMBERS = 2_000_000

#: What ``Task.kept`` returns for the kept rows, of shape (rows, K), in float16.
Outputs = NDArray[np.float16]


@dataclass(frozen=True)
class Evaluation:
    """The evaluation of a model on a split.

    Attributes:
        metrics: The task's metrics, by name, over all rows.
        outputs: What is kept of the outputs, see ``Task.kept``.
        task: ``Task.to_dict`` of the task that has scored them, tuned to the model's outputs on validation.
        robustness: The same metrics with each modality taken away from all rows, by modality; empty if they
            were not asked for.
    """

    metrics: dict[str, float]
    outputs: Outputs
    task: dict[str, Any]
    robustness: dict[str, dict[str, float]] = field(default_factory=dict)


def kept_rows(rows: int, size: int) -> NDArray[np.intp]:
    """Return which rows of a split are kept, in order: all, or a random sample if there are too many.

    The sample is the same for all trials, because luck is told by comparing them row by row.

    >>> kept_rows(4, 10)
    array([0, 1, 2, 3])
    >>> len(kept_rows(1_000_000, 100))
    20000

    Args:
        rows: Number of rows of the split.
        size: Number of kept numbers K for a row.
    """
    most = max(1, MOST_NUMBERS // size)
    if rows <= most:
        return np.arange(rows)
    return np.sort(np.random.default_rng(0).choice(rows, most, replace=False, shuffle=False))


def compact(outputs: Tensor) -> Outputs:
    """Return what ``Task.kept`` returns for all rows of a split, in order, as it is kept."""
    largest = float(np.finfo(np.float16).max)
    kept = outputs[kept_rows(len(outputs), outputs.shape[1])].float().clamp(-largest, largest)
    return np.asarray(kept.cpu().numpy(), dtype=np.float16)
