"""The settings of a search, in blocks: each option of the command line is a field here, and nowhere else.

Nothing heavy is imported with this module: the command line reads all fields before it does anything.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from search.config.markers import (
    COUNT,
    DURATION,
    NAMES,
    SIZE,
    STRATEGIES,
    Changeable,
    DefaultWith,
    Only,
)
from search.units import GIB
from trainables.errors import UserError
from trainables.options import AtLeast, Help, MoreThan, OneOf, Settings
from trainables.plugin import Plugin
from trainables.step.setting import SAMPLES

CHECKPOINTING = ("off", "on", "search")
#: What subnets are evaluated in.
SUBNET_PRECISIONS = ("auto", "fp32", "bf16")

_WHERE = "Where"
_ENCODER = (
    "{} encoder: the name of a bundled encoder, a name on the Hugging Face hub or a local folder. Commands "
    "that need no weights also take {}."
)


def _samplers() -> Iterable[str]:
    from search.samplers import SAMPLERS

    return SAMPLERS


def _schedulers() -> Iterable[str]:
    from search.schedulers import SCHEDULERS

    return SCHEDULERS


@dataclass(frozen=True, kw_only=True)
class Extensions(Settings):
    """What the user has added to the program."""

    plugins: Annotated[
        tuple[str, ...],
        Help(
            "Python file that registers methods, spaces or other parts of your own. The option may be "
            "repeated.",
            metavar="FILE",
            flag="--plugin",
        ),
    ] = ()

    def load(self) -> None:
        """Run the files, unless this process has done so already.

        Raises:
            UserError: If a file cannot be loaded.
        """
        for path in self.plugins:
            Plugin.read(path).load()


@dataclass(frozen=True, kw_only=True)
class SearchSettings(Settings):
    """What is searched for, and how."""

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
        Only("trials"),
    ] = None
    objectives: Annotated[
        tuple[str, ...],
        Help(
            "What is optimized, separated by commas: memory, params, checkpoint, accuracy, macro_f1, loss, "
            "step_time, or an objective of your own."
        ),
        NAMES,
    ] = ("memory", "accuracy")
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
            "epoch; it takes a third of a second for a proposal. tpe learns from trials that have ended. gp "
            "takes seconds for a proposal. nsga2, nsga3 and evolution need hundreds of trials. grid tries "
            "five values of each range. qmc and random do not learn.",
            metavar="NAME",
        ),
        DefaultWith("oneshot", "evolution"),
        OneOf(_samplers),
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
        Only("trials"),
    ] = "none"
    reduction_factor: Annotated[
        float,
        Help("At each rung of a scheduler, one trial in this many goes on.", metavar="NUMBER"),
    ] = 2
    min_epochs: Annotated[
        int | None,
        Help(
            "Number of epochs after which a scheduler first compares trials.",
            metavar="N",
            default="a third of --epochs",
        ),
    ] = None
    defer: Annotated[
        bool,
        Help(
            "Put off a candidate if its memory is so large that even a better result than any so far would "
            "add little to the front."
        ),
        Only("trials"),
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
            "Train each configuration on the front this many times, each time with another seed. The front "
            "is then one of means.",
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
    ] = None
    time_budget: Annotated[
        float | None,
        Help("Stop training after this time, for example 30m or 2h.", default="no limit"),
        DURATION,
        Only("trials"),
        Changeable(),
    ] = None
    seed: Annotated[int, Help("Seed of the sampler and of the trials.", metavar="N")] = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        from search.goals.constraints import parse_constraints
        from search.goals.objectives import get_objectives
        from spaces import get_space

        get_space(self.space)
        get_objectives(self.objectives)
        parse_constraints(self.all_constraints)

    @property
    def all_constraints(self) -> tuple[str, ...]:
        """The constraints, ``max_memory`` among them."""
        budget = () if self.max_memory is None else (f"memory<={self.max_memory}B",)
        return (*budget, *self.constraints)


@dataclass(frozen=True, kw_only=True)
class OneShotSettings(Settings):
    """How a supernet is trained and searched."""

    panel: ClassVar[str | None] = "One-shot (--strategy oneshot)"

    supernet_epochs: Annotated[
        int,
        Help("Number of epochs for which the supernet is trained.", metavar="N"),
        AtLeast(1),
        Only("oneshot"),
    ] = 5
    paths: Annotated[
        str,
        Help(
            "Subnets that each step of the supernet trains. uniform trains one random subnet; sandwich "
            "trains the largest and the smallest one as well.",
            metavar="uniform|sandwich",
        ),
        Only("oneshot"),
    ] = "uniform"
    distill: Annotated[
        bool,
        Help("With --paths sandwich, train the smaller subnets to give the output of the largest one."),
        Only("oneshot"),
    ] = False
    workers: Annotated[
        int,
        Help(
            "Number of processes that train the supernet together, each on a GPU of its own where there are "
            "GPUs. It must divide the batch size.",
            metavar="N",
        ),
        AtLeast(1),
        Only("oneshot"),
        Changeable(),
    ] = 1
    subnet_precision: Annotated[
        str,
        Help(
            "Number format in which subnets are evaluated; only their ranking depends on it. auto takes bf16 "
            "where the device computes in it natively."
        ),
        OneOf(SUBNET_PRECISIONS),
        Only("oneshot"),
    ] = "auto"
    finalists: Annotated[
        int,
        Help(
            "Number of subnets that are trained on their own, beginning with those on the front.", metavar="N"
        ),
        AtLeast(1),
        Only("oneshot"),
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
        Only("oneshot"),
    ] = 3
    from_scratch: Annotated[
        bool,
        Help("Train finalists and random subnets from new weights instead of the inherited ones."),
        Only("oneshot"),
    ] = False
    learning_rate: Annotated[
        float | None,
        Help(
            "Learning rate of the supernet, of the finalists and of the random subnets.",
            metavar="RATE",
            default="that of the space's first point",
        ),
        MoreThan(0),
        Only("oneshot"),
    ] = None


@dataclass(frozen=True, kw_only=True)
class TrialSettings(Settings):
    """How a trial is trained, beside its steps."""

    panel: ClassVar[str | None] = "Trials"

    epochs: Annotated[
        int,
        Help(
            "Number of epochs for which a trial is trained. With --strategy oneshot this is the training of "
            "finalists, which start from inherited weights.",
            metavar="N",
        ),
        AtLeast(1),
        DefaultWith("oneshot", 3),
    ] = 5
    gradient_checkpointing: Annotated[
        str,
        Help(
            "With on, a step keeps only the inputs of layers that the gradient passes through, and runs "
            "these layers a second time in the backward pass, which takes less memory and more time. search "
            "makes it a parameter of the space."
        ),
        OneOf(CHECKPOINTING),
    ] = "off"
    augment: Annotated[
        str,
        Help(
            "Random changes to the images of the training split. flip mirrors them, and shift-flip also "
            "moves them.",
            metavar="none|flip|shift-flip",
        ),
    ] = "none"
    feature_cache: Annotated[
        bool,
        Help("Compute the output of the frozen lower layers once, and share it between trials and epochs."),
    ] = True
    feature_cache_size: Annotated[int, Help("Largest size of this cache on disk."), SIZE, Changeable()] = (
        8 * GIB
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        from trainables.data import get_augmentation

        get_augmentation(self.augment)


@dataclass(frozen=True, kw_only=True)
class DataSettings(Settings):
    """What trials are trained on."""

    panel: ClassVar[str | None] = SAMPLES

    dataset: Annotated[
        str,
        Help("Name of an included dataset, or a folder of Parquet files.", metavar="NAME|FOLDER"),
    ] = "openclipart"
    text_length: Annotated[
        int | None,
        Help(
            "Number of tokens that each text is cut or padded to.",
            metavar="N",
            default="99 % of the training texts fit",
        ),
        AtLeast(1),
    ] = None


@dataclass(frozen=True, kw_only=True)
class EncoderSettings(Settings):
    """The pretrained encoders."""

    panel: ClassVar[str | None] = SAMPLES

    text_encoder: Annotated[
        str, Help(_ENCODER.format("Text", "arch:bert-base and arch:bert-large"), metavar="NAME|FOLDER")
    ] = "minilm"
    image_encoder: Annotated[
        str, Help(_ENCODER.format("Image", "arch:vit-base and arch:vit-large"), metavar="NAME|FOLDER")
    ] = "dinov2-small"
    image_size: Annotated[
        int | None,
        Help(
            "Side of the square images that the encoder sees, in pixels.",
            metavar="N",
            default="the encoder's own",
        ),
        AtLeast(1),
    ] = None

    @property
    def names(self) -> dict[str, str]:
        """Encoder name of each modality."""
        return {"text": self.text_encoder, "image": self.image_encoder}


@dataclass(frozen=True, kw_only=True)
class StorageSettings(Settings):
    """Where results are kept."""

    panel: ClassVar[str | None] = _WHERE

    name: Annotated[
        str | None, Help("Name of the search.", metavar="NAME", default="made from space and time")
    ] = None
    storage_path: Annotated[
        str,
        Help(
            "Folder for the results. All nodes of a cluster must see it, so there it may be an address such "
            "as s3://BUCKET/runs.",
            metavar="FOLDER",
        ),
        Changeable(),
    ] = "runs"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.name is not None and (not self.name or set(self.name) & set('/\\:*?"<>| ')):
            raise UserError(f"--name '{self.name}': use letters, digits, '-', '_' and '.'")

    @property
    def location(self) -> str:
        """The storage path, absolute unless it is a remote address."""
        return self.storage_path if "://" in self.storage_path else str(Path(self.storage_path).resolve())


@dataclass(frozen=True, kw_only=True)
class TrackingSettings(Settings):
    """Where MLflow records the search."""

    panel: ClassVar[str | None] = _WHERE

    tracking_uri: Annotated[
        str, Help("Address of an MLflow server or database.", metavar="URI"), Changeable()
    ] = "sqlite:///mlflow.db"
    experiment: Annotated[str, Help("MLflow experiment that the runs belong to.", metavar="NAME")] = (
        "paretofuse"
    )


@dataclass(frozen=True, kw_only=True)
class BackendSettings(Settings):
    """What carries out the trials: a Ray cluster, or a table of recorded trials."""

    panel: ClassVar[str | None] = _WHERE

    address: Annotated[
        str | None,
        Help(
            "Ray cluster to join: its address, or auto on one of its nodes.",
            metavar="ADDRESS",
            default="start Ray on this machine",
        ),
        Changeable(),
    ] = None
    replay: Annotated[
        str | None,
        Help(
            "Take the results of trials from a table of recorded trials instead of training. This is for "
            "trying out samplers and schedulers.",
            metavar="FILE",
        ),
        Only("trials"),
    ] = None
    replay_seconds: Annotated[
        float, Help("With --replay, time in seconds that an epoch takes.", metavar="SECONDS"), Changeable()
    ] = 0


@dataclass(frozen=True, kw_only=True)
class PlacementSettings(Settings):
    """What a trial gets of the devices, and when it is given up."""

    panel: ClassVar[str | None] = _WHERE

    max_concurrent: Annotated[
        int | None,
        Help("Largest number of trials at once.", metavar="N", default="as many as fit"),
        AtLeast(1),
        Changeable(),
    ] = None
    gpus_per_trial: Annotated[
        float | None,
        Help(
            "Share of a GPU that every trial gets; 0 trains on CPUs. Give this option, or --gpu-memory, on a "
            "cluster that starts its GPU nodes on demand.",
            metavar="SHARE",
            default="what the trial's memory needs",
        ),
        Changeable(),
    ] = None
    gpu_memory: Annotated[
        int | None,
        Help("Memory of each GPU.", default="what the GPUs report"),
        SIZE,
        AtLeast(1),
        Changeable(),
    ] = None
    packing: Annotated[
        bool,
        Help("Let trials share a GPU, or the memory of a node, by their predicted memory."),
        Changeable(),
    ] = True
    max_failures: Annotated[
        int,
        Help(
            "Number of times that a trial which died or hung is started again from its last checkpoint.",
            metavar="N",
        ),
        AtLeast(0),
        Changeable(),
    ] = 2
    hang_timeout: Annotated[
        float,
        Help("A trial that finishes no step for this time counts as hung."),
        DURATION,
        MoreThan(0),
        Changeable(),
    ] = 900
