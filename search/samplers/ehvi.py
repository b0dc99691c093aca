"""Expected hypervolume improvement, with exact values for objectives that are known before training."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from search.goals.pareto import Front, non_dominated
from search.samplers.common import (
    DEVICE_MEMORY,
    LACKING,
    asked_before,
    barren,
    distribution_of,
    parameter_of,
)
from search.samplers.registry import register_sampler
from spaces import Trial
from spaces.trials import AnsweringTrial
from trainables.parameters import Choices, Parameter

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController


@dataclass(frozen=True)
class Outlook:
    """The knowledge of a search about candidates before training, and about trials during training.

    Attributes:
        names: The objectives' names.
        exact: For each objective, whether ``known`` returns its value.
        epochs: Epochs of a complete trial.
        losses: Returns normalised losses of all objectives from values by name; the ideal is 0 and the
            reference 1.
        draw: Samples a configuration of the space from a trial.
        known: Returns the values of a configuration that are exact before training; None if the configuration
            was tried before or breaks a constraint.
        runs: Returns the losses after each epoch so far of a trial with a given number; one list for each
            seed.
        noises: Returns, as things are now, a function of a trial's number. It returns the standard deviations
            of what is luck in the trial's losses, or in their means if there are several seeds; None if they
            are unknown.
    """

    names: Sequence[str]
    exact: Sequence[bool]
    epochs: int
    losses: Callable[[Mapping[str, float]], tuple[float, ...]]
    draw: Callable[[Trial], dict[str, Any]]
    known: Callable[[dict[str, Any]], Mapping[str, float] | None]
    runs: Callable[[int], Sequence[Sequence[tuple[float, ...]]]]
    noises: Callable[[], Callable[[int], tuple[float, ...] | None]] = lambda: lambda number: None


class HypervolumeSampler(BaseSampler):
    """Proposes the candidate with the largest expected growth of the hypervolume.

    Gaussian processes (Matérn kernels) predict the objectives that training decides. The share of its epochs
    that a trial has run is a further parameter of the models, and predictions are made for a share of 1.
    Running and paused trials thus inform the prediction from their first epoch on, without counting as
    finished ones.

    Objectives that are known before training are exact. Computing them takes time for large encoders, so
    they are first predicted for the whole pool of candidates, and then computed for the most promising ones
    until the best candidate is exact.

    Running trials count as if they had the results that are expected of them, so trials that start at the
    same time differ.

    The models are told how much of a result is luck, where that is known: a lucky result is not believed. The
    front that a candidate must improve is then that of the predicted results, not of the observed ones.
    Trials whose luck is unknown count as being as lucky as the others.

    With many results, a few more hardly change what the models' kernels are, and learning these takes half of
    the time of a proposal. They are then learnt again when the results have become a tenth more.

    Args:
        startup: Number of trials with results before candidates are chosen; earlier ones are random.
        seed: Random seed.
    """

    #: Number of candidates; half are drawn from the whole space, half are members of the front with some
    #: parameters drawn again.
    POOL = 256
    #: Probability that a parameter is drawn again.
    MUTATION = 0.3
    #: Most candidates of the pool whose exact values are computed.
    LOOKED_AT = 8
    #: Number of places in the unit cube at which the growth is measured.
    PLACES = 2048
    #: Number of latest results on which predictions rest.
    RESULTS = 600

    def __init__(self, startup: int, seed: int) -> None:
        self._startup = startup
        self._random = RandomSampler(seed=seed)
        self._rng = np.random.default_rng(seed)
        self._outlook: Outlook | None = None
        self._chosen: dict[str, Any] = {}
        self._kernels: dict[int, _Kernel] = {}  # by objective

    def own_state(self) -> list[Any]:
        """Return the kernels, from which the next predictions may be made."""
        return [[index, kernel.results, kernel.theta] for index, kernel in self._kernels.items()]

    def restore_own(self, state: list[Any]) -> None:
        """Take over kernels."""
        self._kernels = {
            int(index): _Kernel(int(results), [float(value) for value in theta])
            for index, results, theta in state
        }

    def attach(self, outlook: Outlook) -> None:
        """Give the sampler the outlook that it needs; without one it draws at random."""
        self._outlook = outlook

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Choose a candidate; return its parameters' distributions, or none to draw at random."""
        self._chosen = {}
        asked = asked_before(study, trial)
        given = "fixed_params" in trial.system_attrs
        if self._outlook is None or given or barren(asked, limit=1):
            return {}
        with _one_thread():
            best = self._choose(self._outlook, asked)
        if best is None:
            return {}
        self._chosen = best.params
        return best.distributions

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return the chosen candidate's parameters."""
        return self._chosen

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Return a random value."""
        return self._random.sample_independent(study, trial, param_name, param_distribution)

    def _choose(self, outlook: Outlook, asked: Sequence[FrozenTrial]) -> _Candidate | None:
        """Return the candidate to try; None with too few results, or if the best candidates are refused."""
        noise = outlook.noises()
        results = [result for trial in asked for result in _results(trial, outlook, noise(trial.number))]
        if len({result.trial.number for result in results}) < self._startup:
            return None
        best: Front[int] = Front()
        for index, result in enumerate(results):
            if result.stands:
                best.add(index, result.losses)
        running = [trial for trial in asked if trial.state is TrialState.RUNNING and trial.params]
        pool = self._pool(outlook, [results[index].trial.params for index in best.keys])

        encode = _Encoding([*asked, *pool])
        seed = int(self._rng.integers(2**31))
        constant = _constant(results, asked, outlook)  # known objectives do not change in training
        typical = _typical_noise(results)
        models = []
        for index, exact in enumerate(outlook.exact):
            some = constant if exact else results
            kernel = self._kernels.get(index)
            theta = kernel.theta if kernel is not None and kernel.suits(len(some)) else None
            model = _model(encode, some[-self.RESULTS :], index, seed, typical, theta)
            if model.theta is not theta:
                self._kernels[index] = _Kernel(len(some), model.theta)
            models.append(model)
        standing = [result for result in results if result.stands]
        front = np.array([result.losses for result in standing]).reshape(-1, len(outlook.names))
        if standing and typical is not None:
            trained = ~np.array(outlook.exact)
            front[:, trained] = _predict(models, encode([r.trial for r in standing], 1.0))[0][:, trained]
        front = front[non_dominated(front.tolist())]
        if running:
            front = np.vstack([front, _predict(models, encode(running, 1.0))[0]])
        from scipy.stats import qmc

        places = qmc.Sobol(len(models), seed=0).random(self.PLACES)
        places = places[~(front[None] <= places[:, None]).all(2).any(1)]
        mean, spread = _predict(models, encode(pool, 1.0))
        return self._closest_look(outlook, pool, mean, spread, places)

    def _closest_look(
        self,
        outlook: Outlook,
        pool: Sequence[_Candidate],
        mean: np.ndarray,
        spread: np.ndarray,
        places: np.ndarray,
    ) -> _Candidate | None:
        """Return the best candidate after replacing predicted by exact values for the most promising ones."""
        exact = np.array(outlook.exact)
        growth = expected_growth(mean, spread, places)
        seen: dict[int, float] = {}
        for _ in range(self.LOOKED_AT):
            best = int(growth.argmax())
            if best in seen or growth[best] < 0:
                break
            values = outlook.known(pool[best].config)
            if values is None:
                growth[best] = -1.0
                continue
            losses = outlook.losses({**dict.fromkeys(outlook.names, 0.0), **values})
            mean[best, exact], spread[best, exact] = np.array(losses)[exact], 0.0
            growth[best] = seen[best] = expected_growth(mean[[best]], spread[[best]], places)[0]
        return pool[max(seen, key=seen.__getitem__)] if seen else None

    def _pool(self, outlook: Outlook, elite: Sequence[dict[str, Any]]) -> list[_Candidate]:
        """Draw the pool of candidates; half of them are close to the members of ``elite``."""
        pool = []
        for number in range(self.POOL):
            near = elite[number // 2 % len(elite)] if elite and number % 2 else {}
            pool.append(_candidate(self._rng, near, self.MUTATION, outlook.draw))
        return pool


def expected_growth(mean: np.ndarray, spread: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Return the hypervolume that each point is expected to add to that of a front.

    The losses of a point are independent and normal. The expected growth is the integral of the probability
    that the point dominates a place, over all places that the front does not dominate (Emmerich et al. 2006).
    It is computed as a sum over evenly spread places.

    Args:
        mean: Expected losses, of shape (points, objectives).
        spread: Their standard deviations, of the same shape; 0 means that a loss is exact.
        places: Places that the front does not dominate, of shape (places, objectives).

    Returns:
        The expected number of places that each point dominates, of shape (points,).
    """
    from scipy.special import ndtr

    spread = np.maximum(spread, 1e-9)
    return np.asarray(ndtr((places[None] - mean[:, None]) / spread[:, None]).prod(2).sum(1))


@dataclass(frozen=True)
class _Result:
    """Losses of a trial after a share of its epochs; ``stands`` if it is complete and feasible.

    ``noise`` are the standard deviations of what is luck in the losses; None if they are unknown.
    """

    trial: FrozenTrial
    share: float
    losses: tuple[float, ...]
    stands: bool = False
    noise: tuple[float, ...] | None = None


def _results(trial: FrozenTrial, outlook: Outlook, noise: tuple[float, ...] | None) -> list[_Result]:
    """Return a trial's results after all, half, a quarter … of its epochs, and after its latest epoch."""
    all_epochs = outlook.epochs
    shown = {math.ceil(all_epochs / 2**halvings) for halvings in range(all_epochs.bit_length())}
    told = trial.state is TrialState.COMPLETE and "infeasible" not in trial.user_attrs
    stands = told and not any(violation > 0 for violation in trial.constraints.values())
    runs = outlook.runs(trial.number)
    found = [
        _Result(trial, epoch / all_epochs, losses, stands and epoch == all_epochs, noise)
        for run in (runs if noise is None else _averaged(runs, all_epochs))
        for epoch, losses in enumerate(run, start=1)
        if epoch in shown or epoch == len(run)
    ]
    lacking = trial.constraints.get(LACKING, 0.0)
    if told and lacking >= 1:  # it diverged, and was told with the worst values
        found.append(_Result(trial, 1.0, _losses(trial, outlook)))
    elif told and not found and trial.constraints.get(DEVICE_MEMORY, 0.0) <= 0:  # a trial of another search
        found.append(_Result(trial, 1 - lacking, _losses(trial, outlook), stands))
    return found


def _averaged(runs: Sequence[Sequence[tuple[float, ...]]], epochs: int) -> list[Sequence[tuple[float, ...]]]:
    """Return a trial's complete runs as one, their mean, whose noise is known, and the other runs."""
    complete = [run for run in runs if len(run) == epochs]
    mean = [tuple(np.mean(losses, axis=0).tolist()) for losses in zip(*complete, strict=True)]
    return [mean, *(run for run in runs if len(run) < epochs)]


def _typical_noise(results: Sequence[_Result]) -> np.ndarray | None:
    """Return the quadratic mean of the known noise, of shape (objectives,); None if none is known."""
    known = [result.noise for result in results if result.noise is not None]
    return np.sqrt(np.square(known).mean(axis=0)) if known else None


def _constant(results: Sequence[_Result], asked: Sequence[FrozenTrial], outlook: Outlook) -> list[_Result]:
    """Return one result for each trial, and for each candidate that broke a constraint before training."""
    of_trials = {result.trial.number: replace(result, share=1.0) for result in results}
    refused = [
        _Result(trial, 1.0, _losses(trial, outlook))
        for trial in asked
        if trial.state is TrialState.COMPLETE and "infeasible" in trial.user_attrs
    ]
    return [*refused, *of_trials.values()]


def _losses(trial: FrozenTrial, outlook: Outlook) -> tuple[float, ...]:
    return outlook.losses(dict(zip(outlook.names, trial.values, strict=True)))


@dataclass(frozen=True)
class _Kernel:
    """What a model has learnt about how similar results are.

    Attributes:
        results: Number of results when it was learnt.
        theta: The logarithms of its parameters.
    """

    results: int
    theta: list[float]

    def suits(self, results: int) -> bool:
        """Return whether it need not be learnt again with so many results."""
        return _Model.LEARNT_FROM < results < 1.1 * self.results


def _one_thread() -> AbstractContextManager[Any]:
    """Let NumPy and SciPy compute with one thread: with several, these small matrices take more CPU time.

    The driver of a search of many nodes has little of it to spare, and may share its machine with trials.
    """
    return _threads().limit(limits=1, user_api="blas")


@cache
def _threads() -> ThreadpoolController:
    import scipy.linalg  # noqa: F401 - it has a library of its own, which must be loaded to be found
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


class _Model:
    """A Gaussian process; its predictions do not include the noise of results.

    Args:
        inputs: Encoded parameters from 0 to 1, of shape (results, parameters).
        values: One value for each result, of shape (results,).
        seed: Chooses the results from which the length scales are learnt, if there are many.
        noise: Standard deviations of what is known to be luck in the values, of shape (results,). Further
            noise, equal for all, is learnt.
        theta: Logarithms of the kernel's parameters, if they are known; None learns them.

    Attributes:
        theta: The same; they were learnt all the same if they are those of a kernel for other inputs.
    """

    #: Most results from which the length scales are learnt: the time grows with the cube of their number.
    LEARNT_FROM = 200
    #: Most columns for which each has its own length scale. In larger spaces, such as that of all methods (a
    #: column for each choice), all share one: dozens of scales cannot be learnt from dozens of results.
    MOST_SCALES = 16

    def __init__(
        self,
        inputs: np.ndarray,
        values: np.ndarray,
        seed: int,
        noise: np.ndarray,
        theta: list[float] | None,
    ) -> None:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.gaussian_process import GaussianProcessRegressor
        from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

        self._mean, self._scale = values.mean(), values.std() + 0.02
        values = (values - self._mean) / self._scale
        variance = 1e-10 + (noise / self._scale) ** 2
        scales = np.ones(inputs.shape[1]) if inputs.shape[1] <= self.MOST_SCALES else 1.0
        kernel = ConstantKernel(1.0, (0.1, 10.0)) * Matern(scales, (0.1, 20.0), nu=2.5)
        kernel += WhiteKernel(0.1, (1e-2, 1.0))
        if theta is not None and len(theta) == kernel.n_dims:
            learnt = kernel.clone_with_theta(np.array(theta))
        else:
            some = np.random.default_rng(seed).permutation(len(values))[: self.LEARNT_FROM]
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)  # a scale at its bound is acceptable
                learning = GaussianProcessRegressor(kernel, alpha=variance[some])
                learnt = learning.fit(inputs[some], values[some]).kernel_
            theta = learnt.theta.tolist()
        self.theta = theta
        self._process = GaussianProcessRegressor(learnt, alpha=variance, optimizer=None).fit(inputs, values)
        self._noise = learnt.k2.noise_level

    def __call__(self, inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the predicted means and standard deviations, each of shape (inputs,)."""
        mean, spread = self._process.predict(inputs, return_std=True)
        spread = np.sqrt(np.maximum(spread**2 - self._noise, 1e-6))
        return mean * self._scale + self._mean, spread * self._scale


def _model(
    encode: _Encoding,
    results: Sequence[_Result],
    index: int,
    seed: int,
    typical: np.ndarray | None,
    theta: list[float] | None,
) -> _Model:
    """Return the model of an objective; results of unknown noise get the ``typical`` one."""
    inputs = encode([result.trial for result in results], [result.share for result in results])
    values = np.array([result.losses[index] for result in results])
    noise = np.zeros(len(results))
    if typical is not None:
        noise[:] = [(typical if result.noise is None else result.noise)[index] for result in results]
    return _Model(inputs, values, seed, noise, theta)


def _predict(models: Sequence[_Model], inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return means and standard deviations of all objectives, of shape (inputs, objectives)."""
    means, spreads = zip(*(model(inputs) for model in models), strict=True)
    return np.column_stack(means), np.column_stack(spreads)


@dataclass(frozen=True)
class _Candidate:
    """A configuration that may be proposed, with its parameters in Optuna's form."""

    config: dict[str, Any]
    params: dict[str, Any]
    distributions: dict[str, BaseDistribution]


def _candidate(
    rng: np.random.Generator,
    near: Mapping[str, Any],
    mutation: float,
    draw: Callable[[Trial], dict[str, Any]],
) -> _Candidate:
    """Draw a candidate at random.

    Args:
        rng: Random generator.
        near: Parameter values to keep.
        mutation: Probability that a value of ``near`` is drawn again and not kept.
        draw: Samples a configuration from a trial.
    """

    def answer(name: str, parameter: Parameter) -> Any:
        kept = name in near and parameter.holds(near[name])
        if kept and rng.random() >= mutation:
            return near[name]
        return parameter.at(float(rng.random()))

    trial = AnsweringTrial(answer)
    config = draw(trial)
    distributions = {name: distribution_of(parameter) for name, parameter in trial.parameters.items()}
    return _Candidate(config, trial.values, distributions)


class _Encoding:
    """Encodes trials' parameters as rows of numbers.

    A number has one column, with 0 to 1 over its range. A choice has one column for each of its values.

    Args:
        trials: All trials that will be encoded.
    """

    #: Code of a number that a trial does not have: one range away from the trials that have it.
    ABSENT = -1.0

    def __init__(self, trials: Sequence[FrozenTrial | _Candidate]) -> None:
        self._parameters: dict[str, Parameter] = {}
        for trial in trials:
            for name, distribution in trial.distributions.items():
                if name not in self._parameters:
                    self._parameters[name] = parameter_of(distribution)

    def __call__(
        self, trials: Sequence[FrozenTrial | _Candidate], shares: float | Sequence[float]
    ) -> np.ndarray:
        """Return one row for each trial; the last column is the share of its epochs."""
        rows = np.array([self._row(trial.params) for trial in trials])
        return np.column_stack([rows, np.broadcast_to(shares, len(rows))])

    def _row(self, params: Mapping[str, Any]) -> list[float]:
        row: list[float] = []
        for name, parameter in self._parameters.items():
            if isinstance(parameter, Choices):
                row += [float(name in params and params[name] == choice) for choice in parameter]
            elif name in params:
                row.append(parameter.place(params[name]))
            else:
                row.append(self.ABSENT)
        return row


@register_sampler(
    "ehvi", "expected hypervolume improvement: memory is exact, every epoch of every trial is learnt from"
)
def _make(num_samples: int, seed: int) -> BaseSampler:
    return HypervolumeSampler(4, seed)
