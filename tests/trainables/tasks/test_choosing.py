from __future__ import annotations

import pyarrow as pa
import pytest

from tests.tasks import column_of
from trainables.errors import UserError
from trainables.tasks import choose_task, get_task


@pytest.mark.parametrize(
    ("labels", "name"),
    [
        (["a", "b"], "classification"),
        ([0, 1], "classification"),
        ([True, False], "classification"),
        ([0.0, 2.0, None], "classification"),
        (pa.array([0.0, 1.0], pa.float16()), "classification"),
        ([0.0, 2.5], "regression"),
        ([float("nan"), 1.0], "classification"),
        ([["a"], []], "multilabel"),
        ([[0, 1], [1, 1]], "multilabel"),
        ([["a"], ["b"]], "multilabel"),
        ([[100, 7], []], "multilabel"),
        ([[0.0, 1.0], [1.0, 1.0]], "multilabel"),
        ([[0.0, 1.0], [0.5, 1.0]], "regression"),
    ],
    ids=str,
)
def test_the_type_of_labels_decides_last(labels, name) -> None:
    kind = pa.array(labels).type
    assert choose_task(column_of(labels), kind, None)[0] == name
    assert choose_task(column_of(labels), kind, "mine") == ("mine", "as the dataset says")
    assert choose_task(column_of(labels, task="own"), kind, "mine") == ("own", "as --task says")


def test_training_rows_decide() -> None:
    assert choose_task(column_of([0.0], [0.5]), pa.float64(), None)[0] == "classification"
    with pytest.raises(UserError, match=r"label 0\.5 \(validation row 0\), no class; try --task regression"):
        get_task("classification").of_column(column_of([0.0, 1.0], [0.5]))


def test_texts_with_a_delimiter_are_tags() -> None:
    assert choose_task(column_of(["a b"], metadata={"delimiter": " "}), pa.string(), None)[0] == "multilabel"


def test_fractions_are_no_classes() -> None:
    with pytest.raises(
        UserError, match=r"has the label 0\.5 \(train row 0\), no class; try --task regression"
    ):
        get_task("classification").of_column(column_of([0.5, 1.0]))
