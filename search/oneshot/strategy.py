"""The phases of a one-shot search before its best subnets are trained; each phase can be resumed."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from ray.train import Checkpoint
from rich.console import Console

from search.backends.base import Prepared
from search.backends.training import PreparedTraining
from search.checkpoints import keep_weights
from search.engine.gate import Gate
from search.goals.agreement import RankAgreement, may_be_guessed
from search.oneshot.ordering import order_supernet, supernet_spec
from search.oneshot.pool import EvaluationJob, SubnetPool
from search.oneshot.subnets import SubnetSearch
from search.oneshot.supernet import SUPERNET, train_supernet
from search.placement import Placement
from search.records.history import TrialRecord
from search.records.place import FILE
from search.records.status import Status
from search.records.store import SearchStore
from search.reporting.progress import Steps, say
from search.reporting.tracker import Tracker
from search.setup import Setup
from search.units import GIB, format_size
from trainables.elastic import DESCRIPTION, SupernetWeights
from trainables.errors import UserError
from trainables.trial.checkpoint import WEIGHTS, DamagedError, check

#: Folder of the subnets' store, inside the search's folder.
SUBNETS = "subnets"


class OneShot:
    """Trains a supernet, searches its subnets and chooses the subnets to train on their own.

    Args:
        setup: The setup of the search; its space is that of subnets.
        prepared: Trains trials.
        placement: Decides what share of a device actors and workers get.
        store: The search's store.
        tracker: Records the supernet's training in MLflow.
        console: Where progress is shown.

    Raises:
        UserError: If the backend replays recorded trials.
    """

    def __init__(
        self,
        setup: Setup,
        prepared: Prepared,
        placement: Placement,
        store: SearchStore,
        tracker: Tracker,
        console: Console,
    ) -> None:
        self.setup = setup
        if not isinstance(prepared, PreparedTraining):
            raise UserError("--strategy oneshot: trains a supernet; recorded trials cannot stand in for that")
        self.prepared = prepared
        self.placement = placement
        self.gate = Gate.of_trials(setup, placement)
        self.store = store
        self.folder = setup.config.place.folder
        self.tracker = tracker
        self.console = console
        self.weights: SupernetWeights | None = None
        self.search: SubnetSearch | None = None

    def run(self) -> bool:
        """Train the supernet and search its subnets, unless that is done; return False if interrupted."""
        try:
            self.weights = self._train()
            self._search(self.weights)
            self._warn_of_guesses()
        except KeyboardInterrupt:
            return False
        return True

    def finals(self) -> list[dict[str, Any]]:
        """Return the parameter values of the finalists and of the random sample, to train on their own."""
        assert self.search is not None
        chosen = [*self.search.finalists(self.setup.config.oneshot.finalists), *self.search.sample]
        # Subnets that were chosen before the search was resumed stay: they are trained already.
        points: list[dict[str, Any]] = self.store.fact("finals") or []
        for subnet in chosen:
            if subnet.values not in points:
                points.append(subnet.values)
        self.store.put_facts({"finals": points})
        self.setup.history.inherited = {key: s.metrics for key, s in self.search.found.items() if s.metrics}
        return points

    @property
    def evaluated(self) -> int:
        """Number of subnets evaluated with inherited weights."""
        return len(self.search.evaluated) if self.search else 0

    @property
    def exhausted(self) -> bool:
        """Whether the space holds no further subnets."""
        return self.search is not None and self.search.exhausted

    def agreement(self) -> RankAgreement:
        """Return the inherited and own results of the random sample, in the first trained objective."""
        history = self.setup.history
        objective = history.trained_objective
        name = objective.name
        pairs = []
        for subnet in self.search.sample if self.search else []:
            record = history.find(subnet.config)
            if record is not None and record.status is Status.FINISHED:
                pairs.append((subnet.metrics[name], history.values(record)[name]))
        inherited, own = zip(*pairs, strict=True) if pairs else ((), ())
        rows = self.setup.details["dataset.validation"] if objective.share_of_rows else None
        return RankAgreement(name, inherited, own, rows)

    def rows(self) -> list[dict[str, Any]]:
        """Return all evaluated subnets as rows of a table; memory is in GiB."""
        return [
            {
                "memory": subnet.memory.memory / GIB,
                **{f"inherited_{name}": value for name, value in subnet.metrics.items()},
                "trainable_parameters": subnet.memory.trainable_parameters,
                "random_sample": subnet.sampled,
                "config": subnet.config,
            }
            for subnet in (self.search.evaluated if self.search else [])
        ]

    def _train(self) -> SupernetWeights:
        kept = self.store.fact(SUPERNET)
        if kept and kept["document"]["status"] == Status.FINISHED:
            record = TrialRecord.from_dict(SUPERNET, kept["document"], kept["epochs"])
            try:
                weights = self._weights(record)
            except DamagedError as error:
                self._say(f"the supernet is trained again: its checkpoint is damaged ({error})")
            else:
                self._say(f"the supernet is trained ({len(record.epochs)} epochs)")
                self.tracker.update(record)
                return weights
        record = self._train_anew(kept)
        self.tracker.update(record)
        weights = self._weights(record)
        keep_weights(self._checkpoint(record))
        return weights

    def _checkpoint(self, record: TrialRecord) -> Checkpoint:
        assert record.checkpoint is not None
        return Checkpoint(self.setup.config.place.inside(record.checkpoint))

    def _weights(self, record: TrialRecord) -> SupernetWeights:
        """Return the weights in a supernet's checkpoint.

        Raises:
            DamagedError: If they are not what was written.
        """
        try:
            with self._checkpoint(record).as_directory() as folder:
                check(Path(folder), [WEIGHTS, DESCRIPTION])
                return SupernetWeights.load(Path(folder))
        except FileNotFoundError as error:
            raise DamagedError("it is missing") from error

    def _train_anew(self, kept: dict[str, Any] | None) -> TrialRecord:
        config = self.setup.config
        order = order_supernet(self.setup, self.prepared, self.placement, self.gate, self._say)
        epochs = kept["epochs"] if kept else []
        record = TrialRecord(
            SUPERNET, order.config, order.memory, seed=config.search.seed, epochs=epochs, kind=SUPERNET
        )
        paths = f"{config.oneshot.paths} paths{' with distillation' if config.oneshot.distill else ''}"
        workers = f" on each of {order.workers} workers" if order.workers > 1 else ""
        self._say(
            f"supernet of space '{config.search.space}': {config.oneshot.supernet_epochs} epochs, {paths}, "
            f"{order.memory.trainable_parameters:,} trained parameters, "
            f"{format_size(order.memory.memory)}{workers}"
        )
        self.tracker.update(record)
        metric = next(o.name for o in self.setup.history.shown if o.tested)
        with Steps(self.console, "supernet", config.oneshot.supernet_epochs, len(epochs)) as steps:

            def heard(result: dict[str, Any]) -> None:
                self.setup.history.note(record, {**result, "expected_memory": order.expected.total / GIB})
                latest = record.epochs[-1]
                steps.update(
                    len(record.epochs),
                    f"training loss {latest['train_loss']:.3f}, {metric} of the first point "
                    f"{latest[metric]:.3f}",
                    always=True,
                )
                self._keep(record)
                self.tracker.update(record)

            record.checkpoint = train_supernet(order, config, heard, self._say)
        record.status = Status.FINISHED
        self._keep(record)
        return record

    def _keep(self, record: TrialRecord) -> None:
        self.store.put_facts({SUPERNET: {"document": record.to_dict(), "epochs": record.epochs}})

    def _search(self, weights: SupernetWeights) -> None:
        wanted = self.setup.config.search.num_samples
        there = (self.folder / SUBNETS / FILE).exists()
        store = (SearchStore.open if there else _created)(self.folder / SUBNETS)
        try:
            search = self.search = SubnetSearch(self.setup, store)
            before = len(search.evaluated)
            if before >= wanted:
                self._say(f"{before} subnets are evaluated")
                return
            pool = self._pool(weights)
            with Steps(self.console, "subnets", wanted, before) as steps:
                actors = f"{pool.size} actor{'s' if pool.size > 1 else ''}"
                steps.update(before, f"on {actors}, in {pool.precision()}", always=True)
                started = time.monotonic()

                def heard(count: int) -> None:
                    rate = (count - before) / (time.monotonic() - started)
                    steps.update(count, f"{rate:.2f} a second{self._best_in_words()}")

                search.run(pool, heard)
            done, seconds = len(search.evaluated), time.monotonic() - started
            share = pool.shared()
            shared = f", {share:.0%} of their fused layers shared" if share else ""
            self._say(
                f"{done} subnets evaluated, {(done - before) / seconds:.2f} a second{shared}; front of "
                f"{len(search.front())} with inherited weights{self._best_in_words()}"
            )
            pool.close()
        finally:
            store.close()

    def _pool(self, weights: SupernetWeights) -> SubnetPool:
        """Start as many actors as fit, each with memory for the largest subnet."""
        setup, config, placement = self.setup, self.setup.config, self.placement
        largest = setup.space.largest(setup.context)[0]
        needed = self.gate.needed(largest, setup.predictor)
        limit = needed if placement.limit is None else placement.limit
        # If the largest subnet fits, all do, and the gate need not check each one.
        gate = replace(self.gate, placement=None) if needed <= limit else self.gate
        evaluating = self.gate.starting(None).needed(largest, setup.predictor)  # which starts no head
        share = placement.of(min(evaluating, limit))
        setting = supernet_spec(setup, self.prepared.spec).setting
        job = EvaluationJob(
            self.prepared.spec,
            setting.batch_size // setting.gradient_accumulation,
            gate,
            share,
            config.oneshot.subnet_precision,
            self.prepared.predictor.inference,
        )
        size = max(1, int(min(placement.concurrent, placement.capacity / share.size + 1e-9)))
        return SubnetPool(job, weights, size, config.placement.max_failures, self._say)

    def _best(self) -> float | None:
        """Return the best inherited value of the first trained objective."""
        assert self.search is not None
        objective = self.setup.history.trained_objective
        values = (subnet.metrics[objective.name] for subnet in self.search.evaluated)
        return min(values, key=objective.loss, default=None)

    def _best_in_words(self) -> str:
        best, name = self._best(), self.setup.history.trained_objective.name
        return "" if best is None else f", best {name} {best:.3f}"

    def _warn_of_guesses(self) -> None:
        """Say so if subnets cannot be ranked because the supernet has not learnt enough."""
        objective, best = self.setup.history.trained_objective, self._best()
        guess, rows = self.setup.backend.guess.get(objective.name), self.setup.details["dataset.validation"]
        if best is None or guess is None:
            return
        if may_be_guessed(objective, best, self.evaluated, guess, rows):
            epochs = self.setup.config.oneshot.supernet_epochs
            self._say(
                f"no subnet is better than guessing ({objective.name} {guess:.3f}) by more than luck: after "
                f"--supernet-epochs {epochs} the supernet has learnt too little to rank its subnets; train a "
                "new one for longer, or search with --strategy trials"
            )

    def _say(self, text: str) -> None:
        say(self.console, text)


def _created(folder: Path) -> SearchStore:
    return SearchStore.create(folder, {})
