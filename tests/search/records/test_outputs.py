"""Outputs in a search's folder: whole or not there, and never needed."""

from __future__ import annotations

import numpy as np
import pytest

from search.records.outputs import KeptOutputs
from tests.trials import DAMAGE
from trainables.errors import UserError

OUTPUTS = np.arange(12, dtype=np.float16).reshape(4, 3)


def test_what_was_written_is_read(tmp_path) -> None:
    kept = KeptOutputs(tmp_path)
    assert kept.read("trial-000", "test") is None
    kept.write("trial-000", "test", OUTPUTS * 2)
    kept.write("trial-000", "test", OUTPUTS)
    found = KeptOutputs(tmp_path).read("trial-000", "test")
    assert found is not None
    assert (found == OUTPUTS).all()
    assert kept.read("trial-000", "validation") is None
    assert [path.name for path in (tmp_path / "outputs").iterdir()] == ["trial-000.test.npy"]


@pytest.mark.parametrize("damage", [name for name in DAMAGE if name != "flipped"])
def test_a_damaged_file_is_none(tmp_path, damage) -> None:
    kept = KeptOutputs(tmp_path)
    kept.write("trial-000", "test", OUTPUTS)
    DAMAGE[damage](tmp_path / "outputs" / "trial-000.test.npy")
    assert kept.read("trial-000", "test") is None


def test_what_is_no_array_of_outputs_is_none(tmp_path) -> None:
    kept = KeptOutputs(tmp_path)
    kept.write("trial-000", "test", OUTPUTS.astype(np.float64))  # type: ignore[arg-type]
    assert kept.read("trial-000", "test") is None
    (tmp_path / "outputs" / "trial-001.test.npy").mkdir()
    assert kept.read("trial-001", "test") is None


def test_what_is_not_on_this_machine_is_fetched(tmp_path) -> None:
    there = KeptOutputs(tmp_path / "there")
    (tmp_path / "there").mkdir()
    there.write("trial-000", "test", OUTPUTS)
    content = (tmp_path / "there" / "outputs" / "trial-000.test.npy").read_bytes()
    remote = {"outputs/trial-000.test.npy": content}
    found = KeptOutputs(tmp_path / "here", remote.get).read("trial-000", "test")
    assert found is not None
    assert (found == OUTPUTS).all()

    def away(name: str) -> bytes:
        raise UserError("cannot be used")

    assert KeptOutputs(tmp_path / "here", away).read("trial-000", "test") is None
