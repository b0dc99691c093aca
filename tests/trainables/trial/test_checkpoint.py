"""Checkpoints that show whether they are whole."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.trials import DAMAGE, Saved
from trainables.trial.checkpoint import DamagedError, check, load_whole, seal

FILES = {"weights.safetensors": b"\1" * 1000, "trainer.pt": b"\2" * 5000, "trial.json": b"{}"}


def _checkpoint(folder: Path) -> Path:
    folder.mkdir()
    for name, content in FILES.items():
        (folder / name).write_bytes(content)
    seal(folder)
    return folder


@pytest.mark.parametrize("name", [*FILES, "files.json"])
@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_any_damage_to_any_file_is_found(tmp_path, name, damage: Callable[[Path], None]) -> None:
    folder = _checkpoint(tmp_path / "checkpoint")
    check(folder)
    damage(folder / name)
    with pytest.raises(DamagedError, match=name):
        check(folder)


def test_what_is_not_needed_need_not_be_there(tmp_path) -> None:
    folder = _checkpoint(tmp_path / "checkpoint")
    (folder / "trainer.pt").unlink()
    check(folder, ["weights.safetensors"])
    with pytest.raises(DamagedError, match=r"trainer\.pt is missing"):
        check(folder)


def test_the_first_whole_one_is_loaded_and_the_rest_not_looked_at(tmp_path) -> None:
    paths = [_checkpoint(tmp_path / f"checkpoint_{number}") for number in (3, 2, 1)]

    def candidates(asked: list[Path]) -> object:
        for path in paths:
            asked.append(path)
            yield Saved(path)

    asked: list[Path] = []
    loaded: list[Path] = []
    assert load_whole(candidates(asked), loaded.append) == []
    assert (loaded, asked) == (paths[:1], paths[:1])

    (paths[0] / "weights.safetensors").write_bytes(b"\1" * 12)
    loaded.clear()
    one, two = load_whole(candidates([]), loaded.append)
    assert loaded == [paths[1]]
    assert one.endswith("checkpoint_3 is damaged (weights.safetensors has 12 of 1,000 bytes)")
    assert two.startswith("goes on from ")
    assert two.endswith("checkpoint_2")


def test_without_a_whole_one_nothing_is_loaded(tmp_path) -> None:
    loaded: list[Path] = []
    missing = Saved(tmp_path / "nowhere")
    first, last = load_whole([missing], loaded.append)
    assert first.endswith("nowhere is damaged (files.json is missing)")
    assert last == "starts from the beginning"
    assert loaded == load_whole([], loaded.append) == []
