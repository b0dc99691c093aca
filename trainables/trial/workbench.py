"""The settings that all trials of a search share, and the data and encoders that a process has opened."""

from __future__ import annotations

import contextlib
import platform
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch

from trainables.cache import cache_dir, ready
from trainables.data import (
    Dataset,
    EncodedSplit,
    FeatureCache,
    Few,
    Loader,
    NoRoomError,
    PrefixFeatures,
    PreparedData,
    get_augmentation,
    open_dataset,
    prepare,
    without_missing,
)
from trainables.data.prepared import description_of, key_of
from trainables.disk import is_disk_full
from trainables.errors import DiskFullError, UserError
from trainables.methods import FusionMethod, MethodContext
from trainables.notices import tell
from trainables.plugin import Plugin
from trainables.progress import Tick, no_tick
from trainables.reading_settings import ReadingSettings
from trainables.step import Recipe, TrainingSetting
from trainables.task_settings import TaskSettings
from trainables.tasks import read_task
from trainables.towers import EncoderSource, Tower, load_tower, resolve_encoder, resolve_encoders
from trainables.units import GIB


@dataclass(frozen=True)
class TrialSpec:
    """Settings that all trials of a search share.

    Attributes:
        dataset: Name of the dataset, see ``open_dataset``.
        prepared: Key of the prepared data.
        task: Description of the task, see ``Task.to_dict``.
        missing: What becomes of rows in which a modality is missing; one of ``MISSING``.
        task_settings: What the user says about the task.
        reading: How the dataset is read.
        encoders: Encoder name of each modality.
        pooling: How each modality's vector is read from its encoder's tokens.
        kinds: Kind of each modality.
        fingerprints: Content hash of the encoder of each modality.
        setting: How a step is run.
        epochs: Number of epochs that a trial trains.
        few: The rows of the training split that trials use; None uses all.
        recipe: How its steps follow each other.
        augment: Name of the image augmentation.
        feature_cache: Maximum bytes of cached output of frozen prefixes; 0 runs the prefixes in every step.
        prefixes: For each modality, the depths of the frozen prefixes whose output trials may need.
        hang_timeout: Seconds without progress after which a worker ends itself. Steps, batches of an
            evaluation and of the cache are progress; loading an encoder or a checkpoint, and writing one, is
            watched as a whole.
        plugins: The user's plugins.
        robustness: Whether trials that are scored on the test split are also scored without each modality.
    """

    dataset: str
    prepared: str
    task: dict[str, Any]
    encoders: dict[str, str]
    pooling: dict[str, str]
    kinds: dict[str, str]
    fingerprints: dict[str, str]
    setting: TrainingSetting
    epochs: int
    few: Few | None = None
    missing: str = "blank"
    task_settings: TaskSettings = field(default_factory=TaskSettings)
    reading: ReadingSettings = field(default_factory=ReadingSettings)
    recipe: Recipe = field(default_factory=Recipe)
    augment: str = "none"
    feature_cache: int = 8 * GIB
    prefixes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    hang_timeout: float = 900.0
    plugins: tuple[Plugin, ...] = ()
    robustness: bool = False

    def sources(self) -> dict[str, EncoderSource]:
        """Return the resolved encoder of each modality.

        Raises:
            UserError: If this machine lacks one.
        """
        return resolve_encoders(self.encoders, self.pooling, self.kinds)


class Workbench:
    """The data and encoders of a search, opened in this process, with its plugins loaded.

    Args:
        spec: Settings that all trials share.
        device: The device on which trials run.
        threads: Number of CPU threads that this process uses from now on.
        tick: Called as loading and filling the cache proceed.

    Attributes:
        data: The prepared dataset.
        task: The task to learn.
    """

    def __init__(self, spec: TrialSpec, device: torch.device, threads: int = 1, tick: Tick = no_tick) -> None:
        for plugin in spec.plugins:
            plugin.load()
        torch.set_num_threads(threads)
        self.spec = spec
        self.device = device
        self.tick = tick
        self.data = _open_prepared(spec, tick)
        self.task = read_task(spec.task)
        self._opened: dict[tuple[str, str, int, TrainingSetting], PrefixFeatures] = {}

    def context(self, setting: TrainingSetting) -> MethodContext:
        """Return the context from which a method is built; encoders are loaded once per process."""
        towers = {}
        spec = self.spec
        for modality, source in spec.encoders.items():
            self.tick()
            how = spec.pooling[modality], spec.kinds[modality], setting.attention
            towers[modality] = shared_tower(modality, source, *how)
        return setting.context(towers, self.task.output_size, self.task.query)

    @property
    def fused(self) -> tuple[str, ...]:
        """The modalities that methods fuse: all but a query's."""
        query = self.task.query
        return tuple(m for m in self.spec.encoders if query is None or m != query.modality)

    def loader(
        self, split: str, method: FusionMethod, setting: TrainingSetting, batch_size: int | None = None
    ) -> Loader:
        """Return the batches of a split, with the cached output of the frozen prefix if there is one.

        Args:
            split: ``train``, ``validation`` or ``test``.
            method: The method, which determines the modalities and the frozen prefix.
            setting: How steps are run.
            batch_size: Rows per batch; None takes the setting's.

        Raises:
            DiskFullError: If the setting requires cached output and the disk has no space for it.
            UserError: If the setting requires cached output and the cache cannot take it.
        """
        spec = self.spec
        features = {}
        if setting.prefix != "computed":
            for modality in method.prefix_layers():
                try:
                    features[modality] = self._features(split, modality, method, setting)
                except NoRoomError as error:
                    if spec.setting.prefix != "computed":
                        kind = DiskFullError if is_disk_full(error) else UserError
                        raise kind(f"--prefix {spec.setting.prefix}: {error}") from error
                    tell(f"{error}. Every step computes them, which takes longer.")
        if setting.prefix == "offloaded":
            for module in method.prefix_modules():
                module.to("cpu")  # it was moved to the device to compute the features
        return Loader(
            self.data.split(split),
            method.modalities,
            batch_size or setting.batch_size,
            self.device,
            features,
            get_augmentation(spec.augment) if split == "train" else None,
            method.uses_presence,
            self.fused,
        )

    def encoded(self, split: str, tower: Tower, setting: TrainingSetting) -> EncodedSplit:
        """Return a tower's modality of a split, as the tower reads it on this device."""
        fingerprint = self.spec.fingerprints[tower.modality]
        return EncodedSplit(self.data, split, tower, fingerprint, setting, self.device)

    def fill(self, splits: Iterable[str], method: FusionMethod, setting: TrainingSetting) -> None:
        """Fill the cache with the output of a method's frozen prefix, if the setting reads it from there.

        What another process computes at the moment comes last, so that processes that need the same share the
        work. What the cache cannot take is left to ``loader``.

        Args:
            splits: Names of the splits.
            method: The method.
            setting: How steps are run.
        """
        if setting.prefix == "computed":
            return
        wanted = [(split, modality) for split in splits for modality in method.prefix_layers()]
        features = FeatureCache(self.spec.feature_cache)
        elsewhere = []
        for split, modality in wanted:
            if features.busy(self.encoded(split, method.tower(modality), setting)):
                elsewhere.append((split, modality))
                continue
            with contextlib.suppress(NoRoomError):
                self._features(split, modality, method, setting)
        for split, modality in elsewhere:
            with contextlib.suppress(NoRoomError):
                self._features(split, modality, method, setting)

    def _features(
        self, split: str, modality: str, method: FusionMethod, setting: TrainingSetting
    ) -> PrefixFeatures:
        """Return the cached output of a frozen prefix; it is computed if the cache lacks it.

        It stays open, so that it need not be computed again if the cache removes it for another split. It is
        computed in batches of the search's own size, whatever the configuration's, because their memory is
        what ``MemoryPredictor.encoding_memory`` predicts.
        """
        shared = self.spec.setting
        setting = replace(
            setting, batch_size=shared.batch_size, gradient_accumulation=shared.gradient_accumulation
        )
        layer = method.prefix_layers()[modality]
        key = split, modality, layer, setting
        if key not in self._opened:
            of = self.encoded(split, method.tower(modality), setting)
            others = self.spec.prefixes.get(modality, ())
            self._opened[key] = FeatureCache(self.spec.feature_cache).features(of, layer, others, self.tick)
        return self._opened[key]


@cache
def shared_tower(modality: str, source: str, pooling: str, kind: str, attention: str) -> Tower:
    """Return an encoder, which is loaded once per process."""
    return load_tower(resolve_encoder(modality, source, pooling, kind), attention=attention)


def has_prepared(spec: TrialSpec, tick: Tick = no_tick) -> bool:
    """Return whether the prepared data of a search are in this machine's cache."""
    return ready(_prepared_folder(spec), tick=tick)


def opened(spec: TrialSpec) -> Dataset:
    """Return the dataset of a search, as this machine has it.

    Raises:
        UserError: If this machine lacks it.
    """
    settings = replace(spec.task_settings, task=spec.task["task"])
    return without_missing(open_dataset(spec.dataset, settings, spec.reading), spec.encoders, spec.missing)


#: What ``described_data`` has found, by the key of the prepared data.
_described: dict[str, dict[str, Any]] = {}


def described_data(spec: TrialSpec) -> dict[str, Any]:
    """Return ``PreparedData.info`` of a search's data, which need not be in this machine's cache.

    If they are not, the dataset is opened, once per process, but not prepared.

    Raises:
        UserError: If this machine lacks the dataset or an encoder, or has others.
    """
    if spec.prepared not in _described:
        if has_prepared(spec):
            info = PreparedData(_prepared_folder(spec)).info
        else:
            task = read_task(spec.task)
            info = description_of(opened(spec), spec.sources(), spec.setting.sizes, task, spec.reading)
            _require_same(spec, key_of(info))
        _described[spec.prepared] = info
    return _described[spec.prepared]


def _prepared_folder(spec: TrialSpec) -> Path:
    return cache_dir() / "prepared" / spec.prepared


def _open_prepared(spec: TrialSpec, tick: Tick) -> PreparedData:
    if has_prepared(spec, tick):
        return PreparedData(_prepared_folder(spec), spec.few, spec.reading.bad_rows)
    # This is the first trial on a node other than the one that started the search.
    data = prepare(
        opened(spec),
        spec.sources(),
        spec.setting.sizes,
        task=read_task(spec.task),
        few=spec.few,
        reading=spec.reading,
        progress=lambda *_: tick(),
        tick=tick,
    )
    _require_same(spec, data.key)
    return data


def _require_same(spec: TrialSpec, key: str) -> None:
    if key != spec.prepared:
        raise UserError(
            f"dataset '{spec.dataset}': {platform.node()} has other data than the machine that started the "
            "search; copy it from there"
        )
