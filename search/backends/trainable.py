"""A trial as Ray Tune runs it."""

from __future__ import annotations

import contextlib
import gc
import math
import os
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import torch

from search.checkpoints import DurableTrial
from search.records.history import OUTPUTS, ROBUSTNESS, TEST
from search.records.status import Ending, Status
from search.records.stays import DEVICE
from trainables.elastic import SupernetWeights
from trainables.errors import DiskFullError, UserError
from trainables.memory.measuring import limit_memory
from trainables.notices import pending
from trainables.trial.device import device_name, require_cuda
from trainables.trial.outcome import first_line, is_out_of_memory, tried_to_allocate
from trainables.trial.outputs import Evaluation
from trainables.trial.run import TrialRun
from trainables.trial.trainer import DivergedError
from trainables.trial.watchdog import Watchdog
from trainables.trial.workbench import TrialSpec
from trainables.units import GIB

#: Key of the lines for the user in a result.
NOTICES = "notices"

_T = TypeVar("_T")


class FusionTrial(DurableTrial):
    """Ray Tune's view of a ``TrialRun``: each step is one epoch and reports all objectives.

    A worker keeps its process, and thus its encoders, from one trial to the next. A trial that runs out of
    memory or diverges reports that as its last result: see ``Ending``. So does one that a user's mistake
    keeps from running, such as a dataset that this node lacks. Any other error is raised, and Ray Tune
    restarts the trial from its last checkpoint. A worker that makes no progress ends itself, whatever it is
    at: building, loading, training, evaluating or saving.

    A trial that passes its ``Bar`` is scored on the test split after its last epoch, because its worker has
    everything loaded that this takes.
    """

    def setup(
        self, config: dict[str, Any], spec: TrialSpec, inherited: SupernetWeights | None = None
    ) -> None:
        """Take the first configuration."""
        self._spec = spec
        self._inherited = inherited
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next configuration in the same process.

        The trial is built in its first step, because Ray Tune restarts a trial whose worker died in a step,
        but not one whose worker died here.
        """
        self.assign(new_config["assignment"])
        self._on_gpu = new_config["share"].on_gpu
        self._watchdog = Watchdog(Path(self.logdir), self._spec.hang_timeout)
        self._run: TrialRun | None = None
        self._saved: TemporaryDirectory[str] | None = None
        return True

    def step(self) -> dict[str, Any]:
        """Train one epoch and save it, so that every reported epoch can be resumed from."""
        self._watchdog.start()
        with self._watchdog.watching():
            return self._survive(self._epoch)

    def save(self, checkpoint_dir: str | None = None) -> Any:
        """Save the trial; see ``DurableTrial``."""
        with self._watchdog.watching():
            return super().save(checkpoint_dir)

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Copy the files that the last step saved; a trial that ended without a result has none."""
        if self._saved is not None:
            # Links between two temporary folders, not moves: Ray Tune may ask for the same epoch twice.
            shutil.copytree(self._saved.name, checkpoint_dir, copy_function=os.link, dirs_exist_ok=True)

    def cleanup(self) -> None:
        """Release the trial; Ray Tune calls this when the worker ends."""
        self._run = self._saved = None

    def _epoch(self) -> dict[str, Any]:
        if self._run is None:
            if self._on_gpu:
                require_cuda()
            limit_memory(self.assignment.granted, self._spec.setting.context_bytes)
            tick = self._watchdog.tick
            self._run = TrialRun(self._spec, self.assignment, self._inherited, tick=tick)
        run = self._run
        remark = self.resume(run.load, run.tick)
        result = run.epoch()
        bad = [f"{name} became {value}" for name, value in result.items() if not math.isfinite(value)]
        if bad:
            raise DivergedError(f"{', '.join(bad)} in epoch {run.trainer.epoch}")
        run.stage = "checkpoint"
        self._saved = TemporaryDirectory()
        run.save(Path(self._saved.name))
        expected = self.assignment.expected
        if run.as_set and expected is not None:
            result["expected_memory"] = expected.total / GIB
            if expected.reserved is not None:
                result["expected_reserved"] = expected.reserved / GIB
        done = run.trainer.epoch >= self._spec.epochs
        last = self._last(run, result) if done else {}
        where = {DEVICE: device_name(run.device)}
        return {**result, **where, **remark, **last, NOTICES: pending(), "done": done}

    def _last(self, run: TrialRun, result: Mapping[str, float]) -> dict[str, Any]:
        """Return what only the last report has: outputs, and results on the test split if it is scored."""
        outputs = {"validation": run.outputs}
        started = time.perf_counter()
        tested = self._score(run, result)
        if tested is None:
            return {OUTPUTS: outputs}
        seconds = time.perf_counter() - started
        return {
            OUTPUTS: {**outputs, "test": tested.outputs},
            TEST: tested.metrics,
            ROBUSTNESS: tested.robustness,
            "test_seconds": seconds,
        }

    def _score(self, run: TrialRun, result: Mapping[str, float]) -> Evaluation | None:
        """Return the evaluation on the test split, if the trial is to be scored here.

        A trial that was restarted is not: it may have died of this. What fails here is tried again when the
        search ends, and then the user hears of it.
        """
        bar = self.assignment.bar
        if bar is None or self.replaced or not bar.passed(result):
            return None
        with contextlib.suppress(Exception):
            return run.score()
        return None

    def _survive(self, work: Callable[[], _T]) -> _T | dict[str, Any]:
        """Return the result of ``work``, or the ending of the trial; the process can run another trial."""
        try:
            return work()
        except Exception as error:
            if isinstance(error, DivergedError):
                status = Status.DIVERGED
            elif is_out_of_memory(error):
                status = Status.OUT_OF_MEMORY
            elif isinstance(error, UserError) and not isinstance(error, DiskFullError):
                status = Status.SET_ASIDE
            else:
                raise
            ending = Ending(
                status,
                stage=self._run.stage if self._run is not None else "building",
                message=first_line(error),
                below_share=self._below_share(error),
            )
        # Outside the except clause the error is gone, and so are its frames, which held the step's tensors.
        self._run = self._saved = None
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return ending.to_result()

    def _below_share(self, error: Exception) -> bool | None:
        """Return whether this process would be within its share even with the memory that it asked for."""
        granted = self.assignment.granted
        if granted is None or not torch.cuda.is_available():
            return None
        wanted = torch.cuda.memory_reserved() + (tried_to_allocate(error) or 0)
        return wanted < granted - self._spec.setting.context_bytes
