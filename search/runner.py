"""Wires a search together and runs it: the Python API behind the command line."""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import optuna
import ray
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from ray import tune
from ray.tune import Callback, CheckpointConfig, RunConfig, TuneConfig
from rich.console import Console

from search.config import SearchConfig
from search.history import History
from search.objectives import get_objectives, reference_values
from search.progress import Progress, error_console
from search.report import front_rows, method_rows, plot_front
from search.resources import Placement, place
from search.study import ParetoSearcher, make_sampler
from search.tracking import Tracker
from search.units import GIB, format_size
from spaces import Space, SpaceContext, get_space
from trainables.cache import cache_dir
from trainables.data import DATASETS, Dataset, PreparedData, open_dataset, prepare, typical_text_length
from trainables.errors import UserError
from trainables.memory import MemoryPredictor, MemoryReport
from trainables.plugin import Plugin
from trainables.setting import TrainingSetting
from trainables.towers import EncoderSource, resolve_encoder
from trainables.trial import FusionTrial, TrialSpec, split_config, test_metrics


@dataclass(frozen=True)
class SearchResult:
    """How a search ended.

    Attributes:
        name: The search's name.
        space: The space's name.
        parent_run_id: MLflow's id of the search.
        trials: Trials that ran all epochs.
        infeasible: Candidates above the budget, never started.
        failed: Trials that ended in an error.
        hypervolume: Share (0 to 1) of the objectives' box that the front dominates.
        front: The front, cheapest first; one document a member.
        methods: The best trial of each method, best first; documents as the front's.
        interrupted: Whether Ctrl-C ended the search.
        exhausted: Whether the space held no further feasible configuration.
        errors: First line of each failed trial's error.
        depths: Layers of each encoder.
        folder: Where results lie.
    """

    name: str
    space: str
    parent_run_id: str
    trials: int
    infeasible: int
    failed: int
    hypervolume: float
    front: list[dict[str, Any]]
    methods: list[dict[str, Any]]
    interrupted: bool
    exhausted: bool
    errors: list[str]
    depths: dict[str, int]
    folder: str

    def to_dict(self) -> dict[str, Any]:
        """Return the documented JSON document."""
        names = ("name", "space", "parent_run_id", "trials", "infeasible", "failed", "hypervolume")
        return {name: getattr(self, name) for name in (*names, "front", "methods")}


@dataclass(frozen=True)
class _Resolved:
    """A search's settings with everything looked up and checked; nothing is written yet."""

    config: SearchConfig
    space: Space
    dataset: Dataset
    context: SpaceContext
    encoders: dict[str, EncoderSource]
    setting: TrainingSetting
    predictor: MemoryPredictor
    history: History
    details: dict[str, Any]


def run_search(config: SearchConfig, *, console: Console | None = None) -> SearchResult:
    """Run a search to its end.

    Args:
        config: The settings.
        console: Where progress is shown; None is standard error.

    Returns:
        The front and the counts.

    Raises:
        UserError: If the settings, the data or the encoders cannot be used; nothing is left behind.
    """
    console = console or error_console()
    search = _resolve(config, console)
    data = _prepare(search, console)
    spec = TrialSpec(
        # Workers run in folders of their own: relative paths would mean something else there.
        dataset=config.dataset if config.dataset in DATASETS else str(Path(config.dataset).resolve()),
        prepared=data.key,
        encoders={modality: encoder.address for modality, encoder in search.encoders.items()},
        fingerprints={modality: encoder.fingerprint() for modality, encoder in search.encoders.items()},
        setting=search.setting,
        epochs=config.epochs,
        seed=config.seed,
        augment=config.augment,
        feature_cache=config.feature_cache_size if config.feature_cache else 0,
        prefixes=_prefixes(search),
        plugins=tuple(Plugin.read(path) for path in config.plugins),
    )
    with _cluster(config) as resources:
        placement = place(resources, config.num_samples, config.max_concurrent, config.gpus_per_trial)
        spec = replace(spec, threads=placement.cpus)
        tracker = Tracker(config, search.history, search.details)
        local = _local_folder(config)
        local.mkdir(parents=True, exist_ok=True)
        (local / "config.json").write_text(config.to_json())
        searcher = _searcher(search, local)
        try:
            finished = _tune(search, spec, placement, searcher, tracker, console)
            _score_test(search.history, spec, placement, console)
        except BaseException:
            tracker.close("FAILED", {}, None)
            raise
    return _finish(search, searcher, tracker, local, interrupted=not finished)


def _resolve(config: SearchConfig, console: Console) -> _Resolved:
    if "://" not in config.storage and (Path(config.storage) / config.run_name).exists():
        raise UserError(f"--name {config.run_name}: {config.storage} holds a search of that name already")
    space = get_space(config.space)
    dataset = open_dataset(config.dataset)
    encoders = {modality: resolve_encoder(modality, name) for modality, name in config.encoders.items()}
    dataset.require(encoders)
    for encoder in encoders.values():
        encoder.weights_location()  # refuses architectures without weights
    setting = TrainingSetting(
        batch_size=config.batch_size,
        text_length=config.text_length or typical_text_length(dataset, encoders["text"]),
        image_size=config.image_size or encoders["image"].image_size or 224,
        precision=config.precision,
        attention=config.attention,
        encoder_dropout=config.encoder_dropout,
        optimizer=config.optimizer,
    )
    context = SpaceContext.of(encoders)
    predictor = MemoryPredictor(encoders, len(dataset.classes), setting)
    if config.max_memory is not None:
        _require_a_fit(space, context, predictor, config.max_memory)
    largest = _largest(space, context, predictor, console)
    objectives = get_objectives(config.objectives)
    reference = reference_values(
        objectives,
        memory=(config.max_memory or 1.1 * max(report.total for report in largest)) / GIB,
        params=1.1 * max(report.trainable_parameters for report in largest),
        n_classes=len(dataset.classes),
    )
    details = {
        "resolved.text_length": setting.text_length,
        "resolved.image_size": setting.image_size,
        "dataset.fingerprint": dataset.fingerprint,
        "dataset.classes": len(dataset.classes),
        **{f"dataset.{split}": dataset.count(split) for split in dataset.files},
        **{f"encoder.{m}.fingerprint": encoder.fingerprint() for m, encoder in encoders.items()},
        **{f"reference.{name}": value for name, value in reference.items()},
    }
    history = History(objectives, reference)
    return _Resolved(config, space, dataset, context, encoders, setting, predictor, history, details)


def _require_a_fit(space: Space, context: SpaceContext, predictor: MemoryPredictor, limit: int) -> None:
    """Refuse a budget in which no configuration fits."""
    totals = []
    for config in space.smallest(context):
        totals.append(predictor.predict(*split_config(config)).total)
        if totals[-1] <= limit:
            return
    raise UserError(
        f"--max-memory {format_size(limit)}: nothing in space '{space.name}' fits; its smallest "
        f"configuration takes {format_size(min(totals))} at batch size {predictor.setting.batch_size}"
    )


def _largest(
    space: Space, context: SpaceContext, predictor: MemoryPredictor, console: Console
) -> list[MemoryReport]:
    """Predict the space's largest configurations; of a space of many methods there are many."""
    ends = space.largest(context)
    with console.status(f"predicting the memory of space '{space.name}'") as status:
        reports = []
        for number, config in enumerate(ends):
            status.update(f"predicting the memory of space '{space.name}': {number} of {len(ends)}")
            reports.append(predictor.predict(*split_config(config)))
    return reports


def _prepare(search: _Resolved, console: Console) -> PreparedData:
    dataset, setting = search.dataset, search.setting
    with console.status(f"preparing '{dataset.name}'") as status:
        return prepare(
            dataset,
            search.encoders,
            text_length=setting.text_length,
            image_size=setting.image_size,
            progress=lambda split, done, total: status.update(
                f"preparing '{dataset.name}': {split} {done:,} of {total:,}"
            ),
        )


def _prefixes(search: _Resolved) -> dict[str, tuple[int, ...]]:
    """The frozen depths that the space's members may have, between its smallest and largest members."""
    found: dict[str, set[int]] = {modality: set() for modality in search.encoders}
    for ends in zip(search.space.smallest(search.context), search.space.largest(search.context), strict=True):
        depths = [search.predictor.prefix_layers(*split_config(end)) for end in ends]
        for modality, layers in found.items():
            given = [depth[modality] for depth in depths if modality in depth]
            if given:
                layers |= set(range(min(given), max(given) + 1))
    return {modality: tuple(sorted(layers)) for modality, layers in found.items() if layers}


@contextlib.contextmanager
def _cluster(config: SearchConfig) -> Iterator[dict[str, float]]:
    """Join or start Ray; one that was started here is stopped here."""
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
    started = not ray.is_initialized()
    if started:
        address = config.address or os.environ.get("RAY_ADDRESS") or "local"
        options: dict[str, Any] = {}
        if address == "local":
            options["include_dashboard"] = False
            os.environ["PARETOFUSE_CACHE"] = str(cache_dir())  # relative, it would move with the workers
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **options)
        except (ConnectionError, ValueError) as error:
            reason = str(error).strip().splitlines()[0]
            raise UserError(f"--address {address}: no Ray cluster can be joined there ({reason})") from error
    try:
        yield ray.cluster_resources()
    finally:
        if started:
            ray.shutdown()


def _local_folder(config: SearchConfig) -> Path:
    """The search's folder on this machine; beside the trials unless those are stored remotely."""
    if "://" in config.storage:
        return cache_dir() / "searches" / config.run_name
    return Path(config.storage) / config.run_name


def _searcher(search: _Resolved, folder: Path) -> ParetoSearcher:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    config = search.config
    study = optuna.create_study(
        study_name=config.run_name,
        directions=[StudyDirection[o.direction.upper()] for o in search.history.objectives],
        sampler=make_sampler(config.sampler, config.num_samples, config.seed),
        storage=JournalStorage(JournalFileBackend(str(folder / "optuna.journal"))),
    )
    return ParetoSearcher(
        study,
        search.space,
        search.context,
        search.predictor,
        search.history,
        config.epochs,
        config.max_memory,
    )


class _Events(Callback):
    """Passes Ray Tune's events on to history, tracking and progress."""

    def __init__(self, history: History, tracker: Tracker, progress: Progress, console: Console) -> None:
        self.history = history
        self.tracker = tracker
        self.progress = progress
        self.console = console

    def __getstate__(self) -> dict[str, Any]:
        # Ray Tune pickles its callbacks; a terminal and a tracking client cannot be, nor need they be.
        return {}

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.tracker.start(self.history.trials[trial.trial_id])
        self.progress.update()

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        # Ray Tune tells callbacks of a trial's last result before it tells the searcher.
        self.history.note(trial.trial_id, result)
        self.tracker.epoch(self.history.trials[trial.trial_id])
        self.progress.update()

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        if trial.checkpoint:
            self.history.trials[trial.trial_id].checkpoint = trial.checkpoint
        self.tracker.end(self.history.trials[trial.trial_id])

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        record = self.history.trials[trial.trial_id]
        record.status = "failed"
        record.message = _last_line(trial)
        where = getattr(trial, "error_file", None) or "no further details"
        self.console.print(
            f"trial {trial.trial_id} failed: {record.message} ({where})", markup=False, soft_wrap=True
        )
        self.tracker.end(record)


def _tune(
    search: _Resolved,
    spec: TrialSpec,
    placement: Placement,
    searcher: ParetoSearcher,
    tracker: Tracker,
    console: Console,
) -> bool:
    """Run the trials; return whether the search came to its own end."""
    config = search.config
    setting = search.setting
    console.print(
        f"search '{config.run_name}': {config.num_samples} trials of {config.epochs} epochs, "
        f"{placement.concurrent} at once on {placement.request}; batch {setting.batch_size}, "
        f"{setting.text_length} tokens, {setting.image_size} px",
        markup=False,
        soft_wrap=True,
    )
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # we say which trials failed
    with Progress(console, search.history, config.num_samples, config.epochs) as progress:
        tune.Tuner(
            tune.with_resources(tune.with_parameters(FusionTrial, spec=spec), placement.request),
            tune_config=TuneConfig(
                search_alg=searcher,
                num_samples=config.num_samples,
                max_concurrent_trials=placement.concurrent,
                time_budget_s=config.time_budget,
                reuse_actors=True,
                trial_dirname_creator=lambda trial: trial.trial_id,
            ),
            run_config=RunConfig(
                name=config.run_name,
                storage_path=config.storage,
                checkpoint_config=CheckpointConfig(num_to_keep=1, checkpoint_at_end=True),
                callbacks=[_Events(search.history, tracker, progress, console)],
                verbose=0,
            ),
        ).fit()
    interrupted = False
    for record in search.history.by_status("running"):
        record.status = "stopped"
        interrupted = True
    if config.time_budget:
        interrupted = False
    return not interrupted


def _score_test(history: History, spec: TrialSpec, placement: Placement, console: Console) -> None:
    """Score the front, and the best of each method, on the test split, which the search itself never sees."""
    chosen = {record.trial_id: record for record in (*history.front(), *history.best_of_methods())}
    scored = [record for record in chosen.values() if record.checkpoint]
    score = ray.remote(num_cpus=placement.cpus, num_gpus=placement.gpus)(_test_of)
    with console.status(f"scoring the {len(scored)} best trials on the test split"):
        futures = [score.remote(spec, record.config, record.checkpoint) for record in scored]
        for record, future in zip(scored, futures, strict=True):
            record.test = ray.get(future)


def _test_of(spec: TrialSpec, config: dict[str, Any], checkpoint: tune.Checkpoint) -> dict[str, float]:
    with checkpoint.as_directory() as folder:
        return test_metrics(spec, config, Path(folder))


def _finish(
    search: _Resolved, searcher: ParetoSearcher, tracker: Tracker, local: Path, *, interrupted: bool
) -> SearchResult:
    config, history = search.config, search.history
    rows, methods = front_rows(history), method_rows(history)
    picture = local / "front.png" if history.front() else None
    if picture:
        plot_front(history, picture, f"{config.run_name} on {config.dataset}", config.max_memory)
    result = SearchResult(
        name=config.run_name,
        space=config.space,
        parent_run_id=tracker.parent_id,
        trials=len(history.by_status("finished")),
        infeasible=len(history.infeasible),
        failed=len(history.by_status("failed")),
        hypervolume=history.hypervolume(),
        front=rows,
        methods=methods,
        interrupted=interrupted,
        exhausted=searcher.exhausted,
        errors=[record.message for record in history.by_status("failed")],
        depths=dict(search.context.depths),
        folder=str(local),
    )
    (local / "result.json").write_text(json.dumps(result.to_dict(), indent=1))
    tracker.close(
        "KILLED" if interrupted else "FINISHED", {"front.json": rows, "methods.json": methods}, picture
    )
    return result


def _last_line(trial: Any) -> str:
    """The line of a trial's error that says what happened."""
    path = getattr(trial, "error_file", None)
    lines: list[str] = []
    if path and Path(path).exists():
        lines = [line.strip() for line in Path(path).read_text().splitlines() if line.strip()]
    return lines[-1][:300] if lines else "unknown error"
