"""What there is to say of a search, as data that later changes leave alone."""

from __future__ import annotations

import json
from dataclasses import replace

from search.goals.objectives import get_objectives
from search.records.history import History, Infeasible, TrialRecord
from search.records.status import Ending, Status
from search.records.stays import Stay
from search.reporting.news import Final, Snapshot, front_members
from search.units import GIB
from trainables.memory.predictor import MemoryReport

REPORT = MemoryReport(GIB // 4, 10, 20, 30, 40, 50, trainable_parameters=1000, checkpoint=4000)
EPOCH = {"epoch": 1.0, "accuracy": 0.5, "loss": 1.0, "time": 1000.0}


def make_history(*records: TrialRecord) -> History:
    history = History(get_objectives(("memory", "accuracy")), {"memory": 2.0, "accuracy": 0.0})
    for record in records:
        history.add(record)
    return history


def trial(name: str = "trial-000", **given: object) -> TrialRecord:
    return TrialRecord(name, {"method": "pmf"}, REPORT, epochs=[dict(EPOCH)], **given)  # type: ignore[arg-type]


def test_a_snapshot_stays_when_the_trial_goes_on() -> None:
    record = trial()
    snapshot = Snapshot.of(record, now=1.0)
    record.epochs.append({**EPOCH, "epoch": 2.0})
    record.status, record.test = Status.FINISHED, {"accuracy": 0.4}
    assert (snapshot.status, len(snapshot.epochs), snapshot.test) == ("running", 1, {})
    assert snapshot.tags == {"kind": "trial", "status": "running", "failures": "0", "legs": "0"}
    assert snapshot.params == {"method": "pmf", "trial_id": "trial-000"}
    assert snapshot.predicted["predicted.total"] == snapshot.predicted["memory"] == 0.25
    later = Snapshot.of(record, now=2.0)
    assert (later.status, len(later.epochs), later.test) == ("finished", 2, {"test.accuracy": 0.4})


def test_a_snapshot_has_all_parts_of_the_memory_and_how_far_they_are_off() -> None:
    record = trial()
    record.memory = replace(REPORT, reserved=2**29, context=2**29)
    record.epochs[-1] |= {"expected_memory": 1.0, "measured_memory": 1.0}
    record.epochs[-1] |= {"expected_reserved": 2.0, "reserved_memory": 3.0}
    snapshot = Snapshot.of(record, now=1.0)
    assert snapshot.predicted["predicted.memory"] == snapshot.predicted["memory"] == 1.0
    assert snapshot.predicted["predicted.fragmentation"] == 0.25
    assert (snapshot.known["memory_error"], snapshot.known["reserved_error"]) == (0.0, 0.5)


def test_a_snapshot_says_where_the_trial_runs_and_how_it_came_there() -> None:
    before = trial(node="10.0.0.1", hostname="one")
    assert {"node_ip": "10.0.0.1", "hostname": "one"}.items() <= Snapshot.of(before, now=0.0).tags.items()
    record = trial(stays=[Stay("10.0.0.1", "one", "cpu", 1)])
    tags = Snapshot.of(record, now=1.0).tags
    assert (tags["node_ip"], tags["hostname"], tags["device"]) == ("10.0.0.1", "one", "cpu")
    assert "ran_on" not in tags
    record.epochs.append({**EPOCH, "epoch": 2.0})
    record.stays.append(Stay("10.0.0.2", "two", "", 2))  # a replay has no device
    tags = Snapshot.of(record, now=2.0).tags
    assert (tags["node_ip"], tags["hostname"], "device" in tags) == ("10.0.0.2", "two", False)
    assert tags["ran_on"] == "epoch 1: one (10.0.0.1), cpu; epoch 2: two (10.0.0.2)"


def test_a_snapshot_takes_over_times_from_the_one_it_replaces() -> None:
    record = trial()
    first = Snapshot.of(record, now=1.0)
    second = Snapshot.of(record, now=2.0, earlier=first)
    assert (second.started, second.changed) == (1.0, 1.0)
    record.status = Status.STOPPED
    third = Snapshot.of(record, now=3.0, earlier=second)
    assert (third.started, third.changed) == (1.0, 3.0)


def test_tags_say_what_became_of_a_trial() -> None:
    record = trial(
        status=Status.OUT_OF_MEMORY, message="m" * 5000, retry_of="trial-007", repeat_of="trial-008", seed=3
    )
    record.ending = Ending(Status.OUT_OF_MEMORY, "training", "")
    snapshot = Snapshot.of(record, now=1.0, retried_as="trial-009")
    assert (snapshot.tags["infeasible"], snapshot.tags["stage"]) == ("true", "training")
    assert len(snapshot.tags["message"]) == 4000
    related = {"retry_of": "trial-007", "retried_as": "trial-009", "repeat_of": "trial-008"}
    assert related.items() <= snapshot.tags.items()
    assert snapshot.params["seed"] == 3


def test_the_front_is_those_that_are_on_it() -> None:
    history = make_history(trial(status=Status.FINISHED), trial("trial-001", status=Status.FAILED))
    assert front_members(history) == {"trial-000"}


def test_the_last_documents_leave_out_what_is_empty() -> None:
    history = make_history()
    rows = [{"trial_id": "a", "config": {"width": 1}}, {"trial_id": "b", "config": {"depth": 2}}]
    final = Final.of(history, "FINISHED", {"front.json": rows, "methods.json": []}, None, now=5.0)
    assert (final.tables, list(final.texts)) == (("front.json",), ["front.json"])
    assert json.loads(final.texts["front.json"]) == {
        "columns": ["trial_id", "width", "depth"],
        "data": [["a", 1, None], ["b", None, 2]],
    }
    history.infeasible["x"] = Infeasible({"method": "pmf"}, REPORT)
    texts = Final.of(history, "FINISHED", {}, None, now=5.0).texts
    assert json.loads(texts["infeasible.json"]) == {"infeasible": [{"method": "pmf", "memory": 0.25}]}
