"""What a user says about the task.

This module imports nothing slow, because the command line reads all fields before it does anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from trainables.options import AtLeast, AtMost, Help, MoreThan, OneOf, Settings

CLASS_WEIGHTS = ("none", "inverse")
THRESHOLDS = ("half", "tuned")
REGRESSION_LOSSES = ("l1", "l2", "huber")
RETRIEVAL_LOSSES = ("infonce", "margin")

#: Where a learnt temperature starts (Radford et al., ICML 2021, CLIP, Sec. 2.5).
FIRST_TEMPERATURE = 0.07


@dataclass(frozen=True, kw_only=True)
class TaskSettings(Settings):
    """The task, its loss, and how it is scored."""

    panel: ClassVar[str | None] = "Task"

    task: Annotated[
        str | None,
        Help(
            "What is learnt: classification, multilabel, regression, retrieval, or a task of your own.",
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
    tag_delimiter: Annotated[
        str | None,
        Help(
            "What stands between two tags of a label that is a text, such as '|'. Only for multilabel.",
            metavar="TEXT",
            default="what the dataset says; without it, a text is one class",
        ),
    ] = None
    regression_loss: Annotated[
        str,
        Help(
            "Loss of a regression, in standard deviations of the training rows' labels: the absolute error, "
            "the squared error, or Huber's, which is squared up to one standard deviation."
        ),
        OneOf(REGRESSION_LOSSES),
    ] = "l1"
    query: Annotated[
        str | None,
        Help(
            "With --task retrieval, the modality that searches. The others are fused into what is found.",
            metavar="MODALITY",
            default="what the dataset says",
        ),
    ] = None
    embedding_size: Annotated[
        int,
        Help("Length of the vectors that are compared. Only for retrieval.", metavar="N"),
        AtLeast(1),
        AtMost(65_536),
    ] = 256
    retrieval_loss: Annotated[
        str,
        Help(
            "Loss of a retrieval: infonce, the cross entropy of similarities in both directions, or margin, "
            "by how much right pairs fail to be more similar by --margin than wrong ones. Wrong pairs are "
            "those within a batch, or with --gradient-accumulation or --workers within a part of it."
        ),
        OneOf(RETRIEVAL_LOSSES),
    ] = "infonce"
    temperature: Annotated[
        float | None,
        Help(
            "What infonce divides similarities by.",
            metavar="NUMBER",
            default=f"learnt, from {FIRST_TEMPERATURE}",
        ),
        MoreThan(0),
        AtMost(100),
    ] = None
    margin: Annotated[
        float,
        Help("With --retrieval-loss margin, the margin between cosines.", metavar="NUMBER"),
        MoreThan(0),
        AtMost(2),
    ] = 0.05
