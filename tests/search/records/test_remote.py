"""Stores of searches whose trials are at a remote address, on a stand-in for S3."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from search.records import remote
from search.records.opening import (
    created_store,
    holds_search,
    kept_outputs,
    opened_store,
    read_store,
    search_id,
)
from search.records.place import FILE, Place
from search.records.remote import RemoteFolder, claimed
from tests.search.buckets import s3_server
from trainables.errors import UserError

WARNINGS: list[str] = []


@pytest.fixture(scope="module")
def server() -> Iterator[dict[str, str]]:
    with s3_server() as variables:
        yield variables


@pytest.fixture
def place(
    server: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Place:
    for name, value in server.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PARETOFUSE_CACHE", str(tmp_path / "cache"))
    WARNINGS.clear()
    return Place("s3://bucket/runs", request.node.name.replace("[", "-").replace("]", ""))


def _begin(place: Place, *trials: str) -> None:
    with created_store(place, {"search_id": "first", "begun": True}, WARNINGS.append) as store:
        for trial_id in trials:
            store.put_trial(trial_id, {})


def _trials(place: Place) -> list[str]:
    return [trial_id for trial_id, _, _ in read_store(place).trials()]


def test_outputs_are_there_on_another_machine(place: Place, tmp_path: Path) -> None:
    outputs = np.ones((4, 3), dtype=np.float16)
    with created_store(place, {"search_id": "first", "begun": True}, WARNINGS.append) as store:
        kept_outputs(store, place).write("trial-000", "validation", outputs)
        store.put_trial("trial-000", {})
    shutil.rmtree(tmp_path / "cache")
    with opened_store(place, WARNINGS.append) as store:
        kept = kept_outputs(store, place)
        found = kept.read("trial-000", "validation")
        assert found is not None
        assert (found == outputs).all()
        assert kept.read("trial-001", "validation") is None
        kept.write("trial-001", "test", outputs)
        store.put_trial("trial-001", {})
    assert set(RemoteFolder(place).files("outputs")) == {"trial-000.validation.npy", "trial-001.test.npy"}
    assert WARNINGS == []


def test_another_machine_goes_on_with_it(place: Place, tmp_path: Path, monkeypatch) -> None:
    _begin(place, "trial-000")
    shutil.rmtree(tmp_path / "cache")
    assert holds_search(place)
    assert search_id(place) == "first"
    with opened_store(place, WARNINGS.append) as store:
        assert [trial_id for trial_id, _, _ in store.trials()] == ["trial-000"]
        store.put_trial("trial-001", {})
    assert _trials(place) == ["trial-000", "trial-001"]

    # A third machine goes on, and then the second one again: it takes up what the third has done.
    second = tmp_path / "second"
    (tmp_path / "cache").rename(second)
    with opened_store(place, WARNINGS.append) as store:
        store.put_trial("trial-002", {})
    monkeypatch.setenv("PARETOFUSE_CACHE", str(second))
    with opened_store(place, WARNINGS.append) as store:
        assert len(list(store.trials())) == 3
    assert not WARNINGS


def test_what_this_machine_wrote_after_the_last_copy_is_kept(place: Place) -> None:
    _begin(place)
    with opened_store(place, WARNINGS.append) as store:
        store.put_trial("trial-000", {})
        killed = place.folder.parent / "killed"
        shutil.copytree(place.folder, killed)
        content = RemoteFolder(place).read_store()
    assert content is not None
    shutil.rmtree(place.folder)
    killed.rename(place.folder)
    RemoteFolder(place).write(FILE, content)
    with opened_store(place, WARNINGS.append) as store:
        assert [trial_id for trial_id, _, _ in store.trials()] == ["trial-000"]


def test_the_copy_is_renewed_while_the_search_runs(place: Place, monkeypatch) -> None:
    monkeypatch.setattr(remote, "COPY_SECONDS", 0.05)
    with created_store(place, {"search_id": "first", "begun": True}, WARNINGS.append) as store:
        store.put_trial("trial-000", {})
        deadline = time.monotonic() + 10
        while _trials(place) != ["trial-000"]:
            assert time.monotonic() < deadline
            time.sleep(0.02)


def test_a_name_that_is_taken_there_is_not_used_again(place: Place, tmp_path: Path) -> None:
    _begin(place, "trial-000")
    shutil.rmtree(tmp_path / "cache")
    with (
        pytest.raises(UserError, match="has just started a search there"),
        created_store(place, {}, WARNINGS.append),
    ):
        pass
    assert _trials(place) == ["trial-000"]
    assert not RemoteFolder(place).claims()


def test_a_search_that_came_to_nothing_leaves_nothing(place: Place) -> None:
    with pytest.raises(KeyboardInterrupt), created_store(place, {}, WARNINGS.append):
        raise KeyboardInterrupt
    assert not holds_search(place)
    assert not place.folder.exists()


@contextmanager
def _as(monkeypatch: pytest.MonkeyPatch, host: str, pid: int | None = None) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setattr("platform.node", lambda: host)
        if pid is not None:
            patch.setattr("os.getpid", lambda: pid)
        yield


def test_a_search_that_another_machine_runs_is_refused(place: Place, monkeypatch) -> None:
    _begin(place)
    run_by = r"is being run by process \d+ on elsewhere since .* in 5 minutes$"
    with ExitStack() as stack:
        with _as(monkeypatch, "elsewhere"):
            stack.enter_context(claimed(RemoteFolder(place)))
        with (
            pytest.raises(UserError, match=run_by),
            _as(monkeypatch, "here"),
            opened_store(place, WARNINGS.append),
        ):
            pass
    assert not RemoteFolder(place).claims()


def test_the_claim_of_a_dead_process_does_not_count(place: Place, monkeypatch) -> None:
    folder = RemoteFolder(place)
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    with _as(monkeypatch, "here", ended.pid):
        folder.claim("killed.json")
    with _as(monkeypatch, "here"), claimed(folder) as name:
        assert list(folder.claims()) == [name]
    with _as(monkeypatch, "elsewhere"):
        folder.claim("expired.json")
    later = timedelta(seconds=remote.EXPIRY_SECONDS + 1)
    found = {name: time - later for name, time in folder.claims().items()}
    real = RemoteFolder.claims
    with monkeypatch.context() as patch:
        patch.setattr(RemoteFolder, "claims", lambda self: {**real(self), **found})
        with claimed(folder):
            assert "expired.json" not in real(folder)


def test_of_many_that_start_at_once_one_goes_on(place: Place) -> None:
    started = threading.Barrier(6)
    going: list[str] = []
    refused: list[str] = []
    with ExitStack() as held:

        def start() -> None:
            started.wait()
            try:
                going.append(held.enter_context(claimed(RemoteFolder(place))))
            except UserError as error:
                refused.append(str(error))

        threads = [threading.Thread(target=start) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (len(going), len(refused)) == (1, 5)
        assert all("is being run by" in line for line in refused)


def test_a_process_that_slept_too_long_stops(place: Place, monkeypatch) -> None:
    monkeypatch.setattr(remote, "COPY_SECONDS", 0.05)
    monkeypatch.setattr(remote, "RENEW_SECONDS", 0.0)
    with created_store(place, {"begun": True}, WARNINGS.append) as store:

        def write() -> None:
            for number in range(500):
                for name in RemoteFolder(place).claims():
                    RemoteFolder(place).release(name)
                with store.transaction():
                    store.put_trial(f"trial-{number:03d}", {})
                time.sleep(0.02)

        with pytest.raises(UserError, match="another process has taken over this search"):
            write()


def test_an_address_that_does_not_exist_is_one_line(place: Place) -> None:
    for address in ("s3://no-such-bucket/runs", "nonsense://bucket/runs"):
        with pytest.raises(UserError, match=r"/runs/t: cannot be used \(") as refused:
            RemoteFolder(Place(address, "t")).claim("mine.json")
        assert "\n" not in str(refused.value)


def test_a_folder_is_kept_whole(place, tmp_path) -> None:
    """Who finds the last file finds all others; a folder that is replaced has none of the earlier files."""
    folder, source, target = RemoteFolder(place), tmp_path / "source", tmp_path / "target"
    (source / "code").mkdir(parents=True)
    (source / "config.json").write_text("{}")
    (source / "code" / "wheel").write_bytes(b"1")
    folder.get_folder("models/a", target)
    assert not target.exists(), "there is none"
    folder.put_folder("models/a", source, last="config.json")
    assert folder.folders("models") == ["a"]
    folder.get_folder("models/a", target)
    assert (target / "code" / "wheel").read_bytes() == b"1"
    shutil.rmtree(source / "code")
    folder.put_folder("models/a", source, last="config.json")
    assert folder.read("models/a/code/wheel") is None
    assert folder.read("models/a/config.json") == b"{}"
    folder.remove_folder("models/a")
    folder.remove_folder("models/a")
    assert folder.folders("models") == []
