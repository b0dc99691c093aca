"""Training of the supernet with Ray Train; its memory is predicted and checked before it starts."""

from __future__ import annotations

import os
import random
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import ray
import ray.train
from ray.exceptions import RayError, RayTaskError
from ray.train import Checkpoint
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from search.backends.training import PreparedTraining
from search.checkpoints import PREFIX, in_folder, make_durable, storage
from search.config import SearchConfig
from search.engine.gate import Gate, HeadStart
from search.execution.room import Room
from search.execution.survival import find_hang, notes_folder
from search.goals.objectives import known_values
from search.nodes import NodeError, node_named, place_here
from search.placement import Placement, Share
from search.records.place import inner_path
from search.records.stays import DEVICE
from search.setup import Setup
from search.units import format_size
from spaces import SpaceContext, get_space
from spaces.subnets import draw_member, subnet_space
from trainables.configuration import recipe_changes, setting_changes, split_config
from trainables.errors import UserError
from trainables.memory import MemoryPredictor, MemoryReport
from trainables.progress import Tick
from trainables.step.setting import TrainingSetting
from trainables.supernet.prediction import predict_supernet
from trainables.supernet.run import SupernetPlan, SupernetRun
from trainables.supernet.step import Curriculum
from trainables.trial.checkpoint import load_whole
from trainables.trial.device import device_name, require_cuda
from trainables.trial.outcome import last_line
from trainables.trial.watchdog import Watchdog, examine
from trainables.trial.workbench import TrialSpec

#: Name of the supernet's record and of its folder, and the record's kind.
SUPERNET = "supernet"
#: The result of an epoch, a line for the user, or a user's mistake.
Message = dict[str, Any] | str | NodeError
#: Seconds to wait for the last results of the workers after they have ended.
_LAST_ANSWER = 60.0
#: Most parts that a batch is split into so that the supernet's step fits.
_MOST_PARTS = 64


@dataclass(frozen=True)
class SupernetJob:
    """A job for the workers that train a supernet; it is sent to other machines.

    Attributes:
        spec: The settings that all trials share, with those of the supernet's steps; see ``supernet_spec``.
        space: Name of the space.
        context: The encoders' depths and widths.
        learning_rate: Peak learning rate.
        epochs: Passes over the training split.
        paths: See ``Curriculum``.
        distill: See ``Curriculum``.
        seed: See ``SupernetPlan``.
    """

    spec: TrialSpec
    space: str
    context: SpaceContext
    learning_rate: float
    epochs: int
    paths: str
    distill: bool
    seed: int

    def plan(self) -> SupernetPlan:
        """Return the plan of the training; plugins are loaded first, because they may register the space."""
        for plugin in self.spec.plugins:
            plugin.load()
        space = subnet_space(get_space(self.space), self.context, self.learning_rate)
        largest, smallest = space.largest(self.context)[0], space.smallest(self.context)[0]
        first = space.at(space.first_points(self.context)[0], self.context).config

        def draw(rng: random.Random) -> dict[str, Any]:
            return _fields(draw_member(space, self.context, rng).config)

        return SupernetPlan(
            largest["method"],
            self.learning_rate,
            self.epochs,
            Curriculum(self.paths, self.distill, _fields(largest), _fields(smallest), draw),
            _fields(first),
            self.seed,
        )


@dataclass(frozen=True)
class SupernetOrder:
    """A supernet to train, with the memory and the devices that it needs.

    Attributes:
        job: The workers' job.
        config: Configuration of the largest subnet.
        memory: Predicted memory of a worker, in the search's setting.
        expected: Memory of a worker as and where this search runs it.
        share: The share of a device that each worker gets.
        workers: Number of workers.
    """

    job: SupernetJob
    config: dict[str, Any]
    memory: MemoryReport
    expected: MemoryReport
    share: Share
    workers: int


def supernet_spec(setup: Setup, spec: TrialSpec) -> TrialSpec:
    """Return the settings of a supernet: those of all trials, as the space's first point changes them.

    Args:
        setup: The setup of the search; its space is that of subnets.
        spec: The settings that all trials share.

    Raises:
        UserError: If the batch size cannot be divided among workers and the parts of their steps.
    """
    first = _first_point(setup)
    setting = replace(spec.setting, **setting_changes(first))
    workers, parts = setup.config.oneshot.workers, setting.gradient_accumulation
    if setting.batch_size % (workers * parts):
        raise UserError(
            f"--workers {workers} times --gradient-accumulation {parts}: must divide the batch_size of the "
            f"first point of space '{setup.space.name}', {setting.batch_size}"
        )
    return replace(spec, setting=setting, recipe=replace(spec.recipe, **recipe_changes(first)))


def order_supernet(
    setup: Setup, prepared: PreparedTraining, placement: Placement, gate: Gate, say: Callable[[str], None]
) -> SupernetOrder:
    """Split the supernet's steps into the fewest parts that satisfy the budget and fit a device.

    Args:
        setup: The setup of the search; its space is that of subnets.
        prepared: The backend that trains the supernet.
        placement: The devices and their memory.
        gate: Gives the bytes that a worker needs on its device.
        say: Called with a message if steps run in more parts than the settings ask for.

    Raises:
        UserError: If the supernet does not fit in any number of parts; and see ``supernet_spec``.
    """
    config = setup.config
    largest = setup.space.largest(setup.context)[0]
    spec = supernet_spec(setup, prepared.spec)
    setting = replace(spec.setting, batch_size=spec.setting.batch_size // config.oneshot.workers)
    job = SupernetJob(
        spec,
        config.search.space,
        setup.context,
        largest["learning_rate"],
        config.oneshot.supernet_epochs,
        config.oneshot.paths,
        config.oneshot.distill,
        config.search.seed,
    )
    plan = job.plan()
    gate = gate.starting(HeadStart.of(setup))
    tight: list[str] = []
    while True:
        memory, expected = _predicted(setup, prepared.predictor, setting, plan, placement.device)
        starting, limit = gate.needed_to_start(largest, expected), placement.limit
        if limit is not None and starting > limit:
            raise UserError(
                f"--head-start probe: the supernet of space '{config.search.space}' needs "
                f"{format_size(starting)} to start its head, and a device has {format_size(limit)}; use "
                "--head-start random"
            )
        needed = gate.needed_for(largest, expected)
        too_tight = _too_tight(setup, placement, memory, needed)
        if not too_tight:
            break
        tight = too_tight
        parts = 2 * setting.gradient_accumulation
        if parts > _MOST_PARTS or setting.batch_size % parts:
            stated = "batch_size" in setting_changes(_first_point(setup))
            raise UserError(
                f"--strategy oneshot: the supernet of space '{config.search.space}' takes "
                f"{format_size(memory.memory)}, however many parts its steps run in; that breaks "
                f"{' and '.join(tight)}; lower {'its batch_size' if stated else '--batch-size'}, or use "
                "--strategy trials"
            )
        setting = replace(setting, gradient_accumulation=parts)
    if tight:
        parts = setting.gradient_accumulation
        pairs = "; wrong pairs are those within a part" if setup.backend.task.query is not None else ""
        say(f"the supernet's steps run in {parts} parts, to keep to {' and '.join(tight)}{pairs}")
    accumulated = replace(spec.setting, gradient_accumulation=setting.gradient_accumulation)
    return SupernetOrder(
        replace(job, spec=replace(spec, setting=accumulated)),
        largest,
        replace(memory, inference=setup.predictor.predict_configuration(largest).inference),
        expected,
        placement.worker(needed, config.oneshot.workers),
        config.oneshot.workers,
    )


def train_supernet(
    order: SupernetOrder,
    config: SearchConfig,
    heard: Callable[[dict[str, Any]], None],
    say: Callable[[str], None],
) -> str:
    """Train a supernet, from its last whole checkpoint if it has one.

    Args:
        order: The supernet to train.
        config: The search's settings.
        heard: Called with the results of each epoch, and where the first worker is.
        say: Called with a message if a checkpoint is damaged, and if workers are replaced or find no room.

    Returns:
        The path of the last checkpoint in the search's folder; checkpoints go into its folder ``supernet``.

    Raises:
        UserError: If workers fail more often than ``max_failures``; or if a user's mistake keeps one from
            running, such as a dataset that its node lacks, a ``NodeError``.
    """
    from ray.train.torch import TorchTrainer
    from ray.train.v2._internal.constants import CHECKPOINT_MANAGER_SNAPSHOT_FILENAME

    from search.oneshot.network import NodeNetwork

    filesystem, path = storage(config.place.address)
    place = f"{path}/{SUPERNET}"
    # Ray Train's own note of its checkpoints is not flushed to the disk; the workers look for themselves.
    with suppress(FileNotFoundError):
        filesystem.delete_file(f"{place}/{CHECKPOINT_MANAGER_SNAPSHOT_FILENAME}")
    mailbox = ray.remote(num_cpus=0)(_Mailbox).remote()
    notes = f"{SUPERNET}-{uuid.uuid4().hex}"
    trainer = TorchTrainer(
        _work,
        train_loop_config={
            "job": order.job,
            "mailbox": mailbox,
            "threads": order.share.threads,
            "place": (filesystem, place),
            "notes": notes,
        },
        torch_config=NodeNetwork(check=partial(_check, mailbox, order.share.on_gpu)),
        scaling_config=ray.train.ScalingConfig(
            num_workers=order.workers,
            use_gpu=order.share.on_gpu,
            resources_per_worker=order.share.resources,
            label_selector=order.share.labels or None,
        ),
        run_config=ray.train.RunConfig(
            name=SUPERNET,
            storage_path=config.place.address,
            failure_config=ray.train.FailureConfig(max_failures=config.placement.max_failures),
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=2),
        ),
    )
    # Ray Train runs in an actor, because it takes over SIGINT, and because an actor can be ended at any time,
    # with all that it has started.
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    fitting = ray.remote(num_cpus=0)(_Fitting).options(scheduling_strategy=here).remote()
    settings = {name: value for name, value in os.environ.items() if name.startswith("RAY_TRAIN_")}
    fitted = fitting.fit.remote(trainer, settings)
    try:
        room = Room(say, "a worker of the supernet", may_run=True)
        for message in _messages(mailbox, fitted, config, partial(room.wanted, order.share)):
            if isinstance(message, NodeError):
                raise NodeError(f"the supernet's training failed: {message}")
            if isinstance(message, str):
                say(f"{SUPERNET} {message}")
            else:
                heard(message)
        ray.get(fitted)
    except RayError as error:
        reason = _reason(error, notes, order.workers)
        raise UserError(
            f"the supernet's training failed: {reason}; `{config.place.resume_command}` resumes from its "
            "last epoch"
        ) from error
    except BaseException:
        ray.kill(fitting)
        raise
    return inner_path(next(in_folder(filesystem, place)).path)


def _messages(
    mailbox: Any, fitted: Any, config: SearchConfig, waits: Callable[[], None]
) -> Iterator[Message]:
    """Yield what workers leave in the mailbox, until the training has ended.

    Args:
        mailbox: The mailbox.
        fitted: The end of the training.
        config: The search's settings.
        waits: Called while nothing is in the mailbox.

    Raises:
        UserError: If the mailbox is gone.
    """
    answer = mailbox.take.remote()
    try:
        ended = False
        while not ended:
            ended = bool(ray.wait([fitted], timeout=0.2)[0])
            ready, _ = ray.wait([answer], timeout=0.2)
            if ready:
                yield from ray.get(answer)
                answer = mailbox.take.remote()
            else:
                waits()
        for last in (answer, mailbox.take.remote()):
            yield from ray.get(last, timeout=_LAST_ANSWER)
    except RayError as error:
        raise UserError(
            f"the supernet's training failed: its results cannot be had ({last_line(error)}); "
            f"`{config.place.resume_command}` resumes from its last epoch"
        ) from error


def _reason(error: RayError, notes: str, workers: int) -> str:
    """Return in one line why the workers failed."""
    for rank in range(workers):
        if hang := find_hang(f"{notes}-{rank}"):
            return hang
    cause = error.cause if isinstance(error, RayTaskError) else error
    causes = [*getattr(cause, "worker_failures", {}).values(), cause]
    return last_line(causes[0])


class _Fitting:
    """Runs Ray Train in a process of its own."""

    def fit(self, trainer: Any, settings: dict[str, str]) -> None:
        """Train; the settings are environment variables of Ray Train."""
        os.environ.update(settings)
        trainer.fit()


class _Mailbox:
    """Passes the first worker's results to the driver; Ray Train itself passes on only the last one."""

    def __init__(self) -> None:
        self._messages: list[Message] = []
        self._starts = 0

    def begin(self, text: str) -> None:
        """Leave a message that is to be said if the workers are not the first ones."""
        self._starts += 1
        if self._starts > 1:
            self._messages.append(text)

    def put(self, message: Message) -> None:
        """Leave a message."""
        self._messages.append(message)

    def take(self) -> list[Message]:
        """Return what was left since the last call."""
        taken, self._messages = self._messages, []
        return taken


def _work(told: dict[str, Any]) -> None:
    """Train as one of the workers."""
    with _mistakes_left(told["mailbox"]):
        _train(told)


@contextmanager
def _mistakes_left(mailbox: Any) -> Iterator[None]:
    """Leave a user's mistake in the mailbox: the driver then ends the workers, which would start again."""
    try:
        with node_named():
            yield
    except NodeError as error:
        ray.get(mailbox.put.remote(error))
        raise


def _check(mailbox: Any, on_gpu: bool) -> None:
    """Check that a worker has what it was promised, before Ray Train gives it a part in a process group."""
    from ray.train.torch import get_device

    with _mistakes_left(mailbox):
        if on_gpu:
            device = get_device()
            require_cuda(str(device) if device.type == "cuda" else "cuda")


def _train(told: dict[str, Any]) -> None:
    """Train as one of the workers, watched: a worker that makes no progress ends itself."""
    rank = ray.train.get_context().get_world_rank()
    job: SupernetJob = told["job"]
    folder = notes_folder(f"{told['notes']}-{rank}")
    hang = examine(str(folder)).hang
    watchdog = Watchdog(folder, job.spec.hang_timeout)
    watchdog.start()
    with watchdog.watching():
        run = _begun(told, watchdog.tick)
        if rank == 0:
            reason = f"hung at {hang}" if hang else "a worker died"
            text = f"goes on after epoch {run.trainer.epoch}: {reason}"
            ray.get(told["mailbox"].begin.remote(text))
        while run.trainer.epoch < job.epochs:
            result = run.epoch()
            if rank == 0:  # before the checkpoint: an epoch whose result is lost would not be trained again
                where = {**place_here(), DEVICE: device_name(run.device)}
                ray.get(told["mailbox"].put.remote({**result, "time": time.time(), **where}))
            _save(run, told["place"], result, first=rank == 0)
            watchdog.tick()


def _begun(told: dict[str, Any], tick: Tick) -> SupernetRun:
    """Return this worker's training, from the last whole checkpoint on."""
    from ray.train.collective import broadcast_from_rank_zero
    from ray.train.torch import get_device, prepare_model

    context = ray.train.get_context()
    rank, world = context.get_world_rank(), context.get_world_size()
    job: SupernetJob = told["job"]

    def wrap(replica: Any) -> Any:
        return prepare_model(replica, parallel_strategy_kwargs={"gradient_as_bucket_view": True})

    run = SupernetRun(
        job.spec,
        job.plan(),
        get_device(),
        wrap=wrap if world > 1 else None,
        rank=rank,
        world=world,
        threads=told["threads"],
        tick=tick,
    )
    remarks = load_whole(in_folder(*told["place"]), run.load, tick)
    if world > 1 and broadcast_from_rank_zero(run.trainer.epoch) != run.trainer.epoch:
        raise RuntimeError("the workers have found different checkpoints")
    if remarks and rank == 0:
        ray.get(told["mailbox"].put.remote(", ".join(remarks)))
    return run


def _save(run: SupernetRun, place: tuple[Any, str], result: dict[str, float], *, first: bool) -> None:
    """Report an epoch to Ray Train; the first worker writes a checkpoint that survives a power loss."""
    if not first:
        ray.train.report(result)
        return
    filesystem, folder = place
    # An epoch may be trained again after its checkpoint was damaged; the later one comes last.
    name = f"{PREFIX}{run.trainer.epoch:06d}_{time.time_ns()}"
    with TemporaryDirectory() as scratch:
        run.save(Path(scratch))
        ray.train.report(result, checkpoint=Checkpoint.from_directory(scratch), checkpoint_dir_name=name)
    make_durable(Checkpoint(f"{folder}/{name}", filesystem))


def _predicted(
    setup: Setup, predictor: MemoryPredictor, setting: TrainingSetting, plan: SupernetPlan, device: str
) -> tuple[MemoryReport, MemoryReport]:
    """Return a worker's memory in the search's setting, and as this search runs it on its kind of device.

    Workers that share gradients hold buckets with the gradients of all trained weights, even if a step trains
    only some of them. The gradients that a step holds at its peak anyway are counted twice.
    """
    as_run = replace(setting, target=device).as_run(cached=setup.config.trial.feature_cache)
    shared = setup.config.oneshot.workers > 1

    def predicted(at: TrainingSetting) -> MemoryReport:
        report = predict_supernet(predictor.changed(**at.to_dict()), plan.method, plan.curriculum)
        return report.with_gradients(report.checkpoint if shared else 0)

    return predicted(setting), predicted(as_run)


def _too_tight(setup: Setup, placement: Placement, memory: MemoryReport, needed: int) -> list[str]:
    """Return the limits that the supernet breaks, in words."""
    values = known_values(memory)
    budgets = [c for c in setup.history.constraints if c.name == "memory"]
    broken = [str(constraint) for constraint in budgets if constraint.violation(values) > 0]
    if placement.limit is not None and needed > placement.limit:
        broken.append(f"the {format_size(placement.limit)} of the largest device")
    return broken


def _first_point(setup: Setup) -> dict[str, Any]:
    """Return the configuration of the space's first point."""
    return setup.space.at(setup.space.first_points(setup.context)[0], setup.context).config


def _fields(config: dict[str, Any]) -> dict[str, Any]:
    return split_config(config)[1]
