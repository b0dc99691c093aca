"""The settings of an optimization step, and the step itself, for training and for memory prediction.

The functions need torch, so they are imported on first use. The settings are imported at once, because the
command line reads them at every start.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trainables.step.recipe import Recipe
from trainables.step.setting import StepSettings, TrainingSetting

if TYPE_CHECKING:
    from trainables.step.training import forward_loss, training_step

__all__ = ["Recipe", "StepSettings", "TrainingSetting", "forward_loss", "training_step"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'trainables.step' has no attribute '{name}'")
    from trainables.step import training

    return getattr(training, name)
