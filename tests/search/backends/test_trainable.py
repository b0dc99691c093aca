"""What the searcher hands out is what the trial gets, field by field."""

from __future__ import annotations

import copy
import dataclasses
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from ray.tune import Checkpoint

from search.backends import trainable
from search.backends.trainable import FusionTrial
from search.placement import Share
from search.records.status import Ending, Status
from tests.trials import DAMAGE, PMF, Saved
from trainables.data import open_dataset
from trainables.errors import DiskFullError
from trainables.memory import MemoryReport
from trainables.progress import no_tick
from trainables.trial import watchdog
from trainables.trial.assignment import Assignment, Bar
from trainables.trial.run import TrialRun, evaluate_on_test
from trainables.trial.workbench import TrialSpec

#: What a trial on a CPU gets.
SHARE = Share({"CPU": 1}, {}, 1.0, None, 1)


class Reached:
    """A trial as Ray Tune makes one, without the object store, and what can be seen of it."""

    def __init__(self, spec: TrialSpec, assignment: Assignment, monkeypatch: pytest.MonkeyPatch) -> None:
        class Trial(FusionTrial):
            def setup(self, config: dict[str, Any], **_: Any) -> None:
                super().setup(config, spec=spec)

        granted: list[int | None] = []
        monkeypatch.setattr(trainable, "limit_memory", lambda limit, context: granted.append(limit))
        self.trainable = Trial({"assignment": assignment, "share": SHARE})
        threads = torch.get_num_threads()
        try:
            self.result = self.trainable.step()
            used = torch.get_num_threads()
        finally:
            torch.set_num_threads(threads)
        self.seen = {
            "config": self.trainable._run.method.trainable_parameter_count(),
            "seed": (self.result["train_loss"], self.result["loss"]),
            "threads": used,
            "granted": granted,
            "expected": self.result.get("expected_memory"),
            "checkpoint": self.result["epoch"],
            "trial_id": assignment.folder,
            "leg": assignment.folder,
            "bar": self.result.get("test_split"),
        }


@pytest.fixture
def changes(trial_spec, tmp_path) -> dict[str, Any]:
    """Another value of each field."""
    run = TrialRun(trial_spec, PMF)
    run.epoch()
    run.save(tmp_path)
    return {
        "config": {**PMF.config, "n_fusion_layers": 1},
        "seed": 1,
        "threads": 2,
        "granted": 2**30,
        "expected": MemoryReport(2**20, 2**20, 0, 0, 0, 0, 100, 400),
        "checkpoint": Saved(tmp_path),
        "trial_id": "trial-007",
        "leg": 2,
        "bar": Bar("accuracy"),
    }


def test_every_field_changes_what_it_should(trial_spec, changes, monkeypatch) -> None:
    assigned = dataclasses.replace(PMF, trial_id="trial-000")
    # The bar counts in the last epoch.
    specs = dict.fromkeys(changes, trial_spec) | {"bar": dataclasses.replace(trial_spec, epochs=1)}
    before = {spec.epochs: Reached(spec, assigned, monkeypatch).seen for spec in (trial_spec, specs["bar"])}
    expected = {"threads": 2, "granted": [2**30], "expected": 2**20 / 2**30, "checkpoint": 2}
    assert set(changes) == {field.name for field in dataclasses.fields(Assignment)}
    for name, change in changes.items():
        changed = dataclasses.replace(assigned, **{name: change})
        after = Reached(specs[name], changed, monkeypatch).seen
        assert before[specs[name].epochs][name] != after[name], name
        assert after[name] == expected.get(name, after[name]), name


@pytest.mark.parametrize(("reserved", "expected"), [(None, None), (3 * 2**30, 3.0)])
def test_what_an_allocator_is_expected_to_reserve_is_reported(
    trial_spec, monkeypatch, reserved, expected
) -> None:
    report = MemoryReport(2**30, 2**30, 0, 0, 0, 0, 100, 400, reserved=reserved, context=2**20)
    result = Reached(trial_spec, dataclasses.replace(PMF, expected=report), monkeypatch).result
    assert (result["expected_memory"], result.get("expected_reserved")) == (1.0, expected)


def test_equal_assignments_give_equal_trials(trial_spec, monkeypatch) -> None:
    one, two = (Reached(trial_spec, PMF, monkeypatch).seen for _ in range(2))
    assert one == two


class Built:
    """A trial in whose first step something is wrong."""

    def __init__(self, spec: TrialSpec, **resources: float) -> None:
        class Trial(FusionTrial):
            def setup(self, config: dict[str, Any], **_: Any) -> None:
                super().setup(config, spec=spec)

        share = Share(resources, {}, 1.0, None, 1)
        self.trial = Trial({"assignment": PMF, "share": share})


def test_a_users_mistake_is_no_result(trial_spec, tmp_path) -> None:
    lacking = dataclasses.replace(trial_spec, dataset=str(tmp_path / "gone"), prepared="of another node")
    trial = Built(lacking, CPU=1).trial
    ending = Ending.from_result(trial.step())
    assert ending is not None
    assert ending.status is Status.SET_ASIDE
    assert "gone" in ending.message
    saved = tmp_path / "saved"
    saved.mkdir()
    trial.save_checkpoint(str(saved))
    assert not list(saved.iterdir())


def test_a_full_disk_is_raised(trial_spec, monkeypatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise DiskFullError("/cache: no space is left")

    monkeypatch.setattr(trainable, "TrialRun", full)
    with pytest.raises(DiskFullError):
        Built(trial_spec, CPU=1).trial.step()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_that_was_given_must_be_there(trial_spec) -> None:
    ending = Ending.from_result(Built(trial_spec, CPU=1, GPU=0.5).trial.step())
    assert ending is not None
    assert ending.status is Status.SET_ASIDE
    assert ending.message.startswith("a GPU was asked for and given, but PyTorch cannot use it: ")


class Scored:
    """A trial of one epoch with a bar, whose worker may have taken it over from one that died."""

    def __init__(self, spec: TrialSpec, bar: Bar | None, *, replaced: bool = False) -> None:
        class Trial(FusionTrial):
            def setup(self, config: dict[str, Any], **_: Any) -> None:
                super().setup(config, spec=dataclasses.replace(spec, epochs=1))

        self.trainable = Trial({"assignment": dataclasses.replace(PMF, bar=bar), "share": SHARE})
        self.trainable.replaced = replaced
        self.result = self.trainable.step()


def test_a_worker_scores_its_trial_as_one_that_reads_the_checkpoint(trial_spec, tmp_path) -> None:
    spec = dataclasses.replace(trial_spec, robustness=True)
    scored = Scored(spec, Bar("accuracy"))
    scored.trainable.save_checkpoint(str(tmp_path))
    fresh = evaluate_on_test(spec, dataclasses.replace(PMF, checkpoint=Saved(tmp_path)), no_tick)
    assert scored.result["test_split"] == pytest.approx(fresh.metrics)
    assert list(scored.result["robustness"]) == ["text", "image"]
    for modality, without in fresh.robustness.items():
        assert scored.result["robustness"][modality] == pytest.approx(without)
    assert scored.result["outputs"]["test"] == pytest.approx(fresh.outputs, abs=1e-3)
    assert scored.result["done"]


def test_the_last_report_has_the_outputs_of_which_the_metrics_are(trial_spec, monkeypatch) -> None:
    scored = Scored(trial_spec, Bar("accuracy"))
    task, dataset = scored.trainable._run.bench.task, open_dataset(trial_spec.dataset)
    for split, metrics in (("validation", scored.result), ("test", scored.result["test_split"])):
        outputs = torch.from_numpy(scored.result["outputs"][split]).float()
        found = task.score(outputs, dataset.labels(split))
        assert found == pytest.approx({name: metrics[name] for name in found}, abs=2e-3)
    assert list(Scored(trial_spec, None).result["outputs"]) == ["validation"]
    more = Reached(trial_spec, PMF, monkeypatch).result
    assert more["epoch"] == 1 < trial_spec.epochs
    assert "outputs" not in more, "only the last epoch counts"


def test_what_is_below_the_bar_or_was_restarted_is_not_scored(trial_spec) -> None:
    reached = Scored(trial_spec, None).result
    assert "test_split" not in reached
    accuracy, loss = reached["accuracy"], reached["loss"]
    assert "test_split" in Scored(trial_spec, Bar("accuracy", at_least=accuracy)).result
    assert "test_split" not in Scored(trial_spec, Bar("accuracy", at_least=accuracy + 1e-6)).result
    assert "test_split" in Scored(trial_spec, Bar("loss", at_most=loss)).result
    assert "test_split" not in Scored(trial_spec, Bar("loss", at_most=loss - 1e-6)).result
    assert "test_split" not in Scored(trial_spec, Bar("accuracy"), replaced=True).result


def test_a_trial_whose_test_score_fails_has_its_result(trial_spec, monkeypatch) -> None:
    def fail(*_: Any) -> None:
        raise OSError("the test split is gone")

    monkeypatch.setattr(TrialRun, "evaluate", fail)
    result = Scored(trial_spec, Bar("accuracy")).result
    assert "test_split" not in result
    assert 0 <= result["accuracy"] <= 1


def test_names_of_folders_tell_legs_apart() -> None:
    first = dataclasses.replace(PMF, trial_id="trial-003")
    assert [dataclasses.replace(first, leg=leg).folder for leg in (1, 2)] == ["trial-003", "trial-003.2"]


class Interrupted:
    """A trial that was cut off after two epochs; its checkpoints lie where Ray Tune puts them."""

    def __init__(self, spec: TrialSpec, search: Path) -> None:
        self.spec = spec
        self.search = search
        self.leg = search / "trial-000"
        trial = self._trial(leg=1)
        self.results = []
        for number in range(2):
            self.results.append(trial.step())
            self.latest = trial.save(str(self.leg / f"checkpoint_{number:06d}")).checkpoint
        self.results.append(trial.step())

    def resumed(self) -> FusionTrial:
        return self._trial(leg=2, checkpoint=self.latest)

    def copied(self, search: Path) -> Interrupted:
        """The same trial in another search's folder."""
        found = copy.copy(self)
        shutil.copytree(self.search, search)
        found.search, found.leg = search, search / "trial-000"
        found.latest = Checkpoint(str(found.leg / Path(self.latest.path).name))
        return found

    def _trial(self, **changes: Any) -> FusionTrial:
        spec = self.spec

        class Trial(FusionTrial):
            def setup(self, config: dict[str, Any], **_: Any) -> None:
                super().setup(config, spec=spec)

        assigned = dataclasses.replace(PMF, trial_id="trial-000", **changes)
        return Trial({"assignment": assigned, "share": SHARE})


def _metrics(result: dict[str, Any]) -> dict[str, Any]:
    return {name: result[name] for name in ("epoch", "train_loss", "loss", "accuracy")}


FILES = ("weights.safetensors", "trainer.pt", "trial.json", "files.json")


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_checkpoint_costs_an_epoch_not_the_trial(trial_spec, tmp_path, damage) -> None:
    whole = Interrupted(trial_spec, tmp_path / "whole")
    for name in FILES:
        interrupted = whole.copied(tmp_path / f"of {name}")
        DAMAGE[damage](interrupted.leg / "checkpoint_000001" / name)
        trial = interrupted.resumed()
        again = trial.step()
        assert again["remark"].startswith(f"trial-000/checkpoint_000001 is damaged ({name} ")
        assert again["remark"].endswith("), goes on from trial-000/checkpoint_000000")
        assert _metrics(again) == _metrics(whole.results[1])
    assert _metrics(trial.step()) == _metrics(whole.results[2])


def test_a_trial_without_a_whole_checkpoint_starts_from_the_beginning(trial_spec, tmp_path) -> None:
    interrupted = Interrupted(trial_spec, tmp_path)
    for path in interrupted.leg.glob("*/weights.safetensors"):
        path.write_bytes(b"")
    result = interrupted.resumed().step()
    assert _metrics(result) == _metrics(interrupted.results[0])
    assert result["remark"].count("is damaged (weights.safetensors has 0 of ") == 2
    assert result["remark"].endswith(", starts from the beginning")


def test_a_whole_checkpoint_needs_no_words(trial_spec, tmp_path) -> None:
    interrupted = Interrupted(trial_spec, tmp_path)
    result = interrupted.resumed().step()
    assert _metrics(result) == _metrics(interrupted.results[2])
    assert "remark" not in result


def test_whatever_a_trial_is_at_is_watched(trial_spec, tmp_path, monkeypatch) -> None:
    class Timer:
        running = False

        def dump_traceback_later(self, timeout: float, **_: Any) -> None:
            assert timeout == trial_spec.hang_timeout
            self.running = True

        def cancel_dump_traceback_later(self) -> None:
            self.running = False

    timer, seen = Timer(), []

    def note(work: str) -> None:
        real = getattr(TrialRun, work)

        def noting(run: TrialRun, *given: Any, **named: Any) -> Any:
            seen.append((work, timer.running))
            return real(run, *given, **named)

        monkeypatch.setattr(TrialRun, work, noting)

    works = ("__init__", "load", "epoch", "save")
    for work in works:
        note(work)
    monkeypatch.setattr(watchdog, "faulthandler", timer)
    Interrupted(trial_spec, tmp_path).resumed().step()
    assert set(seen) == {(work, True) for work in works}
    assert not timer.running
