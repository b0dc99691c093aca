"""Versions: those with which a search was started are compared with those that resume it."""

from __future__ import annotations

import optuna
import torch

from search.records.versions import changes, installed


def test_the_versions_are_those_of_the_packages() -> None:
    found = installed()
    assert list(found) == ["python", "paretofuse", "torch", "ray", "optuna", "transformers"]
    assert found["optuna"] == optuna.__version__
    release = torch.__version__.partition("+")[0]  # a build may name its CUDA in one place only
    assert found["torch"].partition("+")[0] == release


def test_what_has_changed_is_said_in_a_line() -> None:
    now = installed()
    assert changes("mine", now) is None
    assert changes("mine", None) is None
    assert changes("mine", {**now, "optuna": "4.9.0"}) == (
        f"search 'mine' was started with optuna 4.9.0; this is {now['optuna']}"
    )
    assert changes("mine", {**now, "python": "3.9.1", "ray": "2.1"}) == (
        f"search 'mine' was started with python 3.9.1, ray 2.1; this is {now['python']}, {now['ray']}"
    )
    assert changes("mine", {"optuna": now["optuna"]}) is None
