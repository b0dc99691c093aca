"""Settings of a trial's training that change no step's memory: the rates of its steps."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar

from trainables.options import AtLeast, AtMost, Help, MoreThan, OneOf, Settings

#: Heading in ``--help`` of the options that say how a trial learns.
TRAINING = "Training"
#: How the learning rate falls: along a half cosine or a line to 0, or not at all.
SCHEDULES = ("cosine", "linear", "constant")


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
    ] = 0
    head_learning_rate: Annotated[
        float,
        Help("Learning rate of the head, as a multiple of the configuration's.", metavar="FACTOR"),
        MoreThan(0),
        AtMost(1e6),
    ] = 1

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
