"""Where a trial stands, and how it ended."""

from __future__ import annotations

import json

import pytest

from search.records.history import History, TrialRecord
from search.records.status import UNFINISHED, Ending, Status
from trainables.memory import MemoryReport

ENDINGS = (
    Ending(Status.OUT_OF_MEMORY, "training", "CUDA out of memory.", below_share=True),
    Ending(Status.DIVERGED, "validation", "the loss became nan"),
)


@pytest.mark.parametrize("ending", ENDINGS, ids=lambda ending: ending.status)
def test_what_a_trial_reports_is_what_history_reads(ending) -> None:
    result = ending.to_result()
    assert result["done"], "Ray Tune is to stop the trial"
    assert Ending.from_result(result) == ending
    record = TrialRecord("trial-000", {"method": "linear"}, MemoryReport(1, 1, 0, 0, 0, 0, 10, 40))
    History((), {}).note(record, result)
    assert record.ending == ending
    kept = json.loads(json.dumps(record.to_dict()))
    assert kept["ending"]["status"] == str(ending.status)
    assert TrialRecord.from_dict("trial-000", kept, []) == record


def test_an_epochs_result_is_no_ending() -> None:
    assert Ending.from_result({"epoch": 1, "accuracy": 0.5, "done": True}) is None


def test_a_status_is_kept_as_its_text() -> None:
    record = TrialRecord("trial-000", {"method": "linear"}, MemoryReport(1, 1, 0, 0, 0, 0, 10, 40))
    for status in Status:
        record.status = status
        kept = json.dumps(record.to_dict())
        assert f'"status": "{status}"' in kept
        assert TrialRecord.from_dict("trial-000", json.loads(kept), []).status is status
    assert [status.words for status in UNFINISHED] == ["out of memory", "diverged", "failed"]
