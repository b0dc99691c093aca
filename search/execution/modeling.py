"""The models of a search: those of its probes, as soon as these are fitted, and of its front, at its end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from rich.console import Console

from search.backends.base import Modeler
from search.exporting.about import Teller
from search.exporting.card import card
from search.exporting.mlflow_model import MLMODEL, add_mlflow
from search.exporting.models import Models
from search.records.history import TrialRecord
from search.records.store import SearchStore
from search.reporting.progress import say
from search.reporting.rows import row_of
from search.setup import Setup
from trainables.errors import UserError
from trainables.model import read_description
from trainables.probe import Probe, Probes
from trainables.trial.assignment import Assignment


class ModelWriter:
    """Writes the models of a search. What cannot be written costs a line, and nothing else.

    Args:
        setup: The setup of the search, with its history.
        modeler: Writes trials and probes as models.
        console: Where lines are shown.
    """

    def __init__(self, setup: Setup, modeler: Modeler, console: Console) -> None:
        self._history = setup.history
        self._modeler = modeler
        self._console = console
        self._teller = Teller(setup, modeler.encoders, modeler.label)
        self._models = Models(setup.config.place, partial(say, console))

    def probes(self, found: Probes) -> None:
        """Write the models of probes, which are in the history already: only now are there weights."""
        fitted = dict(zip(self._history.probes, (found.joint, *found.single.values()), strict=True))
        for name, record in self._history.probes.items():
            record.model = self._models.write(name, self._of_probe(record, fitted[name]))

    def front(self, store: SearchStore, assign: Callable[[TrialRecord], Assignment] | None) -> None:
        """Write the models of the front, and tell the store.

        Args:
            store: The store of the search.
            assign: Returns a trial's assignment; None if there are no trials.
        """
        history, before = self._history, self._named()
        front = history.front()
        with self._console.status("writing the models of the front"):
            for name, probe in history.probes.items():
                if probe.model is not None and self._models.fetch(name):
                    probe.model = self._models.write(name, partial(self._describe, probe, front))
            for record in front:
                if assign is not None and record.trial_id in history.trials:
                    write = partial(self._of_trial, record, front, assign)
                    record.model = self._models.write(record.trial_id, write)
        members = {record.trial_id for record in front}
        for record in history.trials.values():
            record.model = record.model if record.trial_id in members else None
        with store.transaction():
            for trial_id, model in self._named().items():
                if trial_id in history.trials and before[trial_id] != model:
                    store.put_trial(trial_id, history.trials[trial_id].to_dict())
            store.put_facts(history.probe_facts())

    def folders(self) -> dict[str, Path]:
        """Return the folders of the front's models by trial."""
        folder = self._models.place.folder
        return {record.trial_id: folder / record.model for record in self._history.front() if record.model}

    def sweep(self) -> None:
        """Remove the models of trials that are not on the front any more; those of probes stay."""
        self._models.keep([trial_id for trial_id, model in self._named().items() if model is not None])

    def _named(self) -> dict[str, str | None]:
        """Return the model of each trial and probe, by its name."""
        records = (*self._history.trials.values(), *self._history.probes.values())
        return {record.trial_id: record.model for record in records}

    def _of_trial(
        self,
        record: TrialRecord,
        front: Sequence[TrialRecord],
        assign: Callable[[TrialRecord], Assignment],
        folder: Path,
    ) -> None:
        """Write the model of a member, or what is said of it if its weights are there already."""
        run = self._history.best_run(record)
        if run.checkpoint is None:
            raise UserError("its checkpoint is gone")
        if _made_of(folder) == run.checkpoint:
            self._describe(record, front, folder)
            return
        about = self._about(record, front)
        self._modeler.write(assign(run), folder, about=about, card=card(about))
        add_mlflow(folder)

    def _of_probe(self, record: TrialRecord, probe: Probe) -> Callable[[Path], None]:
        def write(folder: Path) -> None:
            about = self._about(record, ())
            self._modeler.write_probe(probe, record.trial_id, folder, about=about, card=card(about))
            add_mlflow(folder)

        return write

    def _describe(self, record: TrialRecord, front: Sequence[TrialRecord], folder: Path) -> None:
        about = self._about(record, front)
        self._modeler.describe(folder, about=about, card=card(about))

    def _about(self, record: TrialRecord, front: Sequence[TrialRecord]) -> dict[str, object]:
        places = [member.trial_id for member in front]
        place = places.index(record.trial_id) + 1 if record.trial_id in places else None
        row, run = row_of(record, self._history), self._history.best_run(record)
        return self._teller.about(row, run, place=place, members=len(front))


def _made_of(folder: Path) -> str | None:
    """Return the checkpoint of which a whole model was made; None if there is none, or none for MLflow."""
    try:
        found: str | None = read_description(folder).about.get("checkpoint")
    except UserError:
        return None
    return found if (folder / MLMODEL).is_file() else None
