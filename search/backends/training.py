"""The backend that trains trials."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from typing import Any

from ray import tune
from rich.console import Console
from torch import Tensor

from search.backends.base import Exporter, Material, Scorer
from search.backends.modeling import ModelsOfTraining
from search.backends.preparing import preparing
from search.backends.trainable import FusionTrial
from search.config import SearchConfig, TargetSettings
from search.goals.constraints import objectives_read
from search.invocation import program
from spaces import Space, SpaceContext
from trainables.configuration import split_config
from trainables.data import (
    DATASETS,
    SPLITS,
    Dataset,
    FeatureCache,
    Few,
    PreparedData,
    address_of,
    bad_rows_as,
    default_encoders,
    in_words,
    input_sizes,
    missing_shares,
    open_dataset,
    prepare,
    warnings_on,
    without_missing,
)
from trainables.elastic import SupernetWeights
from trainables.errors import UserError
from trainables.memory import MemoryPredictor, MemoryReport
from trainables.memory.memo import PredictionMemo
from trainables.plugin import Plugin
from trainables.probe import Probes, predict_probe
from trainables.progress import Tick
from trainables.reading_settings import ReadingSettings
from trainables.step.setting import TrainingSetting
from trainables.tasks import Task
from trainables.towers import EncoderSource, check_encoder, resolve_encoders
from trainables.trial.export import export_encoders
from trainables.trial.probing import run_probes
from trainables.trial.provisions import Provisions
from trainables.trial.run import evaluate_on_test
from trainables.trial.workbench import TrialSpec

#: Notes, and warnings, that are said before a search.
_SAID = 4


def fused(encoders: Mapping[str, EncoderSource], task: Task) -> dict[str, EncoderSource]:
    """Return the encoders of the modalities that methods fuse: all, or all but the task's query.

    Raises:
        UserError: If the query is none of the modalities, or the only one.
    """
    if task.query is None:
        return dict(encoders)
    found = {m: encoder for m, encoder in encoders.items() if m != task.query.modality}
    if len(found) == len(encoders) or not found:
        known = ", ".join(encoders)
        raise UserError(f"--query {task.query.modality}: must be one of several modalities, {known}")
    return found


@dataclass(frozen=True)
class ProbesOfTraining:
    """The probes of a search that trains.

    Attributes:
        spec: The settings that all trials share.
        memory: See ``Probing``.
        expected: See ``Probing``.
    """

    spec: TrialSpec
    memory: Mapping[tuple[str, ...], MemoryReport]
    expected: int

    def run(self, threads: int, tick: Tick) -> Probes:
        """Run the probes; see ``Probing``."""
        return run_probes(self.spec, threads, tick)


@dataclass(frozen=True)
class PreparedTraining:
    """A training backend with prepared data and encoders.

    Attributes:
        spec: The settings that all trials share.
        predictor: Predicts memory.
        rows: Number of rows of each split.
        understood: What the dataset is understood to be, in lines.
        tested: Whether the test split has labels.
        label: The dataset's column of labels.
        provisions: What trials need on each machine.
    """

    spec: TrialSpec
    predictor: MemoryPredictor
    rows: Mapping[str, int]
    understood: tuple[str, ...]
    tested: bool
    label: str
    provisions: Provisions

    def trainable(self, inherited: SupernetWeights | None = None) -> Any:
        """Return the trainable that trains a trial."""
        return tune.with_parameters(FusionTrial, spec=self.spec, inherited=inherited)

    @property
    def scorer(self) -> Scorer | None:
        """Loads a trial's checkpoint and evaluates it; None if the test split has no labels."""
        return partial(evaluate_on_test, self.spec) if self.tested else None

    @property
    def exporter(self) -> Exporter:
        """Writes the encoders that a trial has trained."""
        return partial(export_encoders, self.spec)

    @property
    def modeler(self) -> ModelsOfTraining:
        """Writes trials and probes as models."""
        return ModelsOfTraining(self.spec, self.predictor.encoders, self.label)

    def probing(self, target: str) -> ProbesOfTraining:
        """Return what runs the probes."""
        everything = fused(self.predictor.encoders, self.predictor.task)
        read = dict.fromkeys([tuple(everything), *((modality,) for modality in everything)])
        here = self.predictor.changed(target=target)
        return ProbesOfTraining(
            self.spec,
            {names: predict_probe(self.predictor, names, self.rows) for names in read},
            max(predict_probe(here, names, self.rows).memory for names in read),
        )


@dataclass(frozen=True)
class TrainingBackend:
    """A backend that trains trials on a dataset, on top of encoders.

    Attributes:
        config: The search's settings.
        dataset: The dataset.
        encoders: The encoder of each modality.
        predictor: Predicts memory.
        data: The prepared data; None until they are read.
    """

    config: SearchConfig
    dataset: Dataset
    encoders: Mapping[str, EncoderSource]
    predictor: MemoryPredictor
    data: PreparedData | None = None

    @classmethod
    def of(cls, config: SearchConfig) -> TrainingBackend:
        """Look up and check the dataset and the encoders that the settings name.

        The predictor is for fp32 until ``in_precision`` is called.

        Raises:
            UserError: If one of them does not exist or cannot be used.
        """
        dataset = open_dataset(config.data.dataset, config.task, config.reading)
        asked, data = config.encoders, config.data
        names = default_encoders(dataset, data.modalities, asked.named, asked.by_kind)
        dataset = without_missing(dataset, names, data.missing)
        dataset.require_learnable()
        wanted, there = config.data.train_rows, dataset.count("train")
        if wanted is not None and wanted > there:
            raise UserError(f"--train-rows {wanted:,}: dataset '{dataset.name}' has {there:,} training rows")
        kinds = {modality: dataset.modalities[modality].kind for modality in names}
        encoders = resolve_encoders(names, asked.poolings, kinds)
        for encoder in encoders.values():
            check_encoder(encoder)
        setting = TrainingSetting.of(
            config.step,
            precision="fp32",
            **asdict(
                input_sizes(
                    dataset,
                    encoders,
                    text_length=data.text_length,
                    image_size=asked.image_size,
                    audio_seconds=data.audio_seconds,
                    feature_length=data.feature_length,
                )
            ),
            gradient_checkpointing=config.trial.gradient_checkpointing == "on",
            **config.target.changes(),
        )
        read = objectives_read(config.search.objectives, config.search.all_constraints, dataset.task)
        predictor = MemoryPredictor(
            encoders,
            dataset.task,
            setting,
            memo=PredictionMemo(),
            inference=any(objective.inference for objective in read),
        )
        return cls(config, dataset, encoders, predictor)

    @cached_property
    def context(self) -> SpaceContext:
        """The depths and widths of the fused encoders, on which the space depends."""
        return SpaceContext.of(fused(self.encoders, self.task))

    @property
    def task(self) -> Task:
        """The task of the dataset."""
        return self.dataset.task

    @property
    def task_decided(self) -> str:
        """Who says that it is this task, in words."""
        return self.dataset.decided

    @cached_property
    def guess(self) -> Mapping[str, float]:
        """Values on the validation split without having learnt anything, by metric."""
        labels = self.labels("validation")
        assert labels is not None
        return self.task.guess(labels)

    @property
    def untested(self) -> str | None:
        """The test split may have no labels."""
        return None if "test" in self.dataset.labeled else "its rows have no labels"

    def labels(self, split: str) -> Tensor | None:
        """Return the labels of a split's rows, encoded by the task; None if they have none."""
        if split not in self.dataset.labeled:
            return None
        if self.data is not None:
            return self.data.split(split).labels
        labels = self.dataset.labels(split, self.encoders)
        return labels if self.few is None or split != "train" else labels[self.few.rows(labels)]

    @property
    def few(self) -> Few | None:
        """The rows of the training split that trials use; None stands for all."""
        count = self.config.data.train_rows
        return None if count is None else Few(count, self.config.search.seed)

    @cached_property
    def rows(self) -> dict[str, int]:
        """Number of rows of each split that are used."""
        if self.data is not None:
            return {split: len(self.data.split(split)) for split in SPLITS}
        counts = {split: self.dataset.count(split) for split in SPLITS}
        return counts if self.few is None else {**counts, "train": self.few.count}

    @cached_property
    def details(self) -> Mapping[str, Any]:
        """Resolved sizes and poolings, counts of rows, and the fingerprints of dataset and encoders."""
        dataset, setting = self.dataset, self.predictor.setting
        missing = missing_shares(dataset, self.encoders) if self.data is None else self.data.missing_shares
        return {
            **{f"resolved.{name}": value for name, value in setting.sizes.of(self.predictor.kinds).items()},
            "dataset.fingerprint": dataset.fingerprint,
            "task": self.task.in_words(),
            **{f"dataset.{name}": value for name, value in self.task.summary().items()},
            **{f"dataset.{split}": count for split, count in self.rows.items()},
            **{f"dataset.{m}.missing": share for m, share in missing.items()},
            **{f"encoder.{m}.fingerprint": encoder.fingerprint() for m, encoder in self.encoders.items()},
            **{f"encoder.{m}.pooling": encoder.pooling for m, encoder in self.encoders.items()},
        }

    @property
    def material(self) -> Material:
        """The dataset."""
        dataset, name = self.dataset, self.config.data.dataset
        there = {modality: dataset.modalities[modality] for modality in self.encoders}
        return Material(
            dataset=address_of(name),
            fingerprint=dataset.fingerprint,
            included=name in DATASETS,
            rows={split: dataset.count(split) for split in SPLITS},
            modalities={modality: (of.column, of.kind) for modality, of in there.items()},
            label=(dataset.label, self.task.name) if self.task.has_labels else None,
        )

    @property
    def precision(self) -> None:
        """None: the settings or the devices decide it."""

    def in_precision(self, precision: str) -> TrainingBackend:
        """Return the same backend with its trials and predictions in a precision."""
        return replace(self, predictor=self.predictor.changed(precision=precision))

    def on_target(self, target: TargetSettings) -> TrainingBackend:
        """Return the same backend with its predictions for a GPU."""
        return replace(self, predictor=self.predictor.changed(**target.changes()))

    @property
    def reading(self) -> ReadingSettings:
        """How the dataset is read."""
        reading = self.config.reading
        return replace(reading, bad_rows=bad_rows_as(reading.bad_rows, self.config.data.missing))

    def read(self, console: Console) -> TrainingBackend:
        """Return the same backend with the dataset prepared for the encoders."""
        if self.data is not None:
            return self
        dataset, few = self.dataset, self.few
        with preparing(dataset, console) as progress:
            sizes = self.predictor.setting.sizes
            data = prepare(dataset, self.encoders, sizes, few=few, reading=self.reading, progress=progress)
        there = len(data.split("train"))
        if few is not None and there < few.count:
            raise UserError(
                f"--train-rows {few.count:,}: dataset '{dataset.name}' has {there:,} training rows that can "
                "be read"
            )
        return replace(self, data=data)

    def prepare(self, space: Space, console: Console) -> PreparedTraining:
        """Prepare what trials need."""
        if self.data is None:
            return self.read(console).prepare(space, console)
        config, data, setting = self.config, self.data, self.predictor.setting
        named, trial = config.data.dataset, config.trial
        spec = TrialSpec(
            # Workers run in other folders, in which a relative path would not be found.
            dataset=address_of(named),
            task_settings=config.task,
            reading=self.reading,
            prepared=data.key,
            task=self.task.to_dict(),
            missing=config.data.missing,
            encoders={modality: encoder.address for modality, encoder in self.encoders.items()},
            pooling={modality: encoder.pooling for modality, encoder in self.encoders.items()},
            kinds={modality: encoder.kind for modality, encoder in self.encoders.items()},
            fingerprints={modality: encoder.fingerprint() for modality, encoder in self.encoders.items()},
            setting=setting,
            epochs=trial.epochs,
            few=self.few,
            recipe=config.recipe,
            augment=trial.augment,
            feature_cache=trial.feature_cache_size if trial.feature_cache else 0,
            prefixes=self._prefixes(space),
            hang_timeout=config.placement.hang_timeout,
            plugins=tuple(Plugin.read(path) for path in config.extensions.plugins),
            robustness=config.search.robustness,
        )
        if spec.feature_cache:
            # Here the user sees what is damaged; the trials of this machine need not look again.
            cache = FeatureCache(spec.feature_cache)
            cache.check(data, spec.fingerprints, spec.prefixes, spec.setting)
        tested = self.untested is None
        provisions = Provisions(spec, self.dataset.fingerprint)
        return PreparedTraining(
            spec, self.predictor, self.rows, self._understood, tested, self.dataset.label, provisions
        )

    @property
    def _understood(self) -> tuple[str, ...]:
        """What the dataset is understood to be, in a line, with one each for notes, labels and warnings."""
        said = {
            "data": [in_words(self.dataset, self.encoders, self.rows, self.data)],
            "note": self.dataset.notes,
            "labels": self.dataset.remarks,
            "warning": warnings_on(self.dataset, self.encoders),
        }
        rest = f"`{program()} data {self.dataset.name}` says more"
        return tuple(
            f"{of}: {'; '.join([*some[:_SAID], *([rest] if len(some) > _SAID else [])])}"
            for of, some in said.items()
            if some
        )

    def _prefixes(self, space: Space) -> dict[str, tuple[int, ...]]:
        """Return the numbers of frozen layers, by modality, that members of the space can have."""
        found: dict[str, set[int]] = {modality: set() for modality in self.encoders}
        for ends in zip(space.smallest(self.context), space.largest(self.context), strict=True):
            depths = [self.predictor.prefix_layers(*split_config(end)) for end in ends]
            for modality, layers in found.items():
                given = [depth[modality] for depth in depths if modality in depth]
                if given:
                    layers |= set(range(min(given), max(given) + 1))
        return {modality: tuple(sorted(layers)) for modality, layers in found.items() if layers}
