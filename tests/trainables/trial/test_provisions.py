"""What a node lacks for trials."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from trainables.data import open_dataset
from trainables.plugin import Plugin
from trainables.trial.provisions import Provisions


@pytest.fixture
def elsewhere(trial_spec: Any, monkeypatch: Any, tmp_path: Path) -> Provisions:
    """The provisions of a search, on a node on which nothing is prepared."""
    provisions = Provisions(trial_spec, open_dataset(trial_spec.dataset).fingerprint)
    monkeypatch.setenv("PARETOFUSE_CACHE", str(tmp_path / "other cache"))
    return provisions


def _changed(provisions: Provisions, **changes: Any) -> Provisions:
    return replace(provisions, spec=replace(provisions.spec, **changes))


def test_nothing_is_lacking_where_all_is_there(elsewhere: Provisions) -> None:
    assert elsewhere.lacking() == []
    assert set(elsewhere.paths) == {elsewhere.spec.dataset, *elsewhere.spec.encoders.values()}


def test_prepared_data_need_no_dataset(trial_spec: Any) -> None:
    moved = replace(trial_spec, dataset="/nowhere/squares")

    assert Provisions(moved, "0123").lacking() == []


def test_a_dataset_that_is_not_there(elsewhere: Provisions) -> None:
    moved = _changed(elsewhere, dataset="parquet:/nowhere/squares")

    assert moved.lacking() == [("dataset parquet:/nowhere/squares", "is not there")]
    assert "/nowhere/squares" not in moved.paths


def test_a_dataset_with_another_content(elsewhere: Provisions, tmp_path: Path) -> None:
    copied = shutil.copytree(elsewhere.spec.dataset, tmp_path / "squares")
    same = _changed(elsewhere, dataset=str(copied))
    assert same.lacking() == []

    shutil.copy(copied / "test.parquet", copied / "validation.parquet")
    ((what, reason),) = same.lacking()
    assert what == f"dataset {copied}"
    assert elsewhere.data in reason


def test_encoders_that_are_not_there_or_others(elsewhere: Provisions, tiny_encoders: Any) -> None:
    encoders = {"text": "/nowhere/bert", "image": elsewhere.spec.encoders["image"]}
    others = _changed(elsewhere, encoders=encoders, fingerprints={"text": "0", "image": "0123"})

    (text, image) = others.lacking()
    assert text == ("encoder /nowhere/bert", "is not there")
    assert image[0] == f"encoder {encoders['image']}"
    assert "not 0123" in image[1]


def test_a_plugin_that_does_not_load_there(elsewhere: Provisions) -> None:
    broken = _changed(elsewhere, plugins=(Plugin("mine.py", "import nothing_of_this_name"),))

    ((what, reason),) = broken.lacking()
    assert what == "plugin"
    assert "mine.py, line 1" in reason
