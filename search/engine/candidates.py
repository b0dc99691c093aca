"""Candidates for trials and subnets alike: the sampler's proposals without known configurations."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from search.engine.gate import Assessment
from search.engine.study import DurableStudy
from search.records.history import canonical
from search.setup import Setup
from spaces.grid import count, enumerate_space

#: Rejected proposals in a row after which candidates are taken without the sampler.
MAX_REJECTED = 100
#: Most draws from a space that cannot be counted; if none is a candidate, the space counts as exhausted.
MAX_DRAWS = 400
#: Rejected proposals in a row after which no candidate is put off.
MAX_DEFERRED = 10
#: A space with more configurations than this is not counted.
MAX_COUNTED = 10_000


@dataclass(frozen=True)
class Candidate:
    """A configuration that the sampler proposed.

    Attributes:
        number: Number of the proposal in the study.
        values: Values of the space's parameters.
        config: The configuration.
        assessment: What is known before training; None until the gate has assessed it.
    """

    number: int
    values: dict[str, Any]
    config: dict[str, Any]
    assessment: Assessment | None = None

    @property
    def key(self) -> str:
        """The configuration as text."""
        return canonical(self.config)


class Judge(Protocol):
    """Knows which configurations were tried, and decides which candidates are to be tried."""

    def admits(self, candidate: Candidate) -> Candidate | None:
        """Return the candidate, with its assessment if there is one, if it is to be tried.

        Otherwise tell the sampler what is known about it and return None.
        """

    def knows(self, config: Mapping[str, Any]) -> bool:
        """Return whether trying a configuration would bring nothing new."""

    def postpones(self, candidate: Candidate) -> bool:
        """Return whether an admitted candidate should be tried later."""


class Candidates:
    """Asks the sampler for configurations that are worth trying, and tells it how they did.

    Args:
        setup: The setup of the search.
        study: Asks the sampler.
        constraints: Names of all constraints that the sampler may be told.
        listed: Whether only the study's given points are tried, and none that the sampler proposes.

    Attributes:
        exhausted: Whether no further candidate seems to exist.
    """

    def __init__(
        self, setup: Setup, study: DurableStudy, constraints: Sequence[str], *, listed: bool = False
    ) -> None:
        self.setup = setup
        self.study = study
        self.exhausted = False
        self._constraints = constraints
        self._listed = listed

    def take(self, judge: Judge, wanted: int = 1) -> list[Candidate]:
        """Return ``wanted`` different candidates, or fewer if no others seem to exist.

        Args:
            judge: Decides which proposals are candidates.
            wanted: Number of candidates.
        """
        taken: dict[str, Candidate] = {}
        rejected = 0
        while len(taken) < wanted:
            if self._listed and not self.study.points_left:
                self.exhausted = True
                break
            if rejected < MAX_REJECTED or self._listed:
                found = self._ask(judge, taken)
                if found is not None and rejected < MAX_DEFERRED and judge.postpones(found):
                    self.study.fail(found.number)  # it has no result, so it may be proposed again
                    found = None
                if found is not None:
                    taken[found.key] = found
                rejected = 0 if found is not None else rejected + 1
            elif not self._take_past_the_sampler(judge, taken, wanted):
                self.exhausted = True
                break
        return list(taken.values())

    def tell(self, number: int, values: Mapping[str, float], violations: Mapping[str, float]) -> None:
        """Tell the sampler how a configuration did.

        Every constraint is told, because some samplers need the same constraints for each trial.

        Args:
            number: Number of the proposal.
            values: The objectives' values; the reference value stands for a missing one.
            violations: By how much it breaks constraints; a missing one counts as satisfied.
        """
        history = self.setup.history
        known = {**history.reference, **values}
        constraints = {**dict.fromkeys(self._constraints, 0.0), **violations}
        self.study.tell(number, [known.get(o.name, 0.0) for o in history.objectives], constraints)

    def _ask(
        self, judge: Judge, taken: Mapping[str, Candidate], point: Mapping[str, Any] | None = None
    ) -> Candidate | None:
        """Ask the sampler once; return None if its proposal is not a new candidate."""
        trial = self.study.ask(point)
        config = self.setup.space.sample(trial, self.setup.context)
        candidate = Candidate(trial.number, dict(trial.params), config)
        if candidate.key in taken:
            self.study.fail(trial.number)  # the same configuration was just taken and has no result yet
            return None
        return judge.admits(candidate)

    def _take_past_the_sampler(self, judge: Judge, taken: dict[str, Candidate], wanted: int) -> bool:
        """Take the rest of a countable space, or draw at random; return whether a candidate was found."""
        before = len(taken)

        def ask(point: Mapping[str, Any] | None = None) -> bool:
            """Ask for another candidate; return whether ``wanted`` are taken."""
            found = self._ask(judge, taken, point)
            if found is not None:
                taken[found.key] = found
            return len(taken) >= wanted

        space, context = self.setup.space, self.setup.context
        if count(space, context, MAX_COUNTED) is not None:
            left = [m.values for m in enumerate_space(space, context) if not judge.knows(m.config)]
            random.Random(self.study.entropy).shuffle(left)
            any(map(ask, left))
        else:
            with self.study.at_random():
                any(ask() for _ in range(MAX_DRAWS))
        return len(taken) > before
