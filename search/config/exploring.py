"""The settings of how a space is explored, trial by trial and with a supernet.

This module imports nothing slow, because the command line reads all fields before it does anything.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, ClassVar

from search.config.markers import (
    COUNT,
    DURATION,
    NAMES,
    ONESHOT_ONLY,
    SIZE,
    STRATEGIES,
    TRIALS_ONLY,
    Changeable,
    DefaultWith,
    named_values,
)
from trainables.options import LONGEST, AtLeast, AtMost, Help, MoreThan, OneOf, OnlyWith, Registered, Settings
from trainables.seeds import MAX_SEED

#: Number formats in which subnets can be evaluated.
SUBNET_PRECISIONS = ("auto", "fp32", "bf16")


def _samplers() -> Iterable[str]:
    from search.samplers import SAMPLERS

    return SAMPLERS


def _schedulers() -> Iterable[str]:
    from search.schedulers import SCHEDULERS

    return SCHEDULERS


@dataclass(frozen=True, kw_only=True)
class SearchSettings(Settings):
    """The space, the objectives, and how the space is searched."""

    panel: ClassVar[str | None] = "Search"

    space: Annotated[str, Help("Space to search. The command `spaces` lists them.", metavar="NAME")]
    strategy: Annotated[
        str,
        Help(
            "With trials, every configuration is trained on its own. With oneshot, one supernet is trained "
            "for the whole space, hundreds of its subnets are evaluated with the weights that they inherit, "
            "and the best ones are trained on their own."
        ),
        OneOf(STRATEGIES),
    ] = "trials"
    warm_start: Annotated[
        str | None,
        Help(
            "Use what another search has found. Its front is tried first, and its trials inform the sampler "
            "where they are comparable.",
            metavar="NAME",
        ),
        TRIALS_ONLY,
    ] = None
    objectives: Annotated[
        tuple[str, ...] | None,
        Help(
            "What is optimized, separated by commas: memory, inference_memory, params, checkpoint, "
            "step_time, one of the task's metrics, or an objective of your own.",
            default="memory and the task's first metric: accuracy of a classification, macro_f1 of a "
            "multilabel task, mae of a regression, r_at_1 of a retrieval",
        ),
        NAMES,
    ] = None
    constraints: Annotated[
        tuple[str, ...],
        Help(
            "Limit that results must keep to, for example memory<=8GiB, params<=5M or accuracy>=60%. A "
            "configuration that is known to break it is never started. The option may be repeated.",
            metavar="BOUND",
            flag="--constraint",
        ),
    ] = ()
    sampler: Annotated[
        str,
        Help(
            "What proposes configurations. ehvi knows the memory of every candidate and learns from every "
            "epoch; it takes 0.1 s for a proposal after 100 trials and 0.3 s after 1,000, and longer with "
            "large encoders. tpe learns from trials that have ended. gp takes seconds for a proposal. nsga2, "
            "nsga3 and evolution need hundreds of trials. grid tries five values of each range. qmc and "
            "random do not learn.",
            metavar="NAME",
        ),
        DefaultWith("oneshot", "evolution"),
        Registered(_samplers),
    ] = "ehvi"
    scheduler: Annotated[
        str,
        Help(
            "What decides which trials go on. pareto_asha pauses all but the best trials at each rung, by "
            "all objectives. asha does so by one objective, and median stops trials by one objective. none "
            "trains every trial to its end.",
            metavar="NAME",
        ),
        OneOf(_schedulers),
        TRIALS_ONLY,
    ] = "none"
    reduction_factor: Annotated[
        float,
        Help("At each rung of a scheduler, one trial in this many goes on.", metavar="NUMBER"),
        MoreThan(1),
        TRIALS_ONLY,
        OnlyWith("scheduler", ("pareto_asha", "asha")),
    ] = 2
    min_epochs: Annotated[
        int | None,
        Help(
            "Number of epochs after which a scheduler first compares trials.",
            metavar="N",
            default="a third of --epochs",
        ),
        AtLeast(1),
        TRIALS_ONLY,
        OnlyWith("scheduler", ("pareto_asha", "asha", "median")),
    ] = None
    probe: Annotated[
        bool,
        Help(
            "Begin with a probe: the task's linear model on the frozen features, fitted exactly. It takes "
            "seconds, and shows what fusion has to beat. It counts as no sample."
        ),
    ] = True
    robustness: Annotated[
        bool,
        Help(
            "Score what is scored on the test split once more without each modality, whose values are then "
            "blank. It takes one more pass over the test split for each modality."
        ),
    ] = True
    defer: Annotated[
        bool,
        Help(
            "Put off a candidate if its memory is so large that even a better result than any so far would "
            "add little to the front."
        ),
        TRIALS_ONLY,
    ] = False
    num_samples: Annotated[
        int,
        Help(
            "Number of configurations to try, or of subnets to evaluate with --strategy oneshot. With "
            "--resume, +20 means twenty more than before."
        ),
        COUNT,
        AtLeast(1),
        DefaultWith("oneshot", 500),
        Changeable(),
    ] = 20
    seeds: Annotated[
        int,
        Help(
            "Number of seeds. A search trains configurations whose place on the front is unsure, and what "
            "keeps them off it, again with other seeds, up to this many in all. The front is then one of "
            "means. The command `train` trains its configuration with all of them.",
            metavar="N",
        ),
        AtLeast(1),
        Changeable(),
    ] = 1
    max_memory: Annotated[
        int | None,
        Help(
            "Memory budget, for example 3GiB. A configuration whose predicted memory is above it is never "
            "started.",
            default="no limit",
        ),
        SIZE,
        AtLeast(1),
    ] = None
    time_budget: Annotated[
        float | None,
        Help("Stop training after this time, for example 30m or 2h.", default="no limit"),
        DURATION,
        MoreThan(0),
        AtMost(LONGEST),
        TRIALS_ONLY,
        Changeable(),
    ] = None
    seed: Annotated[
        int,
        Help("Seed of the sampler and of the trials, from 0 to 2^63 - 1.", metavar="N"),
        AtLeast(0),
        AtMost(MAX_SEED),
    ] = 0

    def check(self) -> None:
        """Look up the sampler, the objectives and the constraints.

        Raises:
            UserError: If one of them does not exist.
        """
        super().check()
        from search.goals.constraints import parse_constraints
        from search.goals.objectives import get_objectives

        if self.objectives is not None:
            get_objectives(self.objectives)
        parse_constraints(self.all_constraints)

    @property
    def all_constraints(self) -> tuple[str, ...]:
        """The constraints, including that of ``max_memory``."""
        budget = () if self.max_memory is None else (f"memory<={self.max_memory}B",)
        return (*budget, *self.constraints)


@dataclass(frozen=True, kw_only=True)
class ConfigurationSettings(Settings):
    """The one configuration that is trained in place of a space."""

    panel: ClassVar[str | None] = "Configuration"

    method: Annotated[
        str | None,
        Help("Fusion method to train. The command `methods` lists them.", metavar="NAME"),
        TRIALS_ONLY,
    ] = None
    settings: Annotated[
        tuple[str, ...],
        Help(
            "Value of a setting: an option of the method (see `methods NAME`), a parameter of its space (see "
            "`spaces NAME`), or learning_rate. L_f is the first fused layer of the deepest encoder. The "
            "option may be repeated.",
            metavar="NAME=VALUE",
            flag="--set",
            default="the space's first point, which is the paper's",
        ),
        TRIALS_ONLY,
    ] = ()

    def check(self) -> None:
        """Look up the method.

        Raises:
            UserError: If there is no such method, or if settings are not of the form ``NAME=VALUE``.
        """
        super().check()
        from trainables.methods import get_method

        if self.method is not None:
            get_method(self.method)
        self.values()

    def values(self) -> dict[str, str]:
        """Return the settings' values as texts, by name.

        Raises:
            UserError: If a setting is not of the form ``NAME=VALUE``.
        """
        return named_values("--set", self.settings, "prompt_length=4")


@dataclass(frozen=True, kw_only=True)
class OneShotSettings(Settings):
    """How a supernet is trained and searched."""

    panel: ClassVar[str | None] = "One-shot (--strategy oneshot)"

    supernet_epochs: Annotated[
        int,
        Help("Number of epochs for which the supernet is trained.", metavar="N"),
        AtLeast(1),
        ONESHOT_ONLY,
    ] = 5
    paths: Annotated[
        str,
        Help(
            "Subnets that each step of the supernet trains. uniform trains one random subnet; sandwich "
            "trains the largest and the smallest one as well.",
            metavar="uniform|sandwich",
        ),
        ONESHOT_ONLY,
    ] = "uniform"
    distill: Annotated[
        bool,
        Help("With --paths sandwich, train the smaller subnets to give the output of the largest one."),
        ONESHOT_ONLY,
    ] = False
    workers: Annotated[
        int,
        Help(
            "Number of processes that train the supernet together, each on a GPU of its own where there are "
            "GPUs. It must divide the batch size.",
            metavar="N",
        ),
        AtLeast(1),
        ONESHOT_ONLY,
        Changeable(),
    ] = 1
    subnet_precision: Annotated[
        str,
        Help(
            "Number format in which subnets are evaluated; only their ranking depends on it. auto takes bf16 "
            "where the device computes in it natively."
        ),
        OneOf(SUBNET_PRECISIONS),
        ONESHOT_ONLY,
    ] = "auto"
    finalists: Annotated[
        int,
        Help(
            "Number of subnets that are trained on their own, beginning with those on the front.", metavar="N"
        ),
        AtLeast(1),
        ONESHOT_ONLY,
        Changeable(),
    ] = 6
    tau_samples: Annotated[
        int,
        Help(
            "Number of random subnets that are trained on their own as well. They show how well inherited "
            "accuracies rank subnets (Kendall's tau), and so how far to trust them.",
            metavar="N",
        ),
        AtLeast(0),
        ONESHOT_ONLY,
    ] = 3
    from_scratch: Annotated[
        bool,
        Help("Train finalists and random subnets from new weights instead of the inherited ones."),
        ONESHOT_ONLY,
    ] = False
    learning_rate: Annotated[
        float | None,
        Help(
            "Learning rate of the supernet, of the finalists and of the random subnets.",
            metavar="RATE",
            default="that of the space's first point",
        ),
        MoreThan(0),
        ONESHOT_ONLY,
    ] = None


#: Options of a search that a training does not have.
OF_SEARCHES = frozenset(
    option.name
    for block in (SearchSettings, OneShotSettings)
    for option in block.options()
    if option.name not in ("seeds", "seed")
) | {"replay", "replay_seconds"}
