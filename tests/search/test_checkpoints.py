"""Checkpoints in a search's storage: durable before anybody hears of them, and found again."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray import tune
from ray.tune import Checkpoint

from search.checkpoints import DurableTrial, keep_weights, make_durable, up_to
from trainables.trial.assignment import Assignment
from trainables.trial.checkpoint import seal


class Counter(DurableTrial):
    """Counts its steps."""

    def setup(self, config: dict[str, Any]) -> None:
        self.count = 0
        self.assign(config["assignment"])

    def step(self) -> dict[str, Any]:
        remark = self.resume(self._load)
        self.count += 1
        return {"count": self.count, **remark}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        Path(checkpoint_dir, "count.json").write_text(json.dumps(self.count))
        seal(Path(checkpoint_dir))

    def _load(self, folder: Path) -> None:
        self.count = json.loads((folder / "count.json").read_text())


def _saved(path: Path, count: int) -> Checkpoint:
    """A checkpoint as Ray leaves it in the storage."""
    path.mkdir(parents=True)
    (path / "count.json").write_text(json.dumps(count))
    seal(path)
    return Checkpoint(str(path))


def _inodes(folder: Path) -> set[int]:
    return {path.stat().st_ino for path in (*folder.rglob("*"), folder, folder.parent, folder.parent.parent)}


@pytest.fixture
def flushed(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """The inodes of what was flushed to the disk."""
    found: set[int] = set()
    fsync = os.fsync

    def noting(handle: int) -> None:
        fsync(handle)
        found.add(os.fstat(handle).st_ino)

    monkeypatch.setattr(os, "fsync", noting)
    return found


def test_durable_are_all_files_and_the_folders_that_lead_to_them(tmp_path, flushed) -> None:
    checkpoint = _saved(tmp_path / "search" / "trial-000" / "checkpoint_000000", 1)
    make_durable(checkpoint)
    assert _inodes(Path(checkpoint.path)) <= flushed


def test_ray_hears_of_a_checkpoint_after_it_is_durable(tmp_path, flushed) -> None:
    trial = Counter({"assignment": Assignment(config={})})
    trial.step()
    saved = trial.save(str(tmp_path / "search" / "trial-000" / "checkpoint_000000"))
    assert _inodes(Path(saved.checkpoint.path)) <= flushed


def test_older_ones_come_next_and_later_ones_not_at_all(tmp_path) -> None:
    for place in ("trial-001/checkpoint_000000", "trial-000/checkpoint_000000"):
        _saved(tmp_path / place, 0)
    for number in (3, 4):
        _saved(tmp_path / "trial-000" / f"checkpoint_{number:06d}", 0)
    for number in (0, 1, 2):
        _saved(tmp_path / "trial-000.2" / f"checkpoint_{number:06d}", 0)
    (tmp_path / "trial-000.2" / "result.json").touch()
    assignment = Assignment(config={}, trial_id="trial-000", leg=3)

    def names(latest: str) -> list[str]:
        found = up_to(Checkpoint(str(tmp_path / latest)), assignment)
        return [str(Path(checkpoint.path).relative_to(tmp_path)) for checkpoint in found]

    assert names("trial-000.2/checkpoint_000001") == [
        "trial-000.2/checkpoint_000001",
        "trial-000.2/checkpoint_000000",
        "trial-000/checkpoint_000004",
        "trial-000/checkpoint_000003",
        "trial-000/checkpoint_000000",
    ]
    assert names("trial-000/checkpoint_000003")[1:] == ["trial-000/checkpoint_000000"]


@pytest.mark.parametrize("damaged", [0, 1, 2, 3])
def test_a_trial_resumes_from_the_latest_whole_one(tmp_path, damaged) -> None:
    leg = tmp_path / "trial-000"
    checkpoints = [_saved(leg / f"checkpoint_{number:06d}", number + 1) for number in range(3)]
    for checkpoint in checkpoints[3 - damaged :]:
        (Path(checkpoint.path) / "count.json").write_text("")
    assigned = Assignment(config={}, trial_id="trial-000", leg=2, checkpoint=checkpoints[-1])
    trial = Counter({"assignment": assigned})
    result = trial.step()
    assert result["count"] == 4 - damaged
    remark = result.get("remark", "")
    assert remark.count("is damaged (count.json has 0 of 1 bytes)") == damaged
    assert ("goes on from trial-000/checkpoint_" in remark) == (damaged in (1, 2))
    assert remark.endswith("starts from the beginning") == (damaged == 3)
    assert "remark" not in trial.step(), "said once"
    assert len(list(leg.glob("checkpoint_*"))) == 3, "none is removed"


def test_a_checkpoint_that_is_gone_is_as_good_as_damaged(tmp_path) -> None:
    _saved(tmp_path / "trial-000" / "checkpoint_000001", 2)
    trial = Counter({"assignment": Assignment(config={}, trial_id="trial-000")})
    gone = tune.Checkpoint(str(tmp_path / "trial-000" / "checkpoint_000002"))
    trial.restore(SimpleNamespace(checkpoint=gone))
    assert trial.step()["count"] == 3


def test_weights_are_kept_of_one(tmp_path) -> None:
    for number in range(3):
        folder = Path(_saved(tmp_path / f"checkpoint_{number:06d}", 0).path)
        (folder / "trainer.pt").touch()
    (tmp_path / "other").mkdir()
    kept = Checkpoint(str(tmp_path / "checkpoint_000002"))
    keep_weights(kept)
    keep_weights(kept)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint_000002", "other"]
    assert sorted(path.name for path in Path(kept.path).iterdir()) == ["count.json", "files.json"]
