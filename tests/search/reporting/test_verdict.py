"""The sentence about what was found, on made-up outputs of which it is known what is luck."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from search.records.evidence import Evidence
from search.records.outputs import KeptOutputs
from search.reporting.verdict import verdict
from tests.search.made_up import LABELS, ROWS, outputs_of
from tests.search.reporting.histories import add, of_three_methods, probes
from trainables.tasks import get_task

PMF = {"method": "pmf", "n_fusion_layers": 2, "learning_rate": 1e-3}


def judged(folder: Path, probe: Any, found: Any, **others: Any) -> str | None:
    """The verdict on a trial that is right on these test rows, and a probe that is right on those."""
    history = of_three_methods()  # of which "d" is best, at 6 GiB
    probes(history, 1.5, 0.7)
    outputs = KeptOutputs(folder)
    for name, right in {"probe": probe, "d": found, **others}.items():
        outputs.write(name, "test", outputs_of(right))
        record = history.probes.get(name) or history.trials[name]
        record.test["accuracy"] = float(sum(outputs.read(name, "test")[:, 0])) / ROWS
    return verdict(Evidence(history, outputs, get_task("classification").of_size(2), LABELS.get))


def test_what_is_clearly_better_is_better(tmp_path) -> None:
    said = judged(tmp_path, 0.6, 0.7)
    assert said is not None
    # A tenth of 400 rows differs: 1.96 * sqrt(0.1 * 0.9 / 400) = 2.94 points
    amount = r"10\.0 ± (2\.9|3\.0) points of accuracy on test"
    assert re.fullmatch(rf"pmf at 6\.00 GiB is better than the probe at 1\.50 GiB by {amount}", said)


@pytest.mark.parametrize(("found", "where"), [(0.605, "ahead of"), (0.5, "behind")])
def test_what_may_be_luck_is_not(tmp_path, found, where) -> None:
    said = judged(tmp_path, 0.6, found)
    assert said is not None
    assert said.startswith(
        "nothing found is better than the probe by more than luck: the best, pmf at 6.00 GiB"
    )
    assert f"is {where} the probe at 1.50 GiB by {abs(found - 0.6) * 100:.1f} ± " in said


def test_what_is_right_as_often_is_as_good(tmp_path) -> None:
    said = judged(tmp_path, 0.6, 0.6)
    assert said is not None
    assert said.endswith("is as good as the probe at 1.50 GiB: 0.0 ± 0.0 points of accuracy on test")


def test_a_lead_on_other_rows_is_less_sure(tmp_path) -> None:
    history = of_three_methods()
    probes(history, 1.5, 0.7)
    outputs = KeptOutputs(tmp_path)
    for name, offset in (("probe", 0), ("d", 200)):  # each is right where the other one is wrong
        outputs.write(name, "test", outputs_of(0.5 if offset == 0 else 0.55, offset))
    history.probes["probe"].test["accuracy"], history.trials["d"].test["accuracy"] = 0.5, 0.55
    said = verdict(Evidence(history, outputs, get_task("classification").of_size(2), LABELS.get))
    assert said is not None
    # All rows but 20 differ: 1.96 * sqrt((0.95 - 0.05 ** 2) / 400) = 9.5 points
    assert re.search(
        r"is ahead of the probe at 1\.50 GiB by 5\.0 ± 9\.[456] points of accuracy on test$", said
    )


def test_without_a_probe_a_trial_or_outputs_there_is_none(tmp_path) -> None:
    task, outputs = get_task("classification").of_size(2), KeptOutputs(tmp_path)
    history = of_three_methods()
    assert verdict(Evidence(history, outputs, task, LABELS.get)) is None
    probes(history, 1.5, 0.7)
    assert verdict(Evidence(history, outputs, task, LABELS.get)) is None
    outputs.write("probe", "test", outputs_of(0.5))
    assert verdict(Evidence(history, outputs, task, LABELS.get)) is None


def test_the_mean_over_seeds_is_compared(tmp_path) -> None:
    history = of_three_methods()
    probes(history, 1.5, 0.7)
    add(history, "e", 6, 0.86, PMF, repeat_of="d")
    outputs = KeptOutputs(tmp_path)
    for name, right in (("probe", 0.5), ("d", 0.9), ("e", 0.5)):
        outputs.write(name, "test", outputs_of(right))
        (history.probes.get(name) or history.trials[name]).test["accuracy"] = right
    said = verdict(Evidence(history, outputs, get_task("classification").of_size(2), LABELS.get))
    assert said is not None
    assert "the best, pmf at 6.00 GiB, is ahead of the probe at 1.50 GiB by 20.0 ± " in said
