"""What of a trial is kept when it has ended."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.fs
import pytest
from ray.tune.search import Searcher

from search.checkpoints import storage
from search.engine.searcher import ParetoSearcher
from search.execution import cleaning
from search.execution.cleaning import Cleaner, superfluous
from search.records.history import TrialRecord
from search.records.status import Status
from search.testing.searching import DIVERGED, end, make_searcher, result
from tests.search.buckets import s3_server
from trainables.trial.assignment import folder_name
from trainables.trial.checkpoint import TRAINER, WEIGHTS


class Driven:
    """A search whose trials leave checkpoints in a folder as Ray Tune does, at most two a leg."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.folder = folder
        self.settings = {"objectives": ("accuracy", "loss"), "epochs": 4, **settings}
        self.said: list[str] = []
        self.begin()

    def begin(self) -> None:
        """Start the search, or resume it."""
        self.searcher: ParetoSearcher = make_searcher(folder=self.folder, **self.settings)
        self.history = self.searcher.history
        self.cleaner = Cleaner(
            self.searcher.recorder,
            str(self.folder),
            lambda: self.searcher.config.search.seeds == 1 or self.searcher.done,
            self.said.append,
        )
        self.searcher.recorder.listeners.append(self.cleaner)
        self._legs = sum(record.legs for record in self.history.trials.values())

    def hand_out(self) -> tuple[str, TrialRecord]:
        self._legs += 1
        tune_id = f"leg-{self._legs}"
        assert isinstance(self.searcher.suggest(tune_id), dict)
        return tune_id, self.history.leg(tune_id)

    def save(self, tune_id: str, record: TrialRecord) -> None:
        leg = self.folder / folder_name(record.trial_id, record.legs)
        there = sorted(leg.glob("checkpoint_*"))
        number = 1 + int(there[-1].name[-6:]) if there else 0
        path = leg / f"checkpoint_{number:06d}"
        path.mkdir(parents=True)
        for name in (WEIGHTS, TRAINER):
            (path / name).write_bytes(b"." * 1000)
        for old in there[:-1]:
            for file in old.iterdir():
                file.unlink()
            old.rmdir()
        self.searcher.recorder.save(tune_id, str(path.relative_to(self.folder)))

    def epoch(self, tune_id: str, accuracy: float, loss: float | None = None) -> TrialRecord:
        """Run an epoch of a trial; end the trial if the epochs or the rule say so."""
        record = self.history.leg(tune_id)
        reported = result(len(record.epochs) + 1, accuracy)
        reported["loss"] = 1 - accuracy if loss is None else loss
        goes_on = self.searcher.recorder.report(tune_id, reported)
        self.save(tune_id, record)
        if not goes_on or reported["epoch"] == self.searcher.config.trial.epochs:
            self.searcher.on_trial_complete(tune_id, reported)
        return record

    def trained(self, accuracy: float, loss: float | None = None) -> TrialRecord:
        """Hand out a trial and run it to its end."""
        tune_id, record = self.hand_out()
        while record.status is Status.RUNNING:
            self.epoch(tune_id, accuracy, loss)
        return record

    def kept(self, record: TrialRecord) -> list[str]:
        """The files of a trial's checkpoints."""
        return sorted(
            str(path.relative_to(self.folder))
            for path in self.folder.glob(f"{record.trial_id}*/checkpoint_*/*")
        )

    def stored(self, record: TrialRecord) -> str | None:
        """Where the store says that a trial's checkpoint is."""
        documents = {name: document for name, document, _ in self.searcher.store.trials()}
        found: str | None = documents[record.trial_id]["checkpoint"]
        return found


def test_of_what_is_on_the_front_the_weights_are_kept(tmp_path) -> None:
    driven = Driven(tmp_path / "search")
    record = driven.trained(0.5)
    assert driven.kept(record) == [f"trial-000/checkpoint_000003/{WEIGHTS}"]
    assert driven.stored(record) == record.checkpoint == "trial-000/checkpoint_000003"


def test_what_leaves_the_front_leaves_the_disk(tmp_path) -> None:
    driven = Driven(tmp_path / "search")
    first, second = driven.trained(0.5), driven.trained(0.4)
    assert driven.kept(second) == []
    assert (second.checkpoint, driven.stored(second)) == (None, None)
    assert driven.kept(first) != []
    better = driven.trained(0.6)
    assert (driven.kept(first), driven.stored(first)) == ([], None)
    assert driven.kept(better) != []
    third = driven.trained(0.5, loss=0.1)
    assert driven.kept(better) != [] != driven.kept(third), "neither dominates the other"
    assert driven.said == []


def test_the_best_of_each_method_is_kept(tmp_path) -> None:
    driven = Driven(tmp_path / "search", space="all_methods", num_samples=30)
    records: dict[str, list[TrialRecord]] = {}
    accuracies = iter(range(900, 0, -10))
    while len(records) < 3 or max(map(len, records.values())) < 2:
        record = driven.trained(next(accuracies) / 1000)
        records.setdefault(record.config["method"], []).append(record)
    for best, *others in records.values():
        assert driven.kept(best) != []
        assert all(driven.kept(other) == [] for other in others)


def test_a_paused_trial_keeps_what_it_needs_over_all_of_its_legs(tmp_path) -> None:
    driven = Driven(tmp_path / "search", epochs=9, scheduler="pareto_asha", reduction_factor=3, min_epochs=3)
    first, record = driven.hand_out()
    other, _ = driven.hand_out()
    for tune_id, accuracy in ((other, 0.9), (first, 0.5)):
        for _ in range(3):
            driven.epoch(tune_id, accuracy)
    assert record.status is Status.PAUSED
    whole = [f"trial-000/checkpoint_00000{n}/{name}" for n in (1, 2) for name in (TRAINER, WEIGHTS)]
    assert driven.kept(record) == whole


@pytest.mark.parametrize("how", ["fails", "diverges", "is cut off"])
def test_a_trial_that_has_not_finished_loses_nothing(tmp_path, how) -> None:
    driven = Driven(tmp_path / "search")
    tune_id, record = driven.hand_out()
    driven.epoch(tune_id, 0.5)
    driven.epoch(tune_id, 0.5)
    before = driven.kept(record)
    assert len(before) == 4
    driven.searcher.store.close()
    # It is resumed, and does not get to its next epoch.
    driven.begin()
    tune_id, record = driven.hand_out()
    assert (record.trial_id, record.legs) == ("trial-000", 2)
    if how == "fails":
        driven.searcher.recorder.fail(tune_id, "its worker died")
        driven.searcher.on_trial_complete(tune_id, error=True)
    elif how == "diverges":
        end(driven.searcher, tune_id, DIVERGED)
    else:
        driven.searcher.store.close()
        driven.begin()
        driven.cleaner.sweep()
    assert driven.kept(record) == before
    assert driven.stored(record) == "trial-000/checkpoint_000001"


def test_what_the_rule_has_stopped_keeps_nothing(tmp_path) -> None:
    driven = Driven(tmp_path / "search", scheduler="median")
    for accuracy in (0.5, 0.6, 0.7):
        driven.trained(accuracy)
    record = driven.trained(0.1)
    assert record.status is Status.STOPPED
    assert (driven.kept(record), driven.stored(record)) == ([], None)


def test_folders_of_earlier_legs_go_when_the_trial_has_finished(tmp_path) -> None:
    driven = Driven(tmp_path / "search")
    tune_id, _ = driven.hand_out()
    driven.epoch(tune_id, 0.5)
    driven.searcher.store.close()
    driven.begin()
    record = driven.trained(0.5)
    assert driven.kept(record) == [f"trial-000.2/checkpoint_000002/{WEIGHTS}"]
    assert not (driven.folder / "trial-000").exists()


def test_what_an_interruption_left_is_removed_when_the_search_goes_on(tmp_path) -> None:
    driven = Driven(tmp_path / "search")
    driven.searcher.recorder.listeners.clear()  # as if the driver was killed before each removal
    first, second = driven.trained(0.5), driven.trained(0.4)
    assert len(driven.kept(first)) == len(driven.kept(second)) == 4
    driven.searcher.store.close()
    driven.begin()
    driven.cleaner.sweep()
    assert driven.kept(first) == [f"trial-000/checkpoint_000003/{WEIGHTS}"]
    assert driven.kept(second) == []


def test_with_seeds_to_come_a_dominated_trial_may_still_be_needed(tmp_path) -> None:
    driven = Driven(tmp_path / "search", seeds=2, num_samples=3)
    first, second, third = driven.trained(0.6), driven.trained(0.5), driven.trained(0.4)
    assert superfluous(driven.history) == [second, third]
    assert all(driven.kept(record) != [] for record in (second, third))
    # The best one was lucky: the next one takes its place on the front.
    again = driven.trained(0.1)
    assert again.repeat_of == first.trial_id
    assert driven.history.front() == [second]
    assert all(driven.kept(record) != [] for record in (first, again, second, third))
    assert driven.trained(0.5).repeat_of == second.trial_id
    assert driven.kept(third) != []
    # When there is nothing left to repeat, nothing can bring back what is dominated.
    assert driven.searcher.suggest("more") == Searcher.FINISHED
    driven.cleaner.sweep()
    assert driven.kept(second) != []
    assert [driven.kept(record) for record in (first, again, third)] == [[], [], []]


def test_a_bucket_is_cleaned_as_a_folder_is(tmp_path, monkeypatch) -> None:
    with s3_server() as variables:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        files, path = storage("s3://bucket/runs/search")

        def there() -> list[str]:
            found = files.get_file_info(pyarrow.fs.FileSelector(path, recursive=True, allow_not_found=True))
            return sorted(
                info.path.removeprefix(f"{path}/") for info in found if info.type is pyarrow.fs.FileType.File
            )

        searcher = make_searcher(objectives=("accuracy", "loss"), epochs=1)
        said: list[str] = []
        cleaner = Cleaner(searcher.recorder, "s3://bucket/runs/search", lambda: True, said.append)
        searcher.recorder.listeners.append(cleaner)
        for number, accuracy in enumerate((0.5, 0.4, 0.6)):
            searcher.suggest(f"leg-{number}")
            for saved in (0, 1):
                for name in (WEIGHTS, TRAINER):
                    where = f"{path}/trial-{number:03d}/checkpoint_{saved:06d}/{name}"
                    with files.open_output_stream(where) as file:
                        file.write(b"...")
            searcher.recorder.save(f"leg-{number}", f"trial-{number:03d}/checkpoint_000001")
            end(searcher, f"leg-{number}", result(1, accuracy))
            best = "trial-002" if number == 2 else "trial-000"
            assert there() == [f"{best}/checkpoint_000001/{WEIGHTS}"]
        assert said == []


def test_a_disk_that_refuses_is_no_end_of_the_search(tmp_path, monkeypatch) -> None:
    class Refusing:
        def __getattr__(self, name: str) -> Any:
            return getattr(pyarrow.fs.LocalFileSystem(), name)

        def delete_dir(self, path: str) -> None:
            raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(cleaning, "storage", lambda folder: (Refusing(), folder))
    driven = Driven(tmp_path / "search")
    driven.trained(0.5)
    assert driven.trained(0.4).status is Status.FINISHED
    assert driven.said
    assert driven.said[0].endswith("cannot be removed (Permission denied)")
