"""Settings of a trial's training that change no step's memory: rates, the start of the head, what is kept."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar

from trainables.errors import UserError
from trainables.options import AtLeast, AtMost, Help, MoreThan, OneOf, OnlyWith, Settings

#: Heading in ``--help`` of the options that say how a trial learns.
TRAINING = "Training"
#: How the learning rate falls: along a half cosine or a line to 0, in steps, or not at all.
SCHEDULES = ("cosine", "linear", "step", "exponential", "constant")
#: Default factors by which the rate falls in steps.
GAMMA = {"step": 0.1, "exponential": 0.95}
#: Where the weights of a head come from.
HEAD_STARTS = ("random", "probe")
#: The weights that a trial's results and checkpoint are of.
KEPT = ("last", "average", "best")


@dataclass(frozen=True, kw_only=True)
class Recipe(Settings):
    """How a trial's steps follow each other. Every field may be part of a configuration, too."""

    panel: ClassVar[str | None] = TRAINING

    schedule: Annotated[
        str,
        Help(
            "How the learning rate falls. cosine and linear take it along a half cosine or a straight line "
            "to 0 at the end of all epochs. step multiplies it by --gamma after the epochs in --milestones, "
            "and exponential after every --decay-epochs epochs. constant leaves it."
        ),
        OneOf(SCHEDULES),
    ] = "cosine"
    milestones: Annotated[
        str | None,
        Help(
            "The epochs after which the learning rate falls, for example 3,6.",
            metavar="EPOCH[,EPOCH]",
            default="half and three quarters of the epochs",
        ),
        OnlyWith("schedule", ("step",)),
    ] = None
    decay_epochs: Annotated[
        int,
        Help("Number of epochs after each of which the rate falls.", metavar="N"),
        AtLeast(1),
        OnlyWith("schedule", ("exponential",)),
    ] = 1
    gamma: Annotated[
        float | None,
        Help(
            "What the learning rate is multiplied by when it falls in steps.",
            metavar="FACTOR",
            default=" or ".join(f"{factor} with --schedule {name}" for name, factor in GAMMA.items()),
        ),
        MoreThan(0),
        AtMost(1),
        OnlyWith("schedule", tuple(GAMMA)),
    ] = None
    warm_up: Annotated[
        float,
        Help(
            "Share of all steps, the first ones, over which the learning rate rises to what the schedule "
            "says. A supernet has at least 0.2.",
            metavar="SHARE",
        ),
        AtLeast(0),
        AtMost(1),
    ] = 0.1
    head_learning_rate: Annotated[
        float,
        Help("Learning rate of the head, as a multiple of the configuration's.", metavar="FACTOR"),
        MoreThan(0),
        AtMost(1e6),
    ] = 1
    head_start: Annotated[
        str,
        Help(
            "Where the weights of a new trial's head come from. probe takes those of the linear model that "
            "fits best what the untrained method hands to its head; all of it trains from there. A "
            "supernet's head starts so for the space's first point. A trial that inherits weights keeps them."
        ),
        OneOf(HEAD_STARTS),
    ] = "probe"
    keep: Annotated[
        str,
        Help(
            "The weights that a trial's results and checkpoint are of: those of the last epoch, the average "
            "over the ends of the last half of the epochs, or those of the epoch that is best on the "
            "validation split by the task's first metric. The validation results of best flatter."
        ),
        OneOf(KEPT),
    ] = "best"

    modality_dropout: Annotated[
        float,
        Help(
            "Probability with which a sample loses a modality in training, as if its value were missing. No "
            "sample loses all.",
            metavar="P",
        ),
        AtLeast(0),
        AtMost(1),
    ] = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        _epochs(self.milestones)

    def share(self, step: int, steps: int, epochs: int) -> float:
        """Return the share of the learning rate with which a step is taken.

        The share rises linearly over the first ``warm_up`` of the steps.

        Args:
            step: Number of the step, from 0.
            steps: Number of all planned steps.
            epochs: Number of all planned epochs.

        >>> [round(Recipe(schedule="linear", warm_up=0.5).share(step, 4, 2), 2) for step in range(4)]
        [0.33, 0.5, 0.5, 0.25]
        >>> falling = Recipe(schedule="step", milestones="1,3", gamma=0.5, warm_up=0)
        >>> [falling.share(step, 8, 4) for step in range(8)]
        [1.0, 1.0, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25]
        """
        rising = min((step + 1) / (round(self.warm_up * steps) + 1), 1)
        return rising * self._falling(min(step / steps, 1), step * epochs // steps, epochs)

    def _falling(self, done: float, epoch: int, epochs: int) -> float:
        """Return the schedule's share without the warm-up.

        Args:
            done: Share of the steps that were taken.
            epoch: Number of finished epochs.
            epochs: Number of all planned epochs.
        """
        if self.schedule == "cosine":
            return 0.5 * (1 + math.cos(math.pi * done))
        if self.schedule == "linear":
            return 1 - done
        if self.schedule == "constant":
            return 1.0
        gamma = GAMMA[self.schedule] if self.gamma is None else self.gamma
        if self.schedule == "exponential":
            return gamma ** (epoch // self.decay_epochs)
        milestones = _epochs(self.milestones) or (epochs / 2, 3 * epochs / 4)
        return gamma ** sum(epoch >= milestone for milestone in milestones)


def _epochs(text: str | None) -> tuple[int, ...]:
    """Return the numbers of epochs in a text such as ``3,6``.

    Raises:
        UserError: If the text is not of that form.
    """
    parts = text.split(",") if text else []
    if not all(part.strip().isdecimal() and int(part) for part in parts):
        raise UserError(f"--milestones {text}: write numbers of epochs from 1 on, e.g. 3,6")
    return tuple(map(int, parts))
