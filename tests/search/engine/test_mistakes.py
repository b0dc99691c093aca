"""A trial that a user's mistake kept from running is no result, and is given back."""

from __future__ import annotations

from pathlib import Path

import pytest
from optuna.trial import TrialState

from search.nodes import NodeError
from search.records.status import Status
from search.testing.searching import end, finish, make_searcher, out_of_memory, set_aside

LACKS = "--dataset /data/memes: no such folder"


class Cluster:
    """A searcher on nodes whose addresses are their names, and what it says."""

    def __init__(self, *nodes: str, **settings: object) -> None:
        self.searcher = make_searcher(num_samples=6, sampler="random", **settings)
        self.searcher.mistakes.find_nodes = lambda: {f"id-{node}": node for node in nodes}
        self.said: list[str] = []
        self.searcher.mistakes.say = self.said.append
        self._numbers = iter(range(100))

    def start(self) -> str:
        """Hand out a trial; return Ray Tune's id of it."""
        tune_id = f"tune-{next(self._numbers)}"
        assert isinstance(self.searcher.suggest(tune_id), dict)
        return tune_id

    def fails(self, node: str, message: str = LACKS) -> str:
        """Hand out a trial that cannot run on a node; return its name."""
        return end(self.searcher, self.start(), set_aside(message, node)).trial_id


def test_it_is_no_result_and_takes_no_sample_from_the_search(tmp_path: Path) -> None:
    cluster = Cluster("a", folder=tmp_path / "search")
    searcher = cluster.searcher
    record = searcher.history.trials[cluster.fails("a")]
    assert (record.status, record.failures, record.epochs) == (Status.SET_ASIDE, 0, [])
    assert searcher.study.study.trials[0].state is TrialState.RUNNING, "the sampler has not heard of it"
    assert cluster.said == [f"trial-000 is set aside on host-a (a): {LACKS}"]
    for _ in range(5):
        finish(searcher, cluster.start(), 0.5)
    assert searcher.suggest("end") == "FINISHED"
    searcher.mistakes.require_results(1)
    assert cluster.said[1:] == ["1 trial is set aside, and will run when the search is resumed"]
    searcher.store.close()

    again = make_searcher(num_samples=6, sampler="random", folder=tmp_path / "search")
    assert again.suggest("again")["assignment"].config == record.config
    resumed = finish(again, "again", 0.7)
    assert (resumed.trial_id, resumed.legs, resumed.status) == ("trial-000", 2, Status.FINISHED)
    assert again.study.study.trials[0].values[1] == 0.7
    assert again.suggest("end") == "FINISHED"


def test_a_node_that_cannot_run_trials_gets_no_more_and_they_go_on_elsewhere() -> None:
    cluster = Cluster("a", "b", "c")
    searcher = cluster.searcher
    beside = cluster.start()
    assert cluster.fails("a") == "trial-001"
    assert end(searcher, beside, set_aside(LACKS, "a")).trial_id == "trial-000"
    assert searcher.placement.labels == {"ray.io/node-id": "!in(id-a)"}
    assert cluster.said == [f"host-a (a) gets no more trials: {LACKS}"]
    moved = [finish(searcher, cluster.start(), 0.5, node_ip="b").trial_id for _ in range(2)]
    assert moved == ["trial-001", "trial-000"]
    finish(searcher, cluster.start(), 0.5, node_ip="b")
    assert cluster.fails("b", "this configuration alone") == "trial-003", "others have run there"
    assert searcher.placement.kept_out == ["id-a"]


def test_the_last_node_is_not_kept_out() -> None:
    cluster = Cluster("a", "b")
    cluster.fails("a")
    cluster.fails("b")
    assert cluster.searcher.placement.kept_out == ["id-a"]


def test_if_no_trial_can_run_the_search_ends_in_one_line() -> None:
    cluster = Cluster("a", "b")
    for node in ("a", "b", "b", "b"):
        cluster.fails(node)
    assert cluster.searcher.suggest("next") == "FINISHED"
    assert len(cluster.said) == 2, "each cause is said once"
    with pytest.raises(NodeError, match=r"no trial can run on host-a \(a\), host-b \(b\): --dataset"):
        cluster.searcher.mistakes.require_results(3)


def test_so_it_does_if_there_are_fewer_trials() -> None:
    cluster = Cluster("a")
    cluster.fails("a")
    with pytest.raises(NodeError, match=r"no trial can run on host-a \(a\): "):
        cluster.searcher.mistakes.require_results(1)


@pytest.mark.parametrize("shown_by", ["an epoch", "out of memory"])
def test_a_running_trial_may_show_that_others_can_run(shown_by: str) -> None:
    cluster = Cluster("a")
    searcher, running = cluster.searcher, cluster.start()
    for _ in range(3):
        cluster.fails("a")
    assert searcher.suggest("waits") is None
    assert not searcher.done
    if shown_by == "an epoch":
        finish(searcher, running, 0.5, node_ip="a")
    else:
        end(searcher, running, out_of_memory(below_share=False))
    assert isinstance(searcher.suggest("next"), dict)


def test_different_reasons_end_nothing() -> None:
    cluster = Cluster("a")
    for number in range(4):
        cluster.fails("a", f"this is wrong with {number}")
    assert len(cluster.said) == 4


def test_a_node_that_is_not_fit_gets_no_more_even_if_trials_have_run_there() -> None:
    cluster = Cluster("a", "b")
    searcher = cluster.searcher
    finish(searcher, cluster.start(), 0.5, node_ip="a")
    moved = cluster.start()
    record = searcher.history.leg(moved)
    searcher.mistakes.blame(record, "id-a")
    end(searcher, moved, set_aside("has other code", "a"))

    assert searcher.placement.kept_out == ["id-a"]
    assert cluster.said == ["host-a (a) gets no more trials: has other code"]
    assert searcher.history.leg(cluster.start()) is record
