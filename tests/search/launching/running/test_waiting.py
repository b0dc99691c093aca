"""A search on one's own machines starts when all of them have joined."""

from __future__ import annotations

import pytest

from search.launching.running.waiting import wait_for_workers
from trainables.errors import UserError


def test_it_ends_when_all_have_joined(capsys) -> None:
    seen = iter([{"10.0.0.1"}, {"10.0.0.1"}, {"10.0.0.1", "10.0.0.3"}, {"10.0.0.1", "10.0.0.2", "10.0.0.3"}])
    wait_for_workers(["10.0.0.2", "10.0.0.3"], lambda: next(seen), sleep=lambda seconds: None)
    assert capsys.readouterr().out.splitlines() == [
        "waiting for 10.0.0.2, 10.0.0.3 to install and join",
        "waiting for 10.0.0.2 to install and join",
        "all 2 workers have joined",
    ]


def test_it_names_those_that_do_not() -> None:
    with pytest.raises(UserError, match=r"^10.0.0.3 did not join within 1 minutes; `ray monitor`"):
        wait_for_workers(["10.0.0.3"], set, limit=60, sleep=lambda seconds: None)
