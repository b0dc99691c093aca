"""Damaged options and files: a short, seeded form of ``benchmarks/bad_input.py``."""

from __future__ import annotations

import importlib
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def fuzzer() -> Iterator[Any]:
    """The benchmark; benchmarks/ is no package."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield importlib.import_module("bad_input")


@pytest.fixture(scope="module")
def place(fuzzer, tmp_path_factory) -> Iterator[Any]:
    """A folder with searches, a cache and files of all kinds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("cwd"))
        for name in ("PARETOFUSE_CACHE", "HOME", "TMPDIR", "HF_HUB_OFFLINE"):
            patch.setenv(name, "")
        patch.setattr(tempfile, "tempdir", None)
        yield fuzzer.Workplace(tmp_path_factory.mktemp("place"))


def _faults(outcomes: list[Any]) -> list[str]:
    return [f"{o.faults} {o.what}: {o.arguments}: {o.said}\n{o.details}" for o in outcomes if o.faults]


@pytest.mark.full
def test_no_command_line_gets_more_than_a_line(fuzzer, place) -> None:
    outcomes = fuzzer.run_commands(place, 120, random.Random(0))
    assert not _faults(outcomes)
    assert {0, 2, None} <= {outcome.code for outcome in outcomes}


@pytest.mark.full
def test_no_damaged_file_gets_more_than_a_line(fuzzer, place) -> None:
    outcomes = fuzzer.run_files(place, 60, random.Random(0))
    assert not _faults(outcomes)
    assert {0, 2, None} <= {outcome.code for outcome in outcomes}
