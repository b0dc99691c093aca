"""Damaged datasets, pictures, sounds and encoders: a short, seeded form of ``benchmarks/bad_data.py``."""

from __future__ import annotations

import importlib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

#: Of each kind one that is quick.
SUBJECTS = (
    "dataset: mine.csv",
    "dataset: mine.parquet",
    "dataset: webdataset",
    "dataset: imagefolder",
    "dataset: food101, kaggle",
    "picture: TIFF",
    "sound: FLAC",
    "encoder: bert",
)


@pytest.fixture(scope="module")
def fuzz() -> Any:
    """The benchmark; benchmarks/ is no package."""
    return importlib.import_module("bad_data")


def _seen(fuzz: Any, *rows: tuple[str, ...], said: str = "") -> Any:
    return fuzz.Seen(Counter(rows), frozenset([said] if said else []))


def test_nothing_damaged_is_taken_in_silence(fuzz, tmp_path: Path, monkeypatch, workplace) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", "")  # which the cases change
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    fuzzer, known = fuzz.Fuzzer(tmp_path, 0), fuzz.subjects()
    outcomes = [fuzzer.run(known[name], case) for name in SUBJECTS for case in range(10)]
    faults = [f"{o.outcome} {o}\n{o.details}" for o in outcomes if o.outcome in fuzz.FAULTS]
    assert not faults
    assert {"refused", "same", "said", "in place"} <= {outcome.outcome for outcome in outcomes}


@pytest.mark.parametrize(
    ("how", "rows", "outcome"),
    [
        ("flipped", [("a", "1"), ("b", "1")], "same"),
        ("flipped", [("A", "1"), ("b", "1")], "in place"),
        ("flipped", [("a", "2"), ("b", "2")], "in place"),  # a value that both rows share
        ("flipped", [("a", "2"), ("B", "1")], "silent"),
        ("flipped", [("a", "1")], "silent"),
        ("cut", [("a", "1")], "in place"),
        ("cut", [("a", "1"), ("", "1")], "silent"),
        ("doubled", [("a", "1"), ("b", "1"), ("b", "1")], "in place"),
        ("swapped", [("a", "2"), ("b", "1")], "silent"),
        ("missing", [("x", "2"), ("y", "3")], "silent"),
    ],
)
def test_what_is_silent(fuzz, how: str, rows: list[tuple[str, ...]], outcome: str) -> None:
    whole = _seen(fuzz, ("a", "1"), ("b", "1"), said="2 rows")
    before, after = (b"a1\nb1\n", b"a1\n" if how == "cut" else b"a1\nb2\n")
    assert fuzz.judged(how, before, after, whole, _seen(fuzz, *rows, said="1 rows")) == outcome


def test_what_is_said_is_not_silent(fuzz) -> None:
    whole = _seen(fuzz, ("a", "1"))
    assert fuzz.judged("missing", b"a", b"", whole, _seen(fuzz, said="b.csv is missing")) == "said"


def test_an_exception_is_a_fault(fuzz, tmp_path: Path) -> None:
    def look(address: str, folder: Path) -> Any:
        if (folder / "a").read_bytes() != b"a":
            raise ValueError("one\ntwo")
        return _seen(fuzz, ("a", "1"))

    def write(folder: Path) -> str:
        (folder / "a").write_bytes(b"a")
        return str(folder)

    outcome = fuzz.Fuzzer(tmp_path, 0).run(fuzz.Subject("mine", write, look), 0)
    assert (outcome.outcome, outcome.said) == ("traceback", "ValueError: one\ntwo")
