"""Pairs of pictures and titles: each side alone tells nothing, and what is called wrong is wrong."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.trainables.data.test_source import columns, png, write_dataset
from trainables.data import SPLITS, Dataset, matched, open_dataset
from trainables.data.matching import CLASSES, matched_dataset
from trainables.errors import UserError


def _rows(seed: int) -> tuple[list[str], list[str]]:
    """Return titles, many of them repeated, and classes, the largest with less than half of the rows."""
    draw = np.random.default_rng(seed)
    n = int(draw.integers(20, 200))
    classes = draw.permutation(np.arange(n) % int(draw.integers(3, 9)))
    return [f"title {i}" for i in draw.integers(0, n, n)], [f"class {i}" for i in classes]


def _read(dataset: Dataset, split: str, names: list[str]) -> list[dict[str, Any]]:
    return [row for batch in dataset.batches(split, names, 100) for row in batch.to_pylist()]


@pytest.mark.parametrize("k", [1, 2, 5])
@pytest.mark.parametrize("seed", range(10))
def test_pairs(seed: int, k: int) -> None:
    titles, classes = _rows(seed)
    pairs = matched(titles, classes, k, seed)
    n = len(titles)
    assert pairs.pictures.tolist() == [row for row in range(n) for _ in range(1 + k)]
    own = pairs.labels == 1
    assert pairs.pictures[own].tolist() == pairs.titles[own].tolist() == list(range(n))
    assert Counter(pairs.titles[~own].tolist()) == dict.fromkeys(range(n), k)
    given: dict[int, set[str]] = {}
    for picture, title, is_own in zip(*(part.tolist() for part in pairs), strict=True):
        assert is_own or classes[picture] != classes[title]
        assert titles[title] not in given.setdefault(picture, set()), "twice, or the own one called wrong"
        given[picture].add(titles[title])


def test_the_seed_decides_and_nothing_else() -> None:
    titles, classes = _rows(0)
    first, again, other = (matched(titles, classes, 2, seed).titles.tolist() for seed in (0, 0, 1))
    assert first == again != other


@pytest.mark.parametrize("n", [2, 3, 8, 51])
def test_a_class_may_have_half_of_the_rows_and_no_more(n: int) -> None:
    half = n // 2
    titles, rest = [str(i) for i in range(n)], [f"other {i}" for i in range(n)]
    assert len(matched(titles, ["large"] * half + rest[half:], 1, seed=0).labels) == 2 * n
    with pytest.raises(UserError, match=rf"{n} rows, {half + 1} of them of one class"):
        matched(titles, ["large"] * (half + 1) + rest[half + 1 :], 1, seed=0)


def test_too_few_different_titles() -> None:
    classes = ["a", "b", "c"] * 4
    with pytest.raises(UserError, match="12 rows, 4 of them of one class, cannot each get 1 wrong title:"):
        matched(["the same"] * 12, classes, 1, seed=0)
    with pytest.raises(UserError, match="9 wrong titles"):
        matched([str(i) for i in range(12)], classes, 9, seed=0)


def test_titles_that_differ_in_case_or_spaces_only_are_one(tmp_path: Path) -> None:
    titles = ["Red Square", "red  square", "green", "blue"]
    content = columns(4, text=titles, image=[png((i, 0, 0)) for i in range(4)], label=["a", "b", "c", "d"])
    dataset = matched_dataset(
        open_dataset(str(write_dataset(tmp_path, **dict.fromkeys(SPLITS, content)))), k=1, seed=0
    )
    (batch,) = dataset.batches("train", ["text", "image", "label"])
    rows = batch.to_pylist()
    assert [row["label"] for row in rows] == ["match", "mismatch"] * 4
    assert [row["image"] for row in rows] == [png((i // 2, 0, 0)) for i in range(8)]
    assert [row["text"] for row in rows[::2]] == titles
    assert {row["text"] for row in rows[1:4:2]} == {"green", "blue"}


def test_a_split_that_cannot_be_paired_is_named(tmp_path: Path) -> None:
    content = columns(4, text=list("abcd"), label=["a", "b", "c", "d"])
    folder = write_dataset(
        tmp_path, **dict.fromkeys(SPLITS, content) | {"validation": columns(4, label=["a"] * 3 + ["b"])}
    )
    with pytest.raises(UserError, match="validation: 4 rows, 3 of them of one class"):
        matched_dataset(open_dataset(str(folder)), k=1, seed=0).count("train")


def test_the_fingerprint_follows_the_files_and_the_rule(tmp_path: Path) -> None:
    def fingerprint(text: str, k: int = 1, seed: int = 0) -> str:
        content = columns(8, text=[*"abcdefg", text], label=list("abcdabcd"))
        folder = write_dataset(tmp_path, **dict.fromkeys(SPLITS, content))
        return matched_dataset(open_dataset(str(folder)), k=k, seed=seed).fingerprint

    found = [fingerprint("h"), fingerprint("i"), fingerprint("h", k=2), fingerprint("h", seed=1)]
    assert len(set(found)) == 4
    assert fingerprint("h") == found[0]


def test_no_sum_of_functions_of_the_sides_learns_it() -> None:
    """Late fusion adds what it finds on each side, and cannot tell a match from a mismatch."""
    from sklearn.linear_model import LogisticRegression

    titles, classes = _rows(0)
    pairs = matched(titles, classes, 2, seed=0)
    of_pictures, of_titles = np.random.default_rng(0).normal(size=(2, len(titles), 20))
    both = np.concatenate([of_pictures[pairs.pictures], of_titles[pairs.titles]], axis=1)
    fitted = LogisticRegression(C=1e3, tol=1e-8).fit(both, pairs.labels)
    assert np.abs(fitted.coef_).max() < 1e-6
    assert fitted.intercept_ == pytest.approx(np.log(1 / 2))


class TestOpenclipartMatch:
    """The dataset in the package."""

    @pytest.mark.parametrize("split", SPLITS)
    def test_pairs_of_the_shipped_rows(self, split: str) -> None:
        """Each picture and each title has the same share of matches, so that neither says anything alone."""
        dataset = open_dataset("openclipart_match")
        stored = _read(open_dataset("openclipart"), split, ["image", "text"])
        pairs = _read(dataset, split, ["image", "text", "label"])
        assert len(pairs) == dataset.count(split)
        right = {(row["image"], row["text"]) for row in stored}
        for row in pairs:
            assert ((row["image"], row["text"]) in right) == (row["label"] == "match")
        for side in ("image", "text"):
            counts = {name: Counter(row[side] for row in pairs if row["label"] == name) for name in CLASSES}
            assert counts["match"] == Counter(row[side] for row in stored)
            assert counts["mismatch"] == counts["match"]
        assert dataset.task.to_dict()["classes"] == list(CLASSES)

    def test_it_is_the_same_everywhere(self) -> None:
        assert open_dataset("openclipart_match").fingerprint == "e659d4e06184a679"
