"""An Optuna study in memory that can be restored from the store."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import optuna
from optuna.distributions import distribution_to_json, json_to_distribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.storages import InMemoryStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from search.goals.objectives import Objective
from search.records.store import SearchStore
from search.samplers import restore_state, state_of
from trainables.errors import UserError
from trainables.seeds import derive_seed


class _Storage(InMemoryStorage):
    """Optuna's in-memory storage, in which a finished trial can be reopened."""

    def constrain(self, number: int, constraints: Mapping[str, float]) -> None:
        """Replace a trial's constraints; Optuna itself would keep earlier ones."""
        with self._lock:
            trial = copy.copy(self._get_trial(number))
            bare = create_trial(state=TrialState.RUNNING, constraints=dict(constraints))
            trial.system_attrs = {**trial.system_attrs, **bare.system_attrs}
            self._set_trial(number, trial)

    def reopen(self, number: int) -> None:
        """Set a trial back to running.

        It keeps its values and constraints until it is told again. Samplers ignore those of running trials,
        except NSGA-II and NSGA-III, for the parents of a generation that they chose earlier.
        """
        with self._lock:
            trial = copy.copy(self._get_trial(number))
            trial.state, trial.datetime_complete = TrialState.RUNNING, None
            self._set_trial(number, trial)


class DurableStudy:
    """Asks and tells an Optuna study; ``save`` writes the changes to the store.

    The store always holds the state after a complete event, including the sampler. An interrupted search
    therefore resumes with the proposals that it would have made. (Optuna's own storages on disk write each
    parameter separately, and do not write the sampler.)

    Args:
        store: Holds the state; a study that it already holds is restored.
        objectives: Their directions are the study's directions.
        sampler: Makes a sampler for a number of planned trials.
        planned: Number of planned trials; a study that is restored keeps the number that it began with.
        points: Parameter values to propose before the sampler is asked; points that the study was given
            before are not proposed again.
        seed: Seed of random draws that bypass the sampler.

    Raises:
        UserError: If the sampler does not accept the state in the store.
    """

    def __init__(
        self,
        store: SearchStore,
        objectives: Sequence[Objective],
        sampler: Callable[[int], BaseSampler],
        planned: int,
        points: Sequence[Mapping[str, Any]],
        seed: int,
    ) -> None:
        self.store = store
        self.seed = seed
        self._storage = _Storage()
        saved = store.fact("sampler")
        self._planned = planned if saved is None else self._begun_with(saved)
        self.study = optuna.create_study(
            storage=self._storage,
            directions=[StudyDirection[o.direction.upper()] for o in objectives],
            sampler=sampler(self._planned),
        )
        self._study_id = self._storage.get_study_id_from_name(self.study.study_name)
        self._changed: set[int] = set()
        self._points: list[dict[str, Any]] = []
        if saved is not None:
            with store.restoring():
                self._restore(saved["state"])
        self._points += [dict(point) for point in points if dict(point) not in self._points]
        store.put_facts({"points": self._points})
        self._points_taken = store.fact("points_taken") or 0

    def __len__(self) -> int:
        return len(self._storage.get_all_trials(self._study_id, deepcopy=False))

    def ask(self, point: Mapping[str, Any] | None = None) -> optuna.Trial:
        """Return a new trial, from which a space samples.

        Args:
            point: Parameter values to use; None uses the next given point, then the sampler.
        """
        if point is None and self._points_taken < len(self._points):
            point = self._points[self._points_taken]
            self._points_taken += 1
        if point is not None:
            self.study.enqueue_trial(dict(point))
        trial = self.study.ask()
        self._changed.add(trial.number)
        return trial

    @property
    def points_left(self) -> int:
        """Number of given points that were not proposed yet."""
        return len(self._points) - self._points_taken

    @property
    def sampler(self) -> BaseSampler:
        """The study's sampler."""
        return self.study.sampler

    @property
    def entropy(self) -> int:
        """Seed of the next random draw that bypasses the sampler."""
        return derive_seed(self.seed, "past the sampler", len(self))

    @contextmanager
    def at_random(self) -> Iterator[None]:
        """Draw uniformly from the space inside the ``with`` statement, without the sampler."""
        sampler = self.study.sampler
        self.study.sampler = RandomSampler(seed=self.entropy)
        try:
            yield
        finally:
            self.study.sampler = sampler

    def frozen(self, number: int) -> FrozenTrial:
        """Return Optuna's record of a trial."""
        return self._storage.get_trial(number)

    def describe(self, number: int, name: str, value: Any) -> None:
        """Keep a value that JSON can hold with a trial."""
        self._storage.set_trial_user_attr(number, name, value)
        self._changed.add(number)

    def tell(self, number: int, values: Sequence[float], constraints: Mapping[str, float]) -> None:
        """Tell a trial's values, and by how much it breaks each constraint: a value <= 0 satisfies it."""
        self._storage.constrain(number, constraints)
        self.study.tell(number, list(values))
        self._changed.add(number)

    def fail(self, number: int) -> None:
        """Mark a trial as failed, so that samplers do not see it."""
        self.study.tell(number, state=TrialState.FAIL)
        self._changed.add(number)

    def reopen(self, number: int) -> None:
        """Withdraw what was told about a trial that resumes."""
        self._storage.reopen(number)
        self._changed.add(number)

    def save(self) -> None:
        """Write the sampler and the trials that changed since the last call."""
        with self.store.transaction():
            for number in sorted(self._changed):
                self.store.put_asked(number, _document(self.frozen(number)))
            facts = {
                "sampler": {"planned": self._planned, "state": state_of(self.study.sampler)},
                "study": self._storage.get_study_system_attrs(self._study_id),
                "points_taken": self._points_taken,
            }
            self.store.put_facts(facts)
        self._changed.clear()

    def _begun_with(self, saved: Any) -> int:
        """Return the number of trials that were planned when the study began."""
        if isinstance(saved, dict) and isinstance(saved.get("planned"), int) and "state" in saved:
            return int(saved["planned"])
        raise self._unfit("it is none")

    def _unfit(self, reason: object) -> UserError:
        return UserError(
            f"{self.store.path}: the sampler cannot continue from its stored state ({reason}); the file is "
            f"damaged, or another version than Optuna {optuna.__version__} wrote it"
        )

    def _restore(self, state: Any) -> None:
        try:
            restore_state(self.study.sampler, state)
        except ValueError as error:
            raise self._unfit(error) from error
        for _, document in self.store.asked():
            self.study.add_trial(_trial(document))
        for name, value in self.store.fact("study").items():
            self._storage.set_study_system_attr(self._study_id, name, value)
        self._points = self.store.fact("points")


def _document(trial: FrozenTrial) -> dict[str, Any]:
    return {
        "state": trial.state.name,
        "params": trial.params,
        "distributions": {name: distribution_to_json(d) for name, d in trial.distributions.items()},
        "values": trial.values,
        "user_attrs": trial.user_attrs,
        "system_attrs": trial.system_attrs,
    }


def _trial(document: Mapping[str, Any]) -> FrozenTrial:
    distributions = {name: json_to_distribution(text) for name, text in document["distributions"].items()}
    return create_trial(
        **{**document, "state": TrialState[document["state"]], "distributions": distributions}
    )
