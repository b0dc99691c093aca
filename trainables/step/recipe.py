"""Settings of a trial's training that change no step's memory: rates, the start of the head, what is kept."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar

from trainables.options import AtLeast, AtMost, Help, MoreThan, OneOf, Settings

#: Heading in ``--help`` of the options that say how a trial learns.
TRAINING = "Training"
#: How the learning rate falls: along a half cosine or a line to 0, or not at all.
SCHEDULES = ("cosine", "linear", "constant")
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
            "How the learning rate falls: along a half cosine or a straight line to 0 at the end of all "
            "epochs, or not at all."
        ),
        OneOf(SCHEDULES),
    ] = "cosine"
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
            "fits best what the untrained method hands to its head; all of it trains from there. A trial "
            "that inherits weights keeps them."
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

    def share(self, step: int, steps: int) -> float:
        """Return the share of the learning rate with which a step is taken.

        The share rises linearly over the first ``warm_up`` of the steps, and is never 0.

        Args:
            step: Number of the step, from 0.
            steps: Number of all planned steps.

        >>> [round(Recipe(schedule="linear", warm_up=0.5).share(step, 4), 2) for step in range(4)]
        [0.33, 0.5, 0.5, 0.25]
        """
        rising = min((step + 1) / (round(self.warm_up * steps) + 1), 1)
        done = min(step / steps, 1)
        falling = {
            "cosine": 0.5 * (1 + math.cos(math.pi * done)),
            "linear": 1 - done,
            "constant": 1.0,
        }
        return rising * falling[self.schedule]
