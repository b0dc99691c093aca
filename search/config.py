"""The settings of a search: what the command line parses into and the Python API takes."""

from __future__ import annotations

import dataclasses
import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from search.goals.constraints import Constraint, parse_constraints
from search.goals.objectives import get_objectives
from search.samplers import SAMPLERS
from search.schedulers import make_rule
from search.units import GIB
from spaces import get_space
from trainables.data import get_augmentation
from trainables.errors import UserError, unknown
from trainables.plugin import Plugin
from trainables.supernet.step import check_paths

CHECKPOINTING = ("off", "on", "search")

#: trials: every configuration is trained on its own; oneshot: one supernet serves them all.
STRATEGIES = ("trials", "oneshot")
#: What differs between them where nothing was asked for.
_BY_STRATEGY: Any = None
_DEFAULTS = {
    "trials": {"sampler": "ehvi", "num_samples": 20, "epochs": 5},
    "oneshot": {"sampler": "evolution", "num_samples": 500, "epochs": 3},
}
#: What subnets are evaluated in.
SUBNET_PRECISIONS = ("auto", "fp32", "bf16")
#: Samplers that propose subnets: fast ones, and those that know no more than they are told.
SUBNET_SAMPLERS = ("evolution", "nsga2", "nsga3", "qmc", "random")
#: Settings that only one strategy knows, with what they are otherwise.
_TRIALS_ONLY = {
    "scheduler": "none",
    "defer": False,
    "warm_start": None,
    "time_budget": None,
    "replay": None,
}
_ONESHOT_ONLY = {
    "supernet_epochs": 5,
    "paths": "uniform",
    "distill": False,
    "workers": 1,
    "subnet_precision": "auto",
    "finalists": 6,
    "tau_samples": 3,
    "from_scratch": False,
    "learning_rate": None,
}

#: Settings that may change when a search is gone on with: they do not change what a trial comes to.
CHANGEABLE = (
    "num_samples",
    "finalists",
    "seeds",
    "time_budget",
    "max_concurrent",
    "gpus_per_trial",
    "gpu_memory",
    "packing",
    "max_failures",
    "hang_timeout",
    "feature_cache_size",
    "storage_path",
    "tracking_uri",
    "workers",
    "address",
    "replay_seconds",
)


@dataclass(frozen=True)
class SearchConfig:
    """A search, before it runs. Saved as ``config.json`` beside the results.

    Args:
        space: Name of the space.
        strategy: ``trials`` trains every configuration on its own; ``oneshot`` trains one supernet, searches
            its subnets with the weights that they inherit, and trains the best on their own.
        dataset: Name of an included dataset, or a folder of Parquet files.
        text_encoder: Bundled name, hub name or local folder.
        image_encoder: Bundled name, hub name or local folder.
        objectives: Names of the objectives.
        constraints: What results must keep to, e.g. ``params<=5M``; see ``search.goals.constraints``.
        sampler: A name in ``search.samplers.SAMPLERS``; None is ``ehvi``, or ``evolution`` of subnets.
        scheduler: A name in ``search.schedulers.SCHEDULERS``.
        reduction_factor: One trial in so many goes on at each rung.
        min_epochs: The first rung; None is a third of the epochs.
        defer: Whether candidates are put off whose memory even a better result than any so far would hardly
            be worth.
        num_samples: Configurations to try, with ``oneshot`` by evaluating them with inherited weights; None
            is 20, or 500 subnets.
        seeds: Trials of each configuration on the front, each with a seed of its own.
        warm_start: Name of another search whose trials are prior knowledge.
        epochs: Epochs a trial trains; None is 5, or 3 from inherited weights.
        supernet_epochs: Epochs that the supernet trains.
        paths: Subnets a step trains: ``uniform`` draws one, ``sandwich`` adds the largest and the smallest.
        distill: Whether, with ``sandwich``, the others learn the largest subnet's output.
        workers: Processes that train the supernet together, each on a device of its own.
        subnet_precision: What subnets are evaluated in: ``fp32``, ``bf16``, or ``auto`` for bf16 where the
            device computes in it natively. Only their ranking depends on it.
        finalists: Subnets that are trained on their own, the front's first.
        tau_samples: Random subnets that are trained on their own, too, to see how far inherited accuracies
            can be trusted.
        from_scratch: Whether finalists and random subnets start from new weights instead of inherited ones.
        learning_rate: Of the supernet and what is trained from it; None is that of the space's first point.
        batch_size: Samples an optimisation step.
        text_length: Tokens a text is cut or padded to; None fits 99 % of the training texts.
        image_size: Pixels; None takes the encoder's own.
        gradient_accumulation: Parts that an optimisation step's samples are run in.
        precision: ``fp32``, ``bf16`` (autocast) or ``bf16-frozen`` (and the frozen matrices stored so).
        attention: ``eager`` or ``sdpa``.
        encoder_dropout: Dropout active in the frozen layers that the gradient passes through.
        optimizer: ``adamw`` or ``sgd``.
        optimizer_kernel: ``single``, ``foreach`` or ``fused``.
        gradient_checkpointing: ``off``, ``on``, or ``search`` to make it a parameter of the space.
        prefix: The frozen lower layers: ``computed`` in every step, ``cached``, or ``offloaded`` (cached,
            and their weights off the device).
        max_memory: Budget in bytes; candidates above it are never started.
        max_concurrent: Trials at once; None fills the cluster.
        gpus_per_trial: Share of a GPU that every trial gets, 0 for none; None is what its memory needs.
        gpu_memory: Bytes of a GPU; None asks the GPUs. To be given where their nodes start on demand.
        packing: Whether trials share a GPU, or a node's memory, by what they are predicted to need.
        max_failures: Times a trial that died or hung is started again from its last checkpoint.
        hang_timeout: Seconds without a finished step after which a trial counts as hung.
        time_budget: Seconds after which no more training is done.
        feature_cache: Whether the frozen prefix's output is computed once and shared.
        feature_cache_size: Most bytes it may take on disk.
        augment: Image augmentation of the training split.
        seed: Seed of the sampler and of every trial.
        name: Name of the search; None makes one from space and time.
        storage_path: Folder (or S3/GCS address) for results; shared by all nodes of a cluster.
        tracking_uri: MLflow's.
        experiment: MLflow experiment.
        plugins: Python files with methods and spaces of the user's own.
        replay: File with recorded trials that stand in for training.
        replay_seconds: How long an epoch takes then.
        address: Ray cluster to join (``auto`` on its nodes); None starts Ray on this machine.

    Raises:
        UserError: If a value is not among those accepted.
    """

    space: str
    strategy: str = "trials"
    dataset: str = "openclipart"
    text_encoder: str = "minilm"
    image_encoder: str = "dinov2-small"
    objectives: tuple[str, ...] = ("memory", "accuracy")
    constraints: tuple[str, ...] = ()
    sampler: str = _BY_STRATEGY
    scheduler: str = "none"
    reduction_factor: float = 2
    min_epochs: int | None = None
    defer: bool = False
    num_samples: int = _BY_STRATEGY
    seeds: int = 1
    warm_start: str | None = None
    epochs: int = _BY_STRATEGY
    supernet_epochs: int = 5
    paths: str = "uniform"
    distill: bool = False
    workers: int = 1
    subnet_precision: str = "auto"
    finalists: int = 6
    tau_samples: int = 3
    from_scratch: bool = False
    learning_rate: float | None = None
    batch_size: int = 32
    gradient_accumulation: int = 1
    text_length: int | None = None
    image_size: int | None = None
    precision: str = "fp32"
    attention: str = "eager"
    encoder_dropout: bool = True
    optimizer: str = "adamw"
    optimizer_kernel: str = "single"
    gradient_checkpointing: str = "off"
    prefix: str = "computed"
    max_memory: int | None = None
    max_concurrent: int | None = None
    gpus_per_trial: float | None = None
    gpu_memory: int | None = None
    packing: bool = True
    max_failures: int = 2
    hang_timeout: float = 900
    time_budget: float | None = None
    feature_cache: bool = True
    feature_cache_size: int = 8 * GIB
    augment: str = "none"
    seed: int = 0
    name: str | None = None
    storage_path: str = "runs"
    tracking_uri: str = "sqlite:///mlflow.db"
    experiment: str = "paretofuse"
    plugins: tuple[str, ...] = ()
    replay: str | None = None
    replay_seconds: float = 0
    address: str | None = None
    created: float = field(default_factory=time.time, repr=False)

    def __post_init__(self) -> None:
        for path in self.plugins:
            Plugin.read(path).load()
        get_space(self.space)
        if self.strategy not in STRATEGIES:
            raise unknown("strategy", self.strategy, STRATEGIES)
        for name, default in _DEFAULTS[self.strategy].items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, default)
        objectives = get_objectives(self.objectives)
        constraints = parse_constraints(self.all_constraints)
        if self.sampler not in SAMPLERS:
            raise unknown("sampler", self.sampler, SAMPLERS)
        if self.gradient_checkpointing not in CHECKPOINTING:
            raise unknown("gradient checkpointing", self.gradient_checkpointing, CHECKPOINTING)
        limits = {"num_samples": 1, "epochs": 1, "seeds": 1, "max_concurrent": 1, "gpu_memory": 1}
        limits |= {"supernet_epochs": 1, "workers": 1, "finalists": 1, "tau_samples": 0, "max_failures": 0}
        for name, least in limits.items():
            value = getattr(self, name)
            if value is not None and value < least:
                raise UserError(f"--{name.replace('_', '-')} {value}: must be at least {least}")
        make_rule(self.scheduler, objectives, self.epochs, self.reduction_factor, self.first_rung)
        self._check_strategy(constraints)
        if self.hang_timeout <= 0:
            raise UserError(f"--hang-timeout {self.hang_timeout}: must be more than 0 seconds")
        get_augmentation(self.augment)
        if self.prefix != "computed" and (self.augment != "none" or not self.feature_cache):
            raise UserError(
                f"--prefix {self.prefix} takes the frozen layers' output from the cache, which "
                "--no-feature-cache and --augment rule out; use --prefix computed"
            )
        if self.augment != "none" and self.feature_cache:
            raise UserError(
                f"--augment {self.augment} changes the images in every epoch, so cached outputs of the "
                "frozen layers would be wrong; add --no-feature-cache"
            )
        if self.name is not None and (not self.name or set(self.name) & set('/\\:*?"<>| ')):
            raise UserError(f"--name '{self.name}': use letters, digits, '-', '_' and '.'")

    def _check_strategy(self, constraints: tuple[Constraint, ...]) -> None:
        """Refuse what the strategy does not know."""
        others = _TRIALS_ONLY if self.strategy == "oneshot" else _ONESHOT_ONLY
        for name, nothing in others.items():
            if getattr(self, name) != nothing:
                option = f"--{name.replace('_', '-')}"
                raise UserError(f"{option}: is not for --strategy {self.strategy}; leave it out")
        if self.strategy != "oneshot":
            return
        if self.sampler not in SUBNET_SAMPLERS:
            accepted = ", ".join(SUBNET_SAMPLERS)
            raise UserError(f"--sampler {self.sampler}: proposes no subnets; must be one of {accepted}")
        for objective in (*get_objectives(self.objectives), *(c.objective for c in constraints)):
            if not (objective.known or objective.tested):
                raise UserError(
                    f"{objective.name}: is not known of subnets that are not trained; use --strategy trials"
                )
        if self.gradient_checkpointing == "search":
            raise UserError("--gradient-checkpointing search: is not for --strategy oneshot; use off or on")
        if self.batch_size % self.workers:
            raise UserError(f"--workers {self.workers}: must divide --batch-size, {self.batch_size}")
        if self.subnet_precision not in SUBNET_PRECISIONS:
            raise unknown("subnet precision", self.subnet_precision, SUBNET_PRECISIONS)
        check_paths(self.paths, distill=self.distill)
        if self.learning_rate is not None and self.learning_rate <= 0:
            raise UserError(f"--learning-rate {self.learning_rate}: must be more than 0")

    @property
    def run_name(self) -> str:
        """The search's name."""
        return self.name or time.strftime(f"{self.space}-%Y%m%d-%H%M%S", time.localtime(self.created))

    @property
    def all_constraints(self) -> tuple[str, ...]:
        """The constraints, ``max_memory`` among them."""
        budget = () if self.max_memory is None else (f"memory<={self.max_memory}B",)
        return (*budget, *self.constraints)

    @property
    def first_rung(self) -> int:
        """Epochs before a scheduler compares trials."""
        return self.min_epochs if self.min_epochs is not None else max(1, round(self.epochs / 3))

    @property
    def encoders(self) -> dict[str, str]:
        """Encoder name of each modality."""
        return {"text": self.text_encoder, "image": self.image_encoder}

    @property
    def storage(self) -> str:
        """The storage path, absolute unless it is a remote address."""
        return self.storage_path if "://" in self.storage_path else str(Path(self.storage_path).resolve())

    def to_json(self) -> str:
        """Return the settings as a JSON document."""
        return json.dumps({**dataclasses.asdict(self), "name": self.run_name}, indent=1)

    @classmethod
    def from_json(cls, text: str) -> SearchConfig:
        """Read what ``to_json`` wrote."""
        values: dict[str, Any] = json.loads(text)
        lists = {name: tuple(values[name]) for name in ("objectives", "constraints", "plugins")}
        return cls(**{**values, **lists})

    def resumed(self, num_samples: int | str | None = None, **changes: Any) -> SearchConfig:
        """Return the settings with which this search is gone on with.

        Args:
            num_samples: As in ``SearchConfig``, or ``+20`` for so many more; None as before.
            **changes: Settings that were given anew.

        Raises:
            UserError: If one differs that must stay as it is.
        """
        for name, value in changes.items():
            if name not in CHANGEABLE and value != getattr(self, name):
                option = f"--{name.replace('_', '-')}"
                raise UserError(
                    f"{option} {_shown(value)}: search '{self.run_name}' was started with "
                    f"{_shown(getattr(self, name))}; leave it out, or start a new search with --warm-start "
                    f"{self.run_name}"
                )
        return dataclasses.replace(self, num_samples=more_samples(num_samples, self.num_samples), **changes)


def more_samples(wanted: int | str | None, before: int | None = None) -> int:
    """Return how many samples are wanted in all, where ``+20`` means so many more than before.

    Raises:
        UserError: If it is no such number.
    """
    text = str(before if wanted is None else wanted)
    if not text.removeprefix("+").isdecimal() or (text.startswith("+") and before is None):
        raise UserError(f"--num-samples {text}: write a number, or with --resume +20 for twenty more")
    return int(text) + (before or 0) * text.startswith("+")


def _shown(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
