"""One trial: a configuration trained once, as a Ray Tune trainable."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import torch
from ray import tune
from safetensors.torch import load_file, save_file

from trainables.cache import cache_dir
from trainables.data import (
    FeatureCache,
    Loader,
    PreparedData,
    get_augmentation,
    open_dataset,
    prepare,
)
from trainables.methods import FusionMethod, MethodContext, build_method
from trainables.plugin import Plugin
from trainables.setting import TrainingSetting
from trainables.towers import Tower, load_tower, resolve_encoder
from trainables.trainer import Trainer

GIB = 2**30


@dataclass(frozen=True)
class TrialSpec:
    """What all trials of a search have in common.

    Attributes:
        dataset: Name or folder.
        prepared: Key of the prepared data.
        encoders: Encoder name of each modality.
        fingerprints: Content hash of each encoder.
        setting: How a step is run.
        epochs: Epochs a trial trains.
        seed: Seed of initial weights, order and dropout.
        augment: Name of the image augmentation.
        feature_cache: Most bytes of cached prefix outputs; 0 runs the prefix in every step.
        threads: CPU threads of a trial.
        prefixes: For each modality, the numbers of frozen layers whose output trials may ask for.
        plugins: Files with methods of the user's own.
    """

    dataset: str
    prepared: str
    encoders: dict[str, str]
    fingerprints: dict[str, str]
    setting: TrainingSetting
    epochs: int
    seed: int = 0
    augment: str = "none"
    feature_cache: int = 8 * GIB
    threads: int = 1
    prefixes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    plugins: tuple[Plugin, ...] = ()


@dataclass
class TrialRun:
    """A configuration being trained, without anything of Ray: usable from plain Python too.

    Args:
        spec: What all trials share.
        config: The configuration: ``method``, ``learning_rate`` and the method's own fields.
    """

    spec: TrialSpec
    config: Mapping[str, Any]
    device: torch.device = field(default_factory=lambda: torch.device(_default_device()))

    def __post_init__(self) -> None:
        started = time.perf_counter()
        for plugin in self.spec.plugins:
            plugin.load()
        torch.set_num_threads(self.spec.threads)
        self.data = _open_prepared(self.spec)
        self.method = self._build().to(self.device)
        self.trainer = Trainer(
            self.method,
            self.spec.setting,
            self.config["learning_rate"],
            self.spec.epochs,
            self.loader("train"),
            self.spec.seed,
            self.data.info["task"],
        )
        self.setup_seconds = time.perf_counter() - started

    def loader(self, split: str) -> Loader:
        """Return a split's batches, with the frozen prefix's cached output where the method has one."""
        features = {}
        if self.spec.feature_cache:
            cache = FeatureCache(self.spec.feature_cache)
            for modality, layer in self.method.prefix_layers().items():
                found = cache.features(
                    self.data,
                    split,
                    self.method.tower(modality),
                    layer,
                    self.spec.setting,
                    encoder=self.spec.fingerprints[modality],
                    device=self.device,
                    others=self.spec.prefixes.get(modality, ()),
                )
                if found is not None:
                    features[modality] = found
        return Loader(
            self.data.split(split),
            self.method.modalities,
            self.spec.setting.batch_size,
            self.device,
            features,
            get_augmentation(self.spec.augment) if split == "train" else None,
        )

    def epoch(self) -> dict[str, float]:
        """Train one epoch and evaluate on the validation split.

        Returns:
            The task's metrics, ``epoch``, ``train_loss``, ``measured_memory`` (GiB, on a GPU), and where the
            time went: ``setup_seconds`` (the same in every epoch; cached features are computed here),
            ``epoch_seconds`` and ``validation_seconds``.
        """
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        result = self.trainer.train_epoch()
        if self.device.type == "cuda":
            result["measured_memory"] = torch.cuda.max_memory_allocated(self.device) / GIB
        started = time.perf_counter()
        result |= self.evaluate("validation")
        return {
            **result,
            "validation_seconds": time.perf_counter() - started,
            "setup_seconds": self.setup_seconds,
            "epoch": self.trainer.epoch,
        }

    def evaluate(self, split: str) -> dict[str, float]:
        """Return the task's metrics on a split."""
        return self.trainer.evaluate(self.loader(split))

    def save(self, folder: Path) -> None:
        """Write a checkpoint: the trained weights, the configuration, and what training needs to go on."""
        weights = {k: v.contiguous().cpu() for k, v in self.method.trainable_state_dict().items()}
        save_file(weights, folder / "weights.safetensors")
        torch.save(self.trainer.state_dict(), folder / "trainer.pt")
        described = {"config": dict(self.config), "spec": asdict(self.spec)}
        (folder / "trial.json").write_text(json.dumps(described, indent=1))

    def load(self, folder: Path) -> None:
        """Read a checkpoint."""
        self.method.load_trainable_state_dict(load_file(folder / "weights.safetensors"))
        self.trainer.load_state_dict(torch.load(folder / "trainer.pt", weights_only=True))

    def _build(self) -> FusionMethod:
        name, fields = split_config(self.config)
        towers = {
            modality: _shared_tower(modality, source, self.spec.setting.attention)
            for modality, source in self.spec.encoders.items()
        }
        torch.manual_seed(self.spec.seed)
        setting = self.spec.setting
        context = MethodContext(towers, self.data.n_classes, setting.sizes, setting.encoder_dropout)
        return build_method(name, fields, context)


class FusionTrial(tune.Trainable):
    """Ray Tune's view of a ``TrialRun``: one epoch a step, all objectives every epoch.

    A worker keeps its process, and so its encoders, from one trial to the next.
    """

    def setup(self, config: dict[str, Any], spec: TrialSpec) -> None:
        """Build the trial."""
        self._spec = spec
        self._start(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next configuration in the same process."""
        self._start(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Train one epoch."""
        return {**self._run.epoch(), **self._known, "done": self._run.trainer.epoch >= self._spec.epochs}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Write a checkpoint."""
        self._run.save(Path(checkpoint_dir))

    def load_checkpoint(self, checkpoint: str) -> None:
        """Read a checkpoint."""
        self._run.load(Path(checkpoint))

    def _start(self, config: dict[str, Any]) -> None:
        self._known = {"memory": config["memory"] / GIB, "params": config["params"]}
        self._run = TrialRun(self._spec, config["config"])


def split_config(config: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return a configuration's method name and the method's own fields."""
    fields = {k: v for k, v in config.items() if k not in ("method", "learning_rate")}
    return config["method"], fields


def test_metrics(spec: TrialSpec, config: Mapping[str, Any], checkpoint: Path) -> dict[str, float]:
    """Return the metrics of a trained configuration on the test split."""
    run = TrialRun(spec, config)
    run.load(checkpoint)
    return run.evaluate("test")


@cache
def _shared_tower(modality: str, source: str, attention: str) -> Tower:
    tower = load_tower(resolve_encoder(modality, source), attention=attention)
    tower.skip_unused = True
    return tower


def _open_prepared(spec: TrialSpec) -> PreparedData:
    folder = cache_dir() / "prepared" / spec.prepared
    if folder.exists():
        return PreparedData(folder)
    # The first trial on another node than the one the search was started on.
    encoders = {modality: resolve_encoder(modality, name) for modality, name in spec.encoders.items()}
    return prepare(
        open_dataset(spec.dataset),
        encoders,
        text_length=spec.setting.text_length,
        image_size=spec.setting.image_size,
    )


def _default_device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"
