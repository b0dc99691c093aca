"""Wires a search together and runs it: the Python API behind the command line."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import ray
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from ray import tune
from ray.tune import Callback, CheckpointConfig, FailureConfig, RunConfig, TuneConfig
from rich.console import Console

from search.config import SearchConfig
from search.history import UNFINISHED, History, TrialRecord
from search.objectives import get_objectives, reference_values
from search.progress import Progress, error_console
from search.report import front_rows, memory_rows, method_rows, plot_front
from search.resources import Node, Placement, find_nodes, place
from search.study import ParetoSearcher, make_sampler
from search.survival import Survival
from search.tracking import Tracker
from search.units import GIB, format_size
from spaces import Space, SpaceContext, get_space, with_checkpointing
from trainables.cache import cache_dir
from trainables.configuration import split_config
from trainables.data import DATASETS, Dataset, PreparedData, open_dataset, prepare, typical_text_length
from trainables.errors import UserError
from trainables.memo import PredictionMemo
from trainables.memory import MemoryPredictor, MemoryReport
from trainables.plugin import Plugin
from trainables.setting import TrainingSetting
from trainables.towers import EncoderSource, resolve_encoder
from trainables.trial import FusionTrial, TrialSpec, test_metrics


@dataclass(frozen=True)
class SearchResult:
    """How a search ended.

    Attributes:
        name: The search's name.
        space: The space's name.
        parent_run_id: MLflow's id of the search.
        trials: Trials that ran all epochs.
        infeasible: Candidates above the budget, never started.
        out_of_memory: Trials that ran out of memory, alone or within their share of a device.
        diverged: Trials whose loss or metrics became infinite or not a number.
        failed: Trials that ended in an error, or whose worker died, once more than ``max_failures``.
        hypervolume: Share (0 to 1) of the objectives' box that the front dominates.
        front: The front, cheapest first; one document a member.
        methods: The best trial of each method, best first; documents as the front's.
        interrupted: Whether Ctrl-C ended the search.
        exhausted: Whether the space held no further feasible configuration.
        errors: What happened to each trial that failed.
        depths: Layers of each encoder.
        folder: Where results lie.
        memory: Predicted and measured memory of each trial, see ``memory_rows``.
    """

    name: str
    space: str
    parent_run_id: str
    trials: int
    infeasible: int
    out_of_memory: int
    diverged: int
    failed: int
    hypervolume: float
    front: list[dict[str, Any]]
    methods: list[dict[str, Any]]
    interrupted: bool
    exhausted: bool
    errors: list[str]
    depths: dict[str, int]
    folder: str
    memory: list[dict[str, Any]]

    def to_dict(self) -> dict[str, Any]:
        """Return the documented JSON document."""
        names = ("name", "space", "parent_run_id", "trials", "infeasible", *UNFINISHED)
        return {name: getattr(self, name) for name in (*names, "hypervolume", "front", "methods", "memory")}


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
        hang_timeout=config.hang_timeout,
        plugins=tuple(Plugin.read(path) for path in config.plugins),
    )
    with _cluster(config):
        nodes = find_nodes(config.gpu_memory)
        _require_gpus(config, nodes)
        placement = place(
            nodes,
            config.num_samples,
            max_concurrent=config.max_concurrent,
            gpus_per_trial=config.gpus_per_trial,
            gpu_memory=config.gpu_memory,
            packing=config.packing,
            attention=config.attention,
        )
        _require_room(search, placement)
        tracker = Tracker(config, search.history, search.details)
        local = _local_folder(config)
        local.mkdir(parents=True, exist_ok=True)
        (local / "config.json").write_text(config.to_json())
        searcher = _searcher(search, placement, local)
        try:
            finished = _tune(search, spec, placement, searcher, tracker, console)
            _score_test(search, spec, searcher, console)
        except BaseException:
            searcher.close()
            tracker.close("FAILED", {}, None)
            raise
    return _finish(search, searcher, tracker, local, interrupted=not finished)


def _resolve(config: SearchConfig, console: Console) -> _Resolved:
    if "://" not in config.storage and (Path(config.storage) / config.run_name).exists():
        raise UserError(f"--name {config.run_name}: {config.storage} holds a search of that name already")
    space = get_space(config.space)
    if config.gradient_checkpointing == "search":
        space = with_checkpointing(space)
    dataset = open_dataset(config.dataset)
    encoders = {modality: resolve_encoder(modality, name) for modality, name in config.encoders.items()}
    dataset.require(encoders)
    for encoder in encoders.values():
        encoder.weights_location()  # refuses architectures without weights
    setting = TrainingSetting(
        batch_size=config.batch_size,
        gradient_accumulation=config.gradient_accumulation,
        text_length=config.text_length or typical_text_length(dataset, encoders["text"]),
        image_size=config.image_size or encoders["image"].image_size or 224,
        precision=config.precision,
        attention=config.attention,
        encoder_dropout=config.encoder_dropout,
        gradient_checkpointing=config.gradient_checkpointing == "on",
        prefix=config.prefix,
        optimizer=config.optimizer,
        optimizer_kernel=config.optimizer_kernel,
    )
    context = SpaceContext.of(encoders)
    predictor = MemoryPredictor(encoders, len(dataset.classes), setting, memo=PredictionMemo())
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
    least = _least(space, context, lambda config: predictor.predict_configuration(config).total, limit)
    if least > limit:
        raise UserError(
            f"--max-memory {format_size(limit)}: nothing in space '{space.name}' fits; its smallest "
            f"configuration takes {format_size(least)} at batch size {predictor.setting.batch_size}"
        )


def _least(space: Space, context: SpaceContext, cost: Callable[[dict[str, Any]], int], enough: int) -> int:
    """Return what the cheapest of a space's smallest members costs, or the first that costs little enough."""
    found: list[int] = []
    for config in space.smallest(context):
        found.append(cost(config))
        if found[-1] <= enough:
            break
    return min(found)


def _largest(
    space: Space, context: SpaceContext, predictor: MemoryPredictor, console: Console
) -> list[MemoryReport]:
    """Predict the space's largest configurations; of a space of many methods there are many."""
    ends = space.largest(context)
    with console.status(f"predicting the memory of space '{space.name}'") as status:
        reports = []
        for number, config in enumerate(ends):
            status.update(f"predicting the memory of space '{space.name}': {number} of {len(ends)}")
            reports.append(predictor.predict_configuration(config))
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
def _cluster(config: SearchConfig) -> Iterator[None]:
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
        yield
    finally:
        if started:
            ray.shutdown()


def _require_gpus(config: SearchConfig, nodes: list[Node]) -> None:
    """Refuse to wait for GPUs on this machine alone, where none will come."""
    alone = config.address in (None, "local") and not os.environ.get("RAY_ADDRESS")
    if alone and (config.gpus_per_trial or config.gpu_memory) and not any(node.gpus for node in nodes):
        option = "--gpus-per-trial" if config.gpus_per_trial else "--gpu-memory"
        raise UserError(f"{option}: there is no GPU here; leave it out, or join a cluster with --address")


def _require_room(search: _Resolved, placement: Placement) -> None:
    """Refuse a cluster on which no configuration could ever be placed."""
    if placement.limit is None:
        return

    def needed(config: dict[str, Any]) -> int:
        expected = search.predictor.predict_as_run(config, cached=search.config.feature_cache)
        return placement.needed(expected.total)

    least = _least(search.space, search.context, needed, placement.limit)
    if least > placement.limit:
        raise UserError(
            f"space '{search.space.name}': its smallest configuration needs {format_size(least)} of a "
            f"device, and a trial can have {format_size(placement.limit)} here; choose a smaller "
            "--batch-size or larger devices"
        )


def _local_folder(config: SearchConfig) -> Path:
    """The search's folder on this machine; beside the trials unless those are stored remotely."""
    if "://" in config.storage:
        return cache_dir() / "searches" / config.run_name
    return Path(config.storage) / config.run_name


def _searcher(search: _Resolved, placement: Placement, folder: Path) -> ParetoSearcher:
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
        placement,
        config.num_samples,
        config.epochs,
        config.max_memory,
        config.feature_cache,
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
        record = self.history.trials[trial.trial_id]
        record.worker = trial.temporary_state.ray_actor._actor_id.hex()
        self.tracker.start(record)
        self.progress.update()

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        # Ray Tune tells callbacks of a trial's last result before it tells the searcher.
        self.history.note(trial.trial_id, result)
        self.tracker.epoch(self.history.trials[trial.trial_id])
        self.progress.update()

    def on_trial_save(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.history.trials[trial.trial_id].checkpoint = trial.checkpoint

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        record = self.history.trials[trial.trial_id]
        if record.status == "running":
            record.failures += 1
            self._say(record, f"goes on after epoch {len(record.epochs)}: {record.message}")

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.end(self.history.trials[trial.trial_id])

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        record = self.history.trials[trial.trial_id]
        self._say(record, f"{record.status}: {record.message} ({trial.error_file or 'no further details'})")
        self.tracker.end(record)

    def end(self, record: TrialRecord) -> None:
        """Close a trial's books."""
        if record.ending is not None:
            self._say(record, record.message)
        self.tracker.end(record)

    def _say(self, record: TrialRecord, what: str) -> None:
        self.console.print(f"trial {record.trial_id} {what}", markup=False, soft_wrap=True)


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
        f"{placement.summary}; batch {setting.batch_size}, "
        f"{setting.text_length} tokens, {setting.image_size} px",
        markup=False,
        soft_wrap=True,
    )
    if placement.note:
        console.print(placement.note, markup=False, soft_wrap=True)
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # we say which trials failed
    deadline = time.monotonic() + config.time_budget if config.time_budget is not None else None
    with Progress(console, search.history, config.num_samples, config.epochs) as progress:
        events = _Events(search.history, tracker, progress, console)

        def tuner() -> tune.Tuner:
            return tune.Tuner(
                tune.with_resources(
                    tune.with_parameters(FusionTrial, spec=spec),
                    lambda trial: placement.of(trial["needed"], alone=trial["alone"]).request(),
                ),
                tune_config=TuneConfig(
                    search_alg=searcher,
                    scheduler=Survival(search.history),
                    num_samples=-1,  # the searcher counts
                    max_concurrent_trials=placement.concurrent,
                    time_budget_s=None if deadline is None else max(1.0, deadline - time.monotonic()),
                    reuse_actors=True,
                    trial_dirname_creator=lambda trial: trial.trial_id,
                ),
                run_config=RunConfig(
                    name=config.run_name,
                    storage_path=config.storage,
                    failure_config=FailureConfig(max_failures=config.max_failures),
                    checkpoint_config=CheckpointConfig(
                        checkpoint_frequency=1, num_to_keep=1, checkpoint_at_end=True
                    ),
                    callbacks=[events],
                    verbose=0,
                ),
            )

        while True:
            try:
                tuner().fit()
                break
            except RuntimeError as error:
                # Ray Tune (2.60) takes the death of a worker as an event, but not at the hand of Ray's memory
                # monitor: it ends all trials and gives up.
                if not isinstance(error.__cause__, ray.exceptions.OutOfMemoryError):
                    raise
                for record in searcher.break_off(str(error.__cause__)):
                    events.end(record)
    return not searcher.close() or config.time_budget is not None


def _score_test(search: _Resolved, spec: TrialSpec, searcher: ParetoSearcher, console: Console) -> None:
    """Score the front, and the best of each method, on the test split, which the search itself never sees."""
    history = search.history
    chosen = {record.trial_id: record for record in (*history.front(), *history.best_of_methods())}
    scored = [record for record in chosen.values() if record.checkpoint]
    score = ray.remote(_test_of)
    with console.status(f"scoring the {len(scored)} best trials on the test split"):
        futures = [
            score.options(**searcher.share(record).options()).remote(spec, record.config, record.checkpoint)
            for record in scored
        ]
        for record, future in zip(scored, futures, strict=True):
            try:
                record.test = ray.get(future)
            except ray.exceptions.RayError as error:
                reason = str(error).strip().splitlines()[-1]
                console.print(
                    f"trial {record.trial_id} has no test score: {reason}", markup=False, soft_wrap=True
                )


def _test_of(spec: TrialSpec, config: dict[str, Any], checkpoint: tune.Checkpoint) -> dict[str, float]:
    with checkpoint.as_directory() as folder:
        return test_metrics(spec, config, Path(folder))


def _finish(
    search: _Resolved, searcher: ParetoSearcher, tracker: Tracker, local: Path, *, interrupted: bool
) -> SearchResult:
    config, history = search.config, search.history
    rows, methods, measured = front_rows(history), method_rows(history), memory_rows(history)
    picture = local / "front.png" if history.front() else None
    if picture:
        plot_front(history, picture, f"{config.run_name} on {config.dataset}", config.max_memory)
    result = SearchResult(
        name=config.run_name,
        space=config.space,
        parent_run_id=tracker.parent_id,
        trials=len(history.by_status("finished")),
        infeasible=len(history.infeasible),
        **{status: len(history.by_status(status)) for status in UNFINISHED},
        hypervolume=history.hypervolume(),
        front=rows,
        methods=methods,
        interrupted=interrupted,
        exhausted=searcher.exhausted,
        errors=[record.message for record in history.by_status("failed")],
        depths=dict(search.context.depths),
        folder=str(local),
        memory=measured,
    )
    (local / "result.json").write_text(json.dumps(result.to_dict(), indent=1))
    tables = {"front.json": rows, "methods.json": methods, "memory.json": measured}
    tracker.close("KILLED" if interrupted else "FINISHED", tables, picture)
    return result
