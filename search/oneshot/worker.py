"""The workers that train a supernet: their job, what each of them does, and how it is heard."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import ray
import ray.train
from ray.train import Checkpoint

from search.checkpoints import PREFIX, in_folder, make_durable
from search.execution.survival import notes_folder
from search.nodes import NodeError, node_named, place_here
from search.records.stays import DEVICE
from spaces import SpaceContext, get_space
from spaces.subnets import draw_member, subnet_space
from trainables.configuration import split_config
from trainables.progress import Tick
from trainables.supernet.plan import SupernetPlan, Worker
from trainables.supernet.run import SupernetRun
from trainables.supernet.step import Curriculum
from trainables.trial.checkpoint import load_whole
from trainables.trial.device import device_name, require_cuda
from trainables.trial.watchdog import Watchdog, examine
from trainables.trial.workbench import TrialSpec

#: The result of an epoch, a line for the user, or a user's mistake.
Message = dict[str, Any] | str | NodeError


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


class Mailbox:
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


def work(told: dict[str, Any]) -> None:
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


def check_device(mailbox: Any, on_gpu: bool) -> None:
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
        worker=Worker(rank, world, wrap if world > 1 else None),
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


def _fields(config: dict[str, Any]) -> dict[str, Any]:
    return split_config(config)[1]
