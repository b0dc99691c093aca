"""Work in processes of its own, on a real Ray."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from search.execution.room import Room
from search.execution.watched import run_watched
from search.placement import Share
from tests.search.on_ray import ray_in
from trainables.errors import UserError
from trainables.progress import Tick

pytestmark = pytest.mark.ray


@pytest.fixture
def _ray(tmp_path: Path, ray_address: str, empty_store: Path) -> Iterator[None]:
    with ray_in(tmp_path, ray_address, empty_store):
        yield


@pytest.mark.usefixtures("_ray")
def test_a_users_mistake_is_one_line_that_names_the_node_and_is_not_tried_again(tmp_path: Path) -> None:
    def lacks(tick: Tick) -> None:
        with (tmp_path / "runs").open("a") as file:
            file.write("run\n")
        raise UserError("--dataset /data/memes: no such folder")

    share = Share({"CPU": 1}, {}, 1.0, None, 1)
    ((_, found),) = run_watched([(lacks, share)], Room(print), hang_timeout=60, max_failures=3)
    message, _, where = str(found).partition(" (on ")
    assert message == "--dataset /data/memes: no such folder"
    assert where.endswith("))"), "a name, and an address in brackets"
    assert (tmp_path / "runs").read_text() == "run\n"
