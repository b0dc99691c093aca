"""What a user says about the task.

This module imports nothing slow, because the command line reads all fields before it does anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from trainables.options import Help, OneOf, Settings

CLASS_WEIGHTS = ("none", "inverse")
THRESHOLDS = ("half", "tuned")
REGRESSION_LOSSES = ("l1", "l2", "huber")


@dataclass(frozen=True, kw_only=True)
class TaskSettings(Settings):
    """The task, its loss, and how it is scored."""

    panel: ClassVar[str | None] = "Task"

    task: Annotated[
        str | None,
        Help(
            "What is learnt: classification, multilabel, regression, or a task of your own.",
            metavar="NAME",
            default="what the dataset says, else by the type of its labels",
        ),
    ] = None
    class_weights: Annotated[
        str,
        Help(
            "How much a sample counts in the loss. inverse weighs classes by the inverse of their number of "
            "training rows, and in multilabel tasks the rows that have a tag. Only for classification and "
            "multilabel."
        ),
        OneOf(CLASS_WEIGHTS),
    ] = "none"
    thresholds: Annotated[
        str,
        Help(
            "Probability from which on a tag is predicted. half is 0.5 for all tags; tuned is for each tag "
            "what gives its best F1 on the validation split, whose results then flatter. Only for multilabel."
        ),
        OneOf(THRESHOLDS),
    ] = "half"
    regression_loss: Annotated[
        str,
        Help(
            "Loss of a regression, in standard deviations of the training rows' labels: the absolute error, "
            "the squared error, or Huber's, which is squared up to one standard deviation."
        ),
        OneOf(REGRESSION_LOSSES),
    ] = "l1"
