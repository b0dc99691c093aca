"""The search of a supernet's subnets: evolution on the metrics that they reach with inherited weights."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from optuna.samplers import BaseSampler

from search.config import SearchConfig
from search.engine.candidates import Candidate, Candidates
from search.engine.study import DurableStudy
from search.goals.objectives import known_values
from search.goals.pareto import non_dominated
from search.goals.ranking import priority
from search.oneshot.pool import Answer, SubnetPool
from search.records.history import canonical
from search.records.store import SearchStore
from search.samplers import make_sampler
from search.samplers.common import DEVICE_MEMORY
from search.samplers.evolution import EvolutionSampler
from search.setup import Setup
from spaces.subnets import draw_member
from trainables.memory import MemoryReport
from trainables.seeds import derive_seed, short_seed

#: Subnets that are proposed together, from the results of all earlier ones.
GENERATION = 25
#: Name of the constraint that a subnet with a metric that is not finite breaks.
_DIVERGED = "diverged"


@dataclass(frozen=True)
class Evaluated:
    """A subnet and what is known about it.

    Attributes:
        number: Number of its proposal.
        values: Values of the space's parameters.
        config: The configuration.
        memory: Predicted memory of training it on its own.
        metrics: Metrics with inherited weights on the validation split; empty if the subnet breaks a
            constraint, or if one of them is not finite.
        violations: By how much it breaks each constraint that is known before training.
        sampled: Whether it belongs to the random sample.
    """

    number: int
    values: dict[str, Any]
    config: dict[str, Any]
    memory: MemoryReport
    metrics: dict[str, float]
    violations: dict[str, float]
    sampled: bool

    @property
    def known(self) -> dict[str, float]:
        """The known values of the objectives."""
        return {**self.metrics, **known_values(self.memory)}

    def to_dict(self) -> dict[str, Any]:
        """Return the attributes to store, without the number and the parameter values."""
        names = ("config", "metrics", "violations", "sampled")
        return {**{name: getattr(self, name) for name in names}, "memory": asdict(self.memory)}


class SubnetSearch:
    """Searches subnets, and stores the results after each generation.

    An interrupted search resumes with the proposals that it would have made. A configuration that is proposed
    again is answered from the known results.

    Args:
        setup: The setup of the search; its space is that of subnets.
        store: The subnets' store.
    """

    def __init__(self, setup: Setup, store: SearchStore) -> None:
        config = setup.config
        self.setup = setup
        self.store = store
        self.found: dict[str, Evaluated] = {}
        rng = random.Random(derive_seed(config.search.seed, "sample"))
        sample = [draw_member(setup.space, setup.context, rng) for _ in range(config.oneshot.tau_samples)]
        self._sample = {canonical(member.config) for member in sample}
        first = setup.space.first_points(setup.context)
        self.study = DurableStudy(
            store,
            setup.history.objectives,
            lambda planned: _sampler(config, planned),
            config.search.num_samples,
            [*(member.values for member in sample), *first],
            config.search.seed,
        )
        constraints = [*(str(c) for c in setup.history.constraints if c.known), DEVICE_MEMORY, _DIVERGED]
        self.candidates = Candidates(setup, self.study, constraints)
        with store.restoring():
            for number in range(len(self.study)):
                kept = self.study.frozen(number).user_attrs.get("subnet")
                if kept:
                    values, memory = self.study.frozen(number).params, MemoryReport(**kept["memory"])
                    subnet = Evaluated(number, values, **{**kept, "memory": memory})
                    self.found[canonical(subnet.config)] = subnet

    @property
    def exhausted(self) -> bool:
        """Whether the space holds no further subnets."""
        return self.candidates.exhausted

    @property
    def evaluated(self) -> list[Evaluated]:
        """Subnets that have metrics, in the order of proposals."""
        return [subnet for subnet in self.found.values() if subnet.metrics]

    @property
    def sample(self) -> list[Evaluated]:
        """The subnets of the random sample that have metrics."""
        return [subnet for subnet in self.evaluated if subnet.sampled]

    def run(self, pool: SubnetPool, heard: Callable[[int], None]) -> None:
        """Evaluate subnets until the planned number is reached or the space is exhausted.

        Args:
            pool: Evaluates the subnets.
            heard: Called after each result, with the number of evaluated subnets.
        """
        wanted = self.setup.config.search.num_samples
        while (before := len(self.evaluated)) < wanted and not self.exhausted:
            proposals = self.candidates.take(self, min(GENERATION, wanted - before))
            # The first parameters decide the lowest layers: sorted, neighbours have equal lowest layers.
            proposals.sort(key=lambda proposal: list(proposal.values.values()))
            answers: dict[int, Answer] = {}
            for index, answer in pool.evaluate([proposal.config for proposal in proposals]):
                answers[index] = answer
                heard(before + len(answers))
            with self.store.transaction():
                for index in sorted(answers, key=lambda index: proposals[index].number):
                    self._tell(proposals[index], answers[index])
                self.study.save()

    def front(self) -> list[Evaluated]:
        """Return the subnets that no other one dominates, compared with inherited weights."""
        subnets = self.evaluated
        return [subnets[index] for index in non_dominated(self._losses(subnets))]

    def finalists(self, count: int) -> list[Evaluated]:
        """Return the subnets that are worth training on their own.

        Members of the front come first, ordered so that they are far from each other, then the next rank.
        """
        subnets = self.evaluated
        return [subnets[index] for index in priority(self._losses(subnets))[:count]]

    def _losses(self, subnets: Sequence[Evaluated]) -> list[tuple[float, ...]]:
        return [self.setup.history.losses(subnet.known) for subnet in subnets]

    def admits(self, candidate: Candidate) -> Candidate | None:
        """Return a candidate that was not evaluated; the actors check its constraints."""
        if candidate.key not in self.found:
            return candidate
        self._answer(candidate.number, self.found[candidate.key])
        return None

    def knows(self, config: Mapping[str, Any]) -> bool:
        """Return whether a subnet was evaluated."""
        return canonical(config) in self.found

    def postpones(self, candidate: Candidate) -> bool:
        """Return False: evaluating a subnet is cheap, so none is put off."""
        return False

    def _tell(self, proposal: Candidate, answer: Answer) -> None:
        """Keep a result and tell it to Optuna."""
        metrics, violations = answer.metrics, dict(answer.violations)
        if not all(map(math.isfinite, metrics.values())):
            metrics, violations[_DIVERGED] = {}, 1.0
        sampled = proposal.key in self._sample
        subnet = Evaluated(
            proposal.number, proposal.values, proposal.config, answer.memory, metrics, violations, sampled
        )
        self.found[proposal.key] = subnet
        self.study.describe(subnet.number, "subnet", subnet.to_dict())
        self._answer(subnet.number, subnet)

    def _answer(self, number: int, subnet: Evaluated) -> None:
        """Tell Optuna how the subnet of a numbered proposal did; missing values are their references."""
        self.candidates.tell(number, subnet.known, subnet.violations)


def _sampler(config: SearchConfig, planned: int) -> BaseSampler:
    if (
        config.search.sampler == "evolution"
    ):  # children that keep a parent's lowest layers reuse its sequences
        return EvolutionSampler(GENERATION, short_seed(config.search.seed), keep_first=True)
    return make_sampler(config.search.sampler, planned, config.search.seed)
