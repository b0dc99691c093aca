"""Where trials ran is kept, through each move."""

from __future__ import annotations

import json

import pytest

from search.goals.objectives import get_objectives
from search.records.history import History, TrialRecord
from search.records.stays import Stay, in_words, machine
from trainables.memory import MemoryReport

REPORT = MemoryReport(2**30, 2**30, 0, 0, 0, 0, trainable_parameters=10**6, checkpoint=4 * 10**6)
FIRST = {"node_ip": "10.0.0.1", "hostname": "one", "device": "cpu"}
SECOND = {"node_ip": "10.0.0.2", "hostname": "two", "device": "cuda (NVIDIA A10G)"}


def _ran(*places: dict[str, str]) -> TrialRecord:
    """A trial of which each epoch was reported from the given place."""
    history = History(get_objectives(("memory", "accuracy")), {"memory": 2.0, "accuracy": 0.0})
    record = TrialRecord("trial-000", {"method": "linear"}, REPORT)
    for epoch, place in enumerate(places, start=1):
        history.note(record, {"epoch": epoch, "accuracy": 0.5, **place})
    return record


def test_each_move_is_kept_and_survives_the_store() -> None:
    record = _ran(FIRST, FIRST, SECOND, SECOND, FIRST)
    assert record.stays == [
        Stay("10.0.0.1", "one", "cpu", 1),
        Stay("10.0.0.2", "two", "cuda (NVIDIA A10G)", 3),
        Stay("10.0.0.1", "one", "cpu", 5),
    ]
    assert in_words(record.stays, len(record.epochs)) == (
        "epochs 1-2: one (10.0.0.1), cpu; epochs 3-4: two (10.0.0.2), cuda (NVIDIA A10G); "
        "epoch 5: one (10.0.0.1), cpu"
    )
    document = json.loads(json.dumps(record.to_dict()))
    assert TrialRecord.from_dict("trial-000", document, record.epochs).stays == record.stays
    del document["stays"]  # as of a search whose trials did not say it
    assert TrialRecord.from_dict("trial-000", document, record.epochs).stays == []


def test_a_report_from_nowhere_and_one_without_a_device() -> None:
    assert _ran({}).stays == []
    replayed = _ran({"node_ip": "10.0.0.1", "hostname": "one"})
    assert replayed.stays == [Stay("10.0.0.1", "one", "", 1)]
    assert in_words(replayed.stays, 1) == "epoch 1: one (10.0.0.1)"


@pytest.mark.parametrize(
    ("hostname", "address", "words"),
    [
        ("one", "10.0.0.1", "one (10.0.0.1)"),
        ("10.0.0.1", "10.0.0.1", "10.0.0.1"),
        (None, "10.0.0.1", "10.0.0.1"),
        (None, None, "an unknown machine"),
    ],
)
def test_a_machine_in_words(hostname: str | None, address: str | None, words: str) -> None:
    assert machine(hostname, address) == words
