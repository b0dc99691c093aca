"""What a search's own records tell about luck, on made-up outputs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from search.goals.constraints import parse_constraints
from search.goals.objectives import get_objectives
from search.records.evidence import Evidence
from search.records.history import History, TrialRecord
from search.records.outputs import KeptOutputs
from search.records.status import Status
from tests.search.made_up import LABELS, ROWS, outputs_of
from tests.tasks import classification
from trainables.errors import UserError
from trainables.memory import MemoryReport
from trainables.tasks import get_task
from trainables.trial import outputs as kept_outputs

GIB = 2**30


class Found:
    """A search's records, trial by trial; each trial is right on a share of the rows, from an offset on."""

    def __init__(
        self,
        folder: Path,
        objectives: tuple[str, ...] = ("memory", "accuracy"),
        constraints: tuple[str, ...] = (),
        labels: Callable[[str], Tensor | None] = LABELS.get,
    ) -> None:
        named = get_objectives(objectives)
        reference = {o.name: 1.0 for o in named} | {"memory": 8.0, "accuracy": 0.0, "macro_f1": 0.0}
        self.history = History(named, reference, parse_constraints(constraints), get_objectives(["accuracy"]))
        self.outputs = KeptOutputs(folder)
        self.labels = labels
        self.task = classification(2)

    @property
    def evidence(self) -> Evidence:
        return Evidence(self.history, self.outputs, self.task, self.labels)

    def add(
        self, gib: int, share: float, offset: int = 0, *, kept: bool = True, seed: int = 0, test: float = 0.0
    ) -> TrialRecord:
        config = {"method": "pmf", "n_fusion_layers": gib, "learning_rate": 1e-3 + offset * 1e-5}
        memory = MemoryReport(gib * GIB, gib * GIB, 0, 0, 0, 0, trainable_parameters=1, checkpoint=4)
        record = TrialRecord(self.history.next_id(), config, memory, seed=seed)
        self.history.add(record)
        reported = self.score(outputs_of(share, offset))
        self.history.note(record, {"epoch": 1, **reported})
        self.history.settle(record, Status.FINISHED)
        if kept:
            self.outputs.write(record.trial_id, "validation", outputs_of(share, offset))
        if test:
            record.test = self.score(outputs_of(test, offset))
            self.outputs.write(record.trial_id, "test", outputs_of(test, offset))
        return record

    def score(self, outputs: Any) -> dict[str, float]:
        return self.task.score(torch.from_numpy(outputs).float(), LABELS["test"])

    def chances(self) -> list[float]:
        return [round(chance, 2) for chance in self.evidence.chances().values()]


def test_every_finished_configuration_has_a_chance_to_be_on_the_front(tmp_path) -> None:
    found = Found(tmp_path)
    for gib, share, offset in ((1, 0.5, 0), (2, 0.7, 0), (3, 0.7025, 200), (4, 0.6, 0)):
        found.add(gib, share, offset)
    cheapest, sure, unsure, behind = found.chances()
    assert (cheapest, sure, behind) == (1.0, 1.0, 0.0)
    assert 0.4 < unsure < 0.7
    assert found.evidence.chances() == found.evidence.chances(), "the same search has the same figures"


def test_what_keeps_a_configuration_off_most_often_is_its_rival(tmp_path) -> None:
    found = Found(tmp_path)
    assert found.evidence.rivals() == {}
    for gib, share, offset in ((1, 0.5, 0), (2, 0.7, 0), (3, 0.7025, 200), (4, 0.71, 100)):
        found.add(gib, share, offset)
    rivals = {name: rival.trial_id for name, rival in found.evidence.rivals().items()}
    # The first costs least. It is never as good as the second.
    assert rivals == {"trial-002": "trial-001", "trial-003": "trial-002"}


def test_what_reports_show_of_luck(tmp_path) -> None:
    found = Found(tmp_path)
    found.add(1, 0.5, test=0.6)
    best = found.add(2, 0.7, test=0.55)
    behind = found.add(3, 0.6)
    found.evidence.note()
    assert best.luck is not None
    assert behind.luck is not None
    assert (best.luck.p_front, best.luck.p_better) == (1.0, 1.0)
    errors = {"accuracy": (0.7 * 0.3 / ROWS) ** 0.5, "test_accuracy": (0.55 * 0.45 / ROWS) ** 0.5}
    assert best.luck.standard_errors == pytest.approx(errors, rel=0.1)
    cheapest = found.history.trials["trial-000"].luck
    assert cheapest is not None
    assert cheapest.p_better is None, "there is nothing cheaper"
    assert (behind.luck.p_front, behind.luck.p_better, behind.luck.standard_errors) == (0.0, None, {})


def test_neighbours_are_those_in_cost_whatever_comes_first(tmp_path) -> None:
    for folder, objectives in (("a", ("memory", "accuracy")), ("b", ("accuracy", "memory"))):
        found = Found(tmp_path, objectives)
        cheap, dear = found.add(1, 0.7), found.add(2, 0.7025, 200)
        found.evidence.note()
        assert cheap.luck is not None
        assert cheap.luck.p_better is None, folder
        assert dear.luck is not None
        assert dear.luck.p_better == dear.luck.p_front


def test_without_outputs_nothing_is_known_and_values_count_as_exact(tmp_path) -> None:
    found = Found(tmp_path)
    none = found.add(1, 0.69, kept=False)
    assert found.chances() == []
    some = found.add(2, 0.7)
    chances = found.evidence.chances()
    assert list(chances) == [some.trial_id]
    assert 0.4 < chances[some.trial_id] < 0.9, "beside a value that is taken as exact"
    found.evidence.note()
    assert none.luck is not None
    assert (none.luck.p_front, none.luck.standard_errors) == (None, {})


@pytest.mark.parametrize("labels", [lambda split: None, lambda split: torch.zeros(7, dtype=torch.long)])
def test_without_labels_that_fit_nothing_is_known(tmp_path, labels) -> None:
    found = Found(tmp_path, labels=labels)
    found.add(1, 0.7)
    assert found.chances() == []

    def gone(split: str) -> Tensor:
        raise UserError("the dataset is gone")

    assert Evidence(found.history, found.outputs, found.task, gone).chances() == {}


def test_seeds_are_part_of_the_luck(tmp_path) -> None:
    found = Found(tmp_path)
    found.add(1, 0.70)
    runs = [found.add(2, share, seed=seed) for seed, share in enumerate((0.66, 0.72, 0.78))]
    means = found.history.values(runs[0])["accuracy"]
    assert means == pytest.approx(0.72)
    errors = found.evidence.standard_errors(runs[0])
    rows, seeds = 0.72 * 0.28 / ROWS, 0.06**2 / 3
    assert errors["accuracy"] == pytest.approx((rows + seeds) ** 0.5, rel=0.15)
    assert errors["accuracy"] == found.evidence.standard_errors(runs[2])["accuracy"], "of the configuration"
    one, other = found.evidence.chances().values()
    assert one == 1.0
    assert 0.6 < other < 0.95, "on the same rows alone it would be sure"


def test_what_has_one_seed_is_as_lucky_with_it_as_others_are(tmp_path) -> None:
    found = Found(tmp_path)
    alone, apart = found.add(1, 0.70, test=0.7), found.add(2, 0.76)
    rows, seeds = 0.7 * 0.3 / ROWS, 0.05**2
    assert found.chances() == [1.0, 1.0]
    assert found.evidence.standard_errors(alone)["accuracy"] == pytest.approx(rows**0.5, rel=0.1)
    noise = found.evidence.noises()[apart.trial_id]["accuracy"]
    repeated = [
        (found.add(gib, share, seed=seed), share)
        for gib, shares in ((3, (0.35, 0.45)), (4, (0.4, 0.4)))
        for seed, share in enumerate(shares)
    ]
    evidence = found.evidence
    errors = evidence.standard_errors(alone)
    assert errors["accuracy"] == pytest.approx((rows + seeds) ** 0.5, rel=0.1)
    assert errors["test_accuracy"] == pytest.approx(rows**0.5, rel=0.1), "on test, none has several seeds"
    for run, share in repeated:  # they are scored after they have finished
        run.test = found.score(outputs_of(share))
    errors = evidence.standard_errors(alone)
    assert errors["test_accuracy"] == pytest.approx((rows + seeds) ** 0.5, rel=0.1)
    chances = found.evidence.chances()
    assert 0.7 < chances[apart.trial_id] < 0.9
    assert found.evidence.noises()[apart.trial_id]["accuracy"] > 1.5 * noise


def test_differences_are_paired_on_either_split(tmp_path) -> None:
    found = Found(tmp_path)
    first, second = found.add(1, 0.72, test=0.5), found.add(2, 0.70, test=0.6)
    validation = found.evidence.difference(first, second, "validation")
    test = found.evidence.difference(first, second, "test")
    assert validation is not None
    assert test is not None
    assert (validation.mean, test.mean) == pytest.approx((0.02, -0.1), abs=1e-6)
    assert validation.standard_error == pytest.approx((0.02 * 0.98 / ROWS) ** 0.5, rel=0.1)
    assert (validation.p_better > 0.99, test.p_better) == (True, 0.0)
    loss = found.evidence.difference(first, second, "validation", get_objectives(["loss"])[0])
    assert loss is not None
    assert loss.mean > 0, "a smaller loss is better"
    assert found.evidence.difference(first, found.add(3, 0.7), "test") is None


def test_a_record_beside_the_trials_is_compared_like_one(tmp_path) -> None:
    found = Found(tmp_path)
    trial = found.add(1, 0.7)
    floor = TrialRecord("probe", {"method": "probe"}, trial.memory, status=Status.FINISHED)
    floor.epochs.append(found.score(outputs_of(0.6)))
    found.outputs.write("probe", "validation", outputs_of(0.6))
    difference = found.evidence.difference(trial, floor, "validation")
    assert difference is not None
    assert difference.mean == pytest.approx(0.1)


@pytest.mark.slow
def test_any_metric_can_be_resampled(tmp_path) -> None:
    """Macro F1 is no mean over rows; here it changes as accuracy does."""
    found = Found(tmp_path, ("memory", "macro_f1"))
    found.add(1, 0.7)
    found.add(2, 0.7025, 200)
    found.add(3, 0.2)
    sure, unsure, behind = found.chances()
    assert (sure, behind) == (1.0, 0.0)
    assert 0.3 < unsure < 0.7
    error = found.evidence.standard_errors(found.history.trials["trial-000"])["macro_f1"]
    f1 = [0.5 * 2 * p / (1 + p) for p in np.random.default_rng(0).binomial(ROWS, 0.7, 2000) / ROWS]
    assert error == pytest.approx(np.std(f1), rel=0.2)


def test_all_trained_objectives_count(tmp_path) -> None:
    found = Found(tmp_path, ("memory", "accuracy", "loss"))
    found.add(1, 0.7)
    found.add(2, 0.7025, 200)
    accuracy_alone = Found(tmp_path)
    accuracy_alone.history = found.history
    assert found.chances()[0] == 1.0
    assert 0.4 < found.chances()[1] < 0.7


def test_a_constraint_on_what_is_trained_may_be_met_by_luck(tmp_path) -> None:
    found = Found(tmp_path, constraints=("accuracy>=0.7",))
    found.add(1, 0.7)
    found.add(2, 0.9)
    border, clear = found.chances()
    assert 0.4 < border < 0.65
    assert clear == 1.0
    assert len(found.history.front()) == 2, "280 of 400 rows are 70 %"


def test_all_that_is_trained_may_be_a_constraint(tmp_path) -> None:
    found = Found(tmp_path, ("memory",), ("accuracy>=0.6",))
    trials = [found.add(gib, share) for gib, share in ((1, 0.5), (2, 0.7), (3, 0.9))]
    found.evidence.note()
    known = [trial.luck for trial in trials if trial.luck is not None]
    assert [(luck.p_front, luck.p_better) for luck in known] == [(0.0, None), (1.0, None), (0.0, None)]


def test_a_member_that_may_break_a_constraint_leaves_the_front_to_others(tmp_path) -> None:
    found = Found(tmp_path, constraints=("accuracy<=0.8",))
    found.add(1, 0.8)
    found.add(2, 0.5)
    border, behind = found.chances()
    assert 0.4 < border < 0.65
    assert behind == pytest.approx(1 - border)


def test_what_one_seed_has_made_bad_is_not_out_of_reach(tmp_path) -> None:
    found = Found(tmp_path)
    for gib, shares in ((1, (0.8, 0.8)), (2, (0.35, 0.95))):
        for seed, share in enumerate(shares):
            found.add(gib, share, seed=seed)
    sure, unsure = found.chances()
    assert sure == 1.0
    assert 0.4 < unsure < 0.6
    alone = found.add(3, 0.6)  # as lucky with its seed as those two are in the mean
    assert found.evidence.chances()[alone.trial_id] > 0.1


def test_who_is_lucky_with_a_seed_is_better_in_all_objectives(tmp_path) -> None:
    found = Found(tmp_path, ("memory", "accuracy", "loss"))
    found.add(1, 0.72)
    worse = found.add(2, 0.70)
    for seed, share in enumerate((0.30, 0.34)):
        found.add(8, share, seed=seed)
    # The difference of 0.02 has a standard error of 0.04; a better loss comes with a better accuracy.
    assert found.evidence.chances()[worse.trial_id] == pytest.approx(0.31, abs=0.05)


def test_a_sample_of_the_rows_tells_of_all(tmp_path, monkeypatch) -> None:
    """Of 100 rows that are kept of 400, the standard error is that of 400."""
    found = Found(tmp_path)
    record = found.add(1, 0.7)
    monkeypatch.setattr(kept_outputs, "MOST_NUMBERS", 200)
    rows = kept_outputs.kept_rows(ROWS, 2)
    assert len(rows) == 100
    found.outputs.write(record.trial_id, "validation", outputs_of(0.7)[rows])
    error = found.evidence.standard_errors(record)["accuracy"]
    assert error == pytest.approx((0.7 * 0.3 / ROWS) ** 0.5, rel=0.15)


def test_what_all_share_is_no_noise(tmp_path) -> None:
    found = Found(tmp_path)
    for gib in range(1, 9):
        found.add(gib, 0.7 + 0.0025 * gib)
    found.add(9, 0.7, 200)
    found.add(10, 0.7, kept=False)
    noises = {name: noise["accuracy"] for name, noise in found.evidence.noises().items()}
    assert len(noises) == 9
    alike, apart = noises["trial-003"], noises["trial-008"]
    assert alike < 0.5 * (0.7 * 0.3 / ROWS) ** 0.5 < apart


def test_thresholds_stay_as_they_were_tuned_in_each_resample(tmp_path) -> None:
    task = get_task("multilabel").from_dict({"classes": ["a"], "tunes": True})
    generator = torch.Generator().manual_seed(0)
    labels, outputs = {}, {}
    for split in ("validation", "test"):
        labels[split] = (torch.rand(200, 1, generator=generator) < 0.3).byte()
        outputs[split] = 2.5 * labels[split].float() + torch.randn(200, 1, generator=generator) - 9
    objectives = get_objectives(["memory", "macro_f1", "tag_accuracy"])
    history = History(objectives, {"memory": 8.0, "macro_f1": 0.0, "tag_accuracy": 0.0})
    record = TrialRecord(
        "a", {"method": "linear"}, MemoryReport(GIB, GIB, 0, 0, 0, 0, trainable_parameters=1, checkpoint=4)
    )
    history.add(record)
    tuned = task.tuned(outputs["validation"], labels["validation"])
    kept = KeptOutputs(tmp_path)
    for split in labels:
        kept.write("a", split, outputs[split].half().numpy())
    history.note(record, {"epoch": 1, **tuned.score(outputs["validation"], labels["validation"])})
    history.settle(record, Status.FINISHED)
    record.test = tuned.score(outputs["test"], labels["test"])
    errors = Evidence(history, kept, task, labels.get).standard_errors(record)
    assert 0.02 < errors["macro_f1"] < 0.1
    assert 0.02 < errors["test_macro_f1"] < 0.1  # with a threshold of one half, nothing is predicted
    right = record.values["tag_accuracy"]
    assert errors["tag_accuracy"] == pytest.approx((right * (1 - right) / 200) ** 0.5, rel=0.1)
