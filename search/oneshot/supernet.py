"""Training of the supernet with Ray Train, seen from the search."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any

import ray
import ray.train
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from search.checkpoints import in_folder, storage
from search.config import SearchConfig
from search.execution.room import Room
from search.execution.survival import find_hang
from search.nodes import NodeError
from search.oneshot.ordering import SupernetOrder
from search.oneshot.worker import Mailbox, Message, check_device, work
from search.records.place import inner_path
from trainables.errors import UserError
from trainables.trial.outcome import last_line

#: Name of the supernet's record and of its folder, and the record's kind.
SUPERNET = "supernet"
#: Seconds to wait for the last results of the workers after they have ended.
_LAST_ANSWER = 60.0


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
    mailbox = ray.remote(num_cpus=0)(Mailbox).remote()
    notes = f"{SUPERNET}-{uuid.uuid4().hex}"
    trainer = TorchTrainer(
        work,
        train_loop_config={
            "job": order.job,
            "mailbox": mailbox,
            "threads": order.share.threads,
            "place": (filesystem, place),
            "notes": notes,
        },
        torch_config=NodeNetwork(check=partial(check_device, mailbox, order.share.on_gpu)),
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
