from __future__ import annotations

import math

import pyarrow as pa
import pytest
import torch

from tests.tasks import task_of
from trainables.errors import UserError
from trainables.tasks import Task, get_task

SENTIMENT = [-2.4, -0.6, 0.0, 0.2, 2.8]


def sentiment() -> Task:
    """In standard deviations of 1 around 0, so that outputs are predictions."""
    made = get_task("regression")
    return made.from_dict({**made.of_size(1).to_dict(), "range": [-3, 3]})


def column(*values: float) -> torch.Tensor:
    return torch.tensor(values)[:, None]


def test_metrics_by_hand() -> None:
    task = task_of([1.5, 2.0, 2.5, 4.0])
    assert task.to_dict()["means"] == [2.5]
    deviation = math.sqrt((1 + 0.25 + 0 + 2.25) / 4)
    assert task.to_dict()["deviations"] == pytest.approx([deviation])
    predicted, labels = column(1.0, 3.0, 3.0), column(1.0, 2.0, 6.0)
    scores = task.score((predicted - 2.5) / deviation, labels)
    assert list(scores) == ["mae", "rmse", "pearson_r"]
    assert scores["mae"] == pytest.approx((0 + 1 + 3) / 3)
    assert scores["rmse"] == pytest.approx(math.sqrt((0 + 1 + 9) / 3))
    # Centred: (-4/3, 2/3, 2/3) and (-2, -1, 3)
    assert scores["pearson_r"] == pytest.approx(4 / math.sqrt((24 / 9) * 14), abs=1e-6)


def test_several_numbers_are_scored_in_the_mean() -> None:
    task = get_task("regression").of_size(2)
    outputs, labels = torch.tensor([[0.0, 1.0], [1.0, 1.0]]), torch.tensor([[0.0, 1.0], [2.0, 4.0]])
    scores = task.score(outputs, labels)
    assert scores["mae"] == pytest.approx((0.5 + 1.5) / 2)
    assert scores["rmse"] == pytest.approx((math.sqrt(0.5) + math.sqrt(4.5)) / 2)
    assert scores["pearson_r"] == pytest.approx(0.5)  # 1, and none for a constant


def test_sentiment_by_hand() -> None:
    scores = sentiment().score(column(-3.4, 0.0, -0.1, 0.4, 2.4), column(*SENTIMENT))
    # MMSA's: from 0 on is positive. Truth - - + + +, predicted - + - + +
    assert scores["acc2"] == pytest.approx(3 / 5)
    negative, positive = 2 * 1 / (2 + 2), 2 * 2 / (3 + 3)
    assert scores["weighted_f1"] == pytest.approx((2 * negative + 3 * positive) / 5)
    # MMSA's without the label 0, above 0 is positive. Truth - - + +, predicted - - + +
    assert scores["acc2_nonzero"] == scores["weighted_f1_nonzero"] == 1.0
    # MulT's: above 0 is positive. Truth - - - + +, predicted - - - + +
    assert scores["acc2_positive"] == scores["weighted_f1_positive"] == 1.0
    # Truth -2 -1 0 0 3, predicted -3 0 0 0 2
    assert scores["acc7"] == pytest.approx(2 / 5)


def test_what_a_range_means_decides_about_metrics() -> None:
    names = {m.name for m in sentiment().metrics}
    assert names == {m.name for m in get_task("regression").metrics}
    others = task_of([-0.5, 0.5], metadata={"range": [-1, 1]})
    assert {m.name for m in others.metrics} == names - {"acc7"}
    for metadata in ({"range": [0, 5]}, {}):
        assert len(task_of([1.5, 2.0], metadata=metadata).metrics) == 3
    assert len(task_of([[-0.5, 0.5]], metadata={"range": [-1, 1]}).metrics) == 3


def test_guessing_is_the_better_of_median_and_mean() -> None:
    guess = task_of([0.5, 1.0]).guess(column(0.0, 0.0, 0.0, 4.0))
    assert guess["mae"] == pytest.approx(1.0)  # the median's; the mean's is 1.5
    assert guess["rmse"] == pytest.approx(math.sqrt(3))  # the mean's; the median's is 2
    assert guess["pearson_r"] == 0


@pytest.mark.parametrize(("name", "loss"), [("l1", 1.25), ("l2", 2.125), ("huber", (0.125 + 1.5) / 2)])
def test_losses_are_in_standard_deviations(name, loss) -> None:
    task = task_of([-6.0, 6.0, 0.5], task="regression", regression_loss=name)
    task = get_task("regression").from_dict({**task.to_dict(), "means": [2.0], "deviations": [10.0]})
    assert task.loss(column(0.5, 0.0), column(2.0, 22.0)).item() == pytest.approx(loss)
    assert task.distillation(column(0.5, 0.0), column(0.0, 2.0)).item() == pytest.approx(loss)


def test_the_linear_model_is_a_ridge_regression() -> None:
    task = task_of([0.5, 1.5, 4.0, 6.0])
    features = torch.tensor([[-1.0], [0.0], [0.0], [1.0]], dtype=torch.float64)
    labels = task.encode([0.5, 1.5, 4.0, 6.0])
    weight, bias = task.fit_linear(features, labels, 0.5)
    deviation = task.to_dict()["deviations"][0]
    # Mean of half the squared error, and a quarter of the squared weight
    covariance = (6.0 - 0.5) / deviation / 4
    assert weight.item() == pytest.approx(covariance / (2 / 4 + 0.5), rel=1e-6)
    assert bias.item() == pytest.approx(0, abs=1e-6)


def test_labels_are_numbers_or_lists() -> None:
    task = task_of(pa.array([[0.5, 1.0], [1.5, 2.0]], pa.list_(pa.float32(), 2)))
    assert (task.name, task.output_size) == ("regression", 2)
    assert task.encode([[1.0, 2]]).tolist() == [[1.0, 2.0]]
    assert task.decode(torch.tensor([[1.0, 2.0]])) == [[1.0, 2.0]]
    assert task_of([1, 2, 3], task="regression").encode([2]).tolist() == [[2.0]]
    assert task_of([0.5, 0.5]).to_dict()["deviations"] == [1.0]


def test_labels_that_are_refused() -> None:
    for value, words in (
        (None, "label None is not a number"),
        ([1.0, 2.0], r"label \[1.0, 2.0\] is not a number"),
        (math.nan, "label nan is not from -3 to 3"),
        (3.5, "label 3.5 is not from -3 to 3"),
    ):
        with pytest.raises(UserError, match=f"test row 8: {words}"):
            sentiment().encode([0.5, value], "test row", 7)
    with pytest.raises(UserError, match="train row 1: label inf is not finite"):
        task_of([0.5, math.inf])
    for stored in ([3, -3], [1], "wide", [math.nan, 1]):
        with pytest.raises(UserError, match=r"schema key paretofuse\.range is .*; write e\.g\. "):
            task_of([0.5], metadata={"range": stored})


def test_answers_are_in_the_labels_unit() -> None:
    one = get_task("regression").from_dict(
        {"means": [100.0], "deviations": [10.0], "range": None, "loss": "l1"}
    )
    assert one.answers(torch.tensor([[0.5], [-1.0]]), {}) == [{"value": 105.0}, {"value": 90.0}]
    two = get_task("regression").from_dict(
        {"means": [0.0, 1.0], "deviations": [1.0, 2.0], "range": None, "loss": "l1"}
    )
    assert two.answers(torch.tensor([[0.5, 0.5]]), {}) == [{"value": [0.5, 2.0]}]
