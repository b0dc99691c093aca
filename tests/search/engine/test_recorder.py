"""One place takes a trial's results; whoever wants to know of them listens."""

from __future__ import annotations

from typing import Any

from search.execution.tuning import Results
from search.records.history import OUTPUTS, TrialRecord
from search.records.status import Ending, Status
from search.testing.searching import end, make_searcher, out_of_memory, result, set_aside
from tests.search.made_up import LABELS, outputs_of


class Hearing:
    """Notes what it hears of trials, and what the store holds at that moment."""

    def __init__(self, searcher: Any) -> None:
        self.searcher = searcher
        self.heard: list[tuple[str, str, int, int]] = []

    def _note(self, what: str, record: TrialRecord) -> None:
        kept = {name: len(epochs) for name, _, epochs in self.searcher.store.trials()}
        self.heard.append((what, record.status, len(record.epochs), kept[record.trial_id]))

    def started(self, record: TrialRecord) -> None:
        self._note("started", record)

    def reported(self, record: TrialRecord) -> None:
        self._note("reported", record)

    def ended(self, record: TrialRecord) -> None:
        self._note("ended", record)


def test_each_result_is_heard_once_after_history_and_store() -> None:
    searcher = make_searcher(epochs=2)
    hearing = Hearing(searcher)
    searcher.recorder.listeners.append(hearing)
    searcher.suggest("a")
    searcher.recorder.start("a", "worker")
    stopper = Results(searcher.recorder)
    assert not stopper("a", result(1, 0.4))
    searcher.on_trial_result("a", result(1, 0.4))
    searcher.recorder.save("a", "1")
    searcher.recorder.fail("a", "its worker died")
    searcher.recorder.restart("a")
    assert not stopper("a", result(2, 0.5))
    searcher.recorder.save("a", "2")
    searcher.on_trial_complete("a", result(2, 0.5))
    assert hearing.heard == [
        ("started", "running", 0, 0),
        ("reported", "running", 1, 1),
        ("reported", "running", 2, 1),  # an interruption now must not lose the checkpoint that is to come
        ("ended", "finished", 2, 2),
    ]
    assert searcher.history.leg("a").failures == 1


def test_what_the_rule_holds_up_stops_and_is_kept_with_its_checkpoint() -> None:
    searcher = make_searcher(epochs=3, scheduler="asha", min_epochs=1, reduction_factor=2)
    hearing = Hearing(searcher)
    for tune_id, accuracy in (("a", 0.5), ("b", 0.1)):
        searcher.suggest(tune_id)
        searcher.recorder.listeners = [hearing] if tune_id == "b" else []
        stops = Results(searcher.recorder)(tune_id, result(1, accuracy))
    assert stops
    searcher.recorder.save("b", "1")
    searcher.on_trial_complete("b", result(1, 0.1))
    assert hearing.heard == [("reported", "paused", 1, 0), ("ended", "paused", 1, 1)]


def test_what_a_trial_without_a_result_saves_is_not_what_it_resumes_from() -> None:
    searcher = make_searcher(epochs=3)
    searcher.suggest("a")
    stopper = Results(searcher.recorder)
    stopper("a", result(1, 0.4))
    searcher.recorder.save("a", "trial-000/checkpoint_000000")
    stopper("a", set_aside("no such folder", "10.0.0.2"))
    searcher.recorder.save("a", "trial-000/checkpoint_000001")  # Ray Tune asks for it, and it is empty
    searcher.on_trial_complete("a")
    assert searcher.history.leg("a").checkpoint == "trial-000/checkpoint_000000"


def test_a_name_is_not_shown_with_another_nodes_address() -> None:
    searcher = make_searcher(epochs=2)
    searcher.suggest("a")
    Results(searcher.recorder)("a", result(1, 0.4, node_ip="10.0.0.1", hostname="one"))
    record = searcher.history.leg("a")
    assert record.machine == "one (10.0.0.1)"
    ending = Ending(Status.OUT_OF_MEMORY, "", "killed")
    searcher.recorder.fail("a", "killed", ending, "10.0.0.2")
    assert record.machine == "10.0.0.2"
    searcher.recorder.fail("a", "killed", ending, "10.0.0.2", "two")
    assert record.machine == "two (10.0.0.2)"


def test_an_ending_is_heard_with_its_words() -> None:
    searcher = make_searcher()
    searcher.suggest("a")
    record = end(searcher, "a", out_of_memory(below_share=False))
    assert (record.status, record.message) == (
        Status.OUT_OF_MEMORY,
        "out of memory (training): CUDA out of memory.",
    )


def test_outputs_are_kept_before_the_trial_is_settled_and_ray_tune_does_not_hold_them(tmp_path) -> None:
    settings: dict[str, Any] = {"folder": tmp_path / "search", "labels": LABELS, "epochs": 1}
    searcher = make_searcher(**settings)
    searcher.suggest("a")
    reported = {**result(1, 0.7), OUTPUTS: {"validation": outputs_of(0.7)}}
    assert not Results(searcher.recorder)("a", reported)
    assert OUTPUTS not in reported
    searcher.recorder.save("a", "trial-000/checkpoint_000000")
    searcher.store.close()  # the driver is killed, and its folder moved
    resumed = make_searcher(**{**settings, "folder": (tmp_path / "search").rename(tmp_path / "moved")})
    record = resumed.history.trials["trial-000"]
    assert record.status is Status.FINISHED
    assert resumed.evidence.chances() == {"trial-000": 1.0}
