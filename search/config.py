"""The settings of a search: what the command line parses into and the Python API takes."""

from __future__ import annotations

import dataclasses
import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from search.objectives import get_objectives
from spaces import get_space
from trainables.data import get_augmentation
from trainables.errors import UserError, unknown
from trainables.plugin import Plugin

GIB = 2**30
SAMPLERS = ("tpe", "nsga2", "random")
CHECKPOINTING = ("off", "on", "search")


@dataclass(frozen=True)
class SearchConfig:
    """A search, before it runs. Saved as ``config.json`` beside the results.

    Args:
        space: Name of the space.
        dataset: Name of an included dataset, or a folder of Parquet files.
        text_encoder: Bundled name, hub name or local folder.
        image_encoder: Bundled name, hub name or local folder.
        objectives: Names of the objectives.
        sampler: ``tpe``, ``nsga2`` or ``random``.
        num_samples: Trials to run.
        epochs: Epochs a trial trains.
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
        address: Ray cluster to join (``auto`` on its nodes); None starts Ray on this machine.

    Raises:
        UserError: If a value is not among those accepted.
    """

    space: str
    dataset: str = "openclipart"
    text_encoder: str = "minilm"
    image_encoder: str = "dinov2-small"
    objectives: tuple[str, ...] = ("memory", "accuracy")
    sampler: str = "tpe"
    num_samples: int = 20
    epochs: int = 5
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
    address: str | None = None
    created: float = field(default_factory=time.time, repr=False)

    def __post_init__(self) -> None:
        for path in self.plugins:
            Plugin.read(path).load()
        get_space(self.space)
        get_objectives(self.objectives)
        if self.sampler not in SAMPLERS:
            raise unknown("sampler", self.sampler, SAMPLERS)
        if self.gradient_checkpointing not in CHECKPOINTING:
            raise unknown("gradient checkpointing", self.gradient_checkpointing, CHECKPOINTING)
        limits = {"num_samples": 1, "epochs": 1, "max_concurrent": 1, "gpu_memory": 1, "max_failures": 0}
        for name, least in limits.items():
            value = getattr(self, name)
            if value is not None and value < least:
                raise UserError(f"--{name.replace('_', '-')} {value}: must be at least {least}")
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

    @property
    def run_name(self) -> str:
        """The search's name."""
        return self.name or time.strftime(f"{self.space}-%Y%m%d-%H%M%S", time.localtime(self.created))

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
        lists = {name: tuple(values[name]) for name in ("objectives", "plugins")}
        return cls(**{**values, **lists})
