"""The weights that a trial's result is of: those of the last epoch, an average, or the best epoch's."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from trainables.methods import FusionMethod
from trainables.tasks import Metric
from trainables.trial.outputs import Evaluation


class KeptWeights:
    """The weights of a trial's result: those of the last epoch, which train on.

    Subclasses keep others, in main memory, so that a device needs no space for a second copy.

    Attributes:
        weights: The kept weights by name; None if they are those that train.
    """

    def __init__(self) -> None:
        self.weights: dict[str, Tensor] | None = None

    def judge(self, method: FusionMethod, epoch: int, validate: Callable[[], Evaluation]) -> Evaluation:
        """Take note of the weights at the end of an epoch, and return what the result is then.

        Args:
            method: The method with the weights that train.
            epoch: Number of finished epochs; 0 for the weights before training.
            validate: Evaluates the method on the validation split.
        """
        return validate()

    @contextmanager
    def in_place(self, method: FusionMethod) -> Iterator[None]:
        """Let a method have the kept weights for a while."""
        if self.weights is None:
            yield
            return
        training = _copied(method)
        method.load_trainable_state_dict(self.weights)
        try:
            yield
        finally:
            method.load_trainable_state_dict(training)

    def state_dict(self) -> dict[str, Any]:
        """Return all that is needed to go on, except the kept weights."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any], weights: dict[str, Tensor] | None) -> None:
        """Restore a state, with the kept weights unless they are those that train."""
        self.weights = weights


class AveragedWeights(KeptWeights):
    """The average over the ends of the last half of the epochs (Izmailov et al. 2018, Algorithm 1).

    Before these epochs, the result is that of the weights that train.

    Args:
        epochs: Number of planned epochs.
    """

    def __init__(self, epochs: int) -> None:
        super().__init__()
        self.epochs = epochs
        self._count = 0

    def judge(self, method: FusionMethod, epoch: int, validate: Callable[[], Evaluation]) -> Evaluation:
        """Add the weights to the average, and evaluate it."""
        if epoch > self.epochs // 2:
            self._count += 1
            if self.weights is None:
                self.weights = _copied(method)
            for name, weight in method.trainable_state_dict().items():
                mean = self.weights[name]
                mean += (weight.cpu() - mean) / self._count
        with self.in_place(method):
            return validate()

    def state_dict(self) -> dict[str, Any]:
        """Return the number of averaged epochs."""
        return {"count": self._count}

    def load_state_dict(self, state: Mapping[str, Any], weights: dict[str, Tensor] | None) -> None:
        """Restore the average."""
        super().load_state_dict(state, weights)
        self._count = state["count"]


class BestWeights(KeptWeights):
    """The weights of the epoch that is best on the validation split; of equal ones, the first.

    The result has in addition ``kept_epoch``, the number of that epoch.

    Args:
        metric: The metric that decides.
    """

    def __init__(self, metric: Metric) -> None:
        super().__init__()
        self.metric = metric
        self._best: Evaluation | None = None

    def judge(self, method: FusionMethod, epoch: int, validate: Callable[[], Evaluation]) -> Evaluation:
        """Evaluate the weights, keep them if they are the best so far, and return the best result so far."""
        found = validate()
        if self._best is None or self._gain(found, self._best) > 0:
            self.weights = _copied(method)
            self._best = replace(found, metrics={**found.metrics, "kept_epoch": epoch})
        return self._best

    def _gain(self, one: Evaluation, other: Evaluation) -> float:
        difference = one.metrics[self.metric.name] - other.metrics[self.metric.name]
        return difference if self.metric.direction == "maximize" else -difference

    def state_dict(self) -> dict[str, Any]:
        """Return the best result so far; empty before the first one."""
        if self._best is None:
            return {}
        outputs = torch.from_numpy(self._best.outputs)
        return {"metrics": self._best.metrics, "outputs": outputs, "task": self._best.task}

    def load_state_dict(self, state: Mapping[str, Any], weights: dict[str, Tensor] | None) -> None:
        """Restore the best result so far, and its weights."""
        super().load_state_dict(state, weights)
        self._best = None
        if state:
            self._best = Evaluation(state["metrics"], state["outputs"].numpy(), state["task"])


def kept_weights(keep: str, epochs: int, metric: Metric) -> KeptWeights:
    """Return what keeps a trial's weights.

    Args:
        keep: A name in ``trainables.step.recipe.KEPT``.
        epochs: Number of planned epochs.
        metric: The task's first metric.
    """
    if keep == "average":
        return AveragedWeights(epochs)
    return BestWeights(metric) if keep == "best" else KeptWeights()


def _copied(method: FusionMethod) -> dict[str, Tensor]:
    """Return a copy of the trained weights in main memory."""
    state = method.trainable_state_dict()
    return {name: weight.to("cpu", copy=True).contiguous() for name, weight in state.items()}
