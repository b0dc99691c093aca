"""Racing: which configurations are trained again with other seeds, so that luck decides less."""

from __future__ import annotations

from typing import Any

from search.records.evidence import Evidence
from search.records.history import PROBE, TrialRecord
from search.records.status import Status
from search.records.store import SearchStore

#: A configuration's place is sure if its probability to be on the front is <= this, or >= 1 - this.
DOUBT = 0.05


class Race:
    """Spends seeds where they decide, as a race (Maron & Moore, Hoeffding races, 1994) does.

    Where a place on the front is unsure, the most unsure one first, there is a repeat of the configuration or
    of its strongest rival, which keeps it off the front most often: of the one with fewer seeds, as either's
    luck decides. A cheap rival may be on the front for sure, and be lucky. This goes on until all places are
    sure, all of these configurations have their seeds, or the budget is spent: as many repeats as if each
    member of the front of the first results was given all of its seeds. What has a repeat under way comes
    last.

    Without outputs nothing tells what is unsure. Then all members of the front get their seeds, one after the
    other. The configuration of a training, which has no rivals, gets its seeds at once.

    Args:
        evidence: Tells what is sure; its history holds the trials.
        seeds: Number of seeds that a configuration can have.
        store: Keeps what the budget depends on.
        alone: Whether there is one configuration only.
    """

    def __init__(self, evidence: Evidence, seeds: int, store: SearchStore, *, alone: bool = False) -> None:
        self._evidence = evidence
        self._history = evidence.history
        self._seeds = seeds
        self._store = store
        self._alone = alone

    def next(self) -> TrialRecord | None:
        """Return the configuration to repeat next, by its first trial; None if there is none."""
        if self._seeds == 1:
            return None
        if self._alone:
            first = next((r for r in self._history.trials.values() if r.number is not None), None)
            return first if first is not None and self._lacks_seeds(first) else None
        front = self._front()
        chances = self._evidence.chances()
        if not chances:
            return next((member for member in front if self._lacks_seeds(member)), None)
        begun = self._begun()
        if self._repeats() - begun["repeats"] >= (self._seeds - 1) * begun["front"]:
            return None
        members = {member.trial_id for member in front}
        rivals = self._evidence.rivals()
        unsure = []
        for number, record in enumerate(self._history.configurations()):
            # Of a member without outputs nothing is known, so it is as unsure as can be.
            chance = chances.get(record.trial_id, 0.5 if record.trial_id in members else 0.0)
            if DOUBT < chance < 1 - DOUBT and (decides := self._decides(record, rivals.get(record.trial_id))):
                unsure.append((self._under_way(decides), abs(chance - 0.5), number, decides))
        return min(unsure)[-1] if unsure else None

    def _decides(self, record: TrialRecord, rival: TrialRecord | None) -> TrialRecord | None:
        """Return which of two configurations is repeated; None if both have their seeds."""
        pair = [record] if rival is None or rival.kind == PROBE else [record, rival]
        return min(filter(self._lacks_seeds, pair), key=lambda one: len(self.runs(one)), default=None)

    def runs(self, record: TrialRecord) -> list[TrialRecord]:
        """Return the trials of a configuration that have a seed of their own; failed ones are among them."""
        return [run for run in self._history.alike(record) if not run.retry_of]

    def _front(self) -> list[TrialRecord]:
        return [member for member in self._history.front() if member.kind != PROBE]

    def _lacks_seeds(self, record: TrialRecord) -> bool:
        return len(self.runs(record)) < self._seeds  # failed runs count too, or repeats might never end

    def _under_way(self, record: TrialRecord) -> int:
        return sum(run.status is Status.RUNNING for run in self._history.alike(record))

    def _repeats(self) -> int:
        return sum(run.repeat_of is not None and not run.retry_of for run in self._history.trials.values())

    def _begun(self) -> dict[str, Any]:
        """Return the number of repeats, and the size of the front, when all samples had been handed out.

        The front still grows while the last samples run. If samples are added later, another race begins.
        """
        history = self._history
        samples = [record for record in history.trials.values() if record.number is not None]
        kept = self._store.fact("race")
        begun = {"samples": len(samples), "front": len(self._front()), "repeats": self._repeats()}
        if kept is not None and kept["samples"] == len(samples):
            running = any(record.status is Status.RUNNING for record in samples)
            begun = {**kept, "front": max(kept["front"], begun["front"]) if running else kept["front"]}
        if begun != kept:
            self._store.put_facts({"race": begun})
        return begun
