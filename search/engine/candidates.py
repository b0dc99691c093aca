"""What is tried next, for trials and subnets alike: the sampler's proposals without what is known already."""

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

#: Proposals of the sampler in a row of which nothing may come before others are drawn past it …
MAX_REJECTED = 100
#: … and draws in a row before a space that cannot be counted is taken for exhausted.
MAX_DRAWS = 400
#: Proposals in a row that may be put off.
MAX_DEFERRED = 10
#: Configurations up to which a space is counted.
MAX_COUNTED = 10_000


@dataclass(frozen=True)
class Candidate:
    """A configuration that the sampler proposed.

    Attributes:
        number: Number under which the sampler was asked.
        values: The parameters' values.
        config: The configuration.
        assessment: What is known of it before it is trained, once somebody has asked.
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
    """Knows what was tried, and what a candidate has to keep to."""

    def admits(self, candidate: Candidate) -> Candidate | None:
        """Return the candidate, with what was found out of it, if it is to be tried.

        If it is not, tell the sampler what is known of it, and return None.
        """

    def knows(self, config: Mapping[str, Any]) -> bool:
        """Return whether nothing new would come of a configuration."""

    def postpones(self, candidate: Candidate) -> bool:
        """Return whether a candidate that was admitted had better be tried later."""


class Candidates:
    """Asks the sampler for configurations that are worth trying, and tells it what came of them.

    Args:
        setup: The search's.
        study: Asks the sampler.
        constraints: Names of all constraints that the sampler may be told of.
        listed: Whether the study's points are all there is: nothing is asked of the sampler then.

    Attributes:
        exhausted: Whether there seems to be no further candidate.
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
        """Return candidates that differ from each other; fewer than are wanted if there seem to be no others.

        Args:
            judge: Says which proposals are candidates.
            wanted: How many.
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
                    self.study.fail(found.number)  # nothing came of it, for now: it may be proposed again
                    found = None
                if found is not None:
                    taken[found.key] = found
                rejected = 0 if found is not None else rejected + 1
            elif not self._take_past_the_sampler(judge, taken, wanted):
                self.exhausted = True
                break
        return list(taken.values())

    def tell(self, number: int, values: Mapping[str, float], violations: Mapping[str, float]) -> None:
        """Tell the sampler of a configuration, with all constraints: some samplers want the same of each.

        Args:
            number: Number under which it was asked.
            values: The objectives' values; one that is missing is told as worth nothing.
            violations: By how much it breaks constraints; those that are missing are satisfied.
        """
        history = self.setup.history
        known = {**history.reference, **values}
        constraints = {**dict.fromkeys(self._constraints, 0.0), **violations}
        self.study.tell(number, [known.get(o.name, 0.0) for o in history.objectives], constraints)

    def _ask(
        self, judge: Judge, taken: Mapping[str, Candidate], point: Mapping[str, Any] | None = None
    ) -> Candidate | None:
        """Ask once; None if nothing new comes of the answer."""
        trial = self.study.ask(point)
        config = self.setup.space.sample(trial, self.setup.context)
        candidate = Candidate(trial.number, dict(trial.params), config)
        if candidate.key in taken:
            self.study.fail(trial.number)  # its twin's result is not there yet
            return None
        return judge.admits(candidate)

    def _take_past_the_sampler(self, judge: Judge, taken: dict[str, Candidate], wanted: int) -> bool:
        """Take what is left of a space that can be counted, else draw; return whether there was anything."""
        before = len(taken)

        def ask(point: Mapping[str, Any] | None = None) -> bool:
            """Ask for another candidate; return whether enough are taken."""
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
