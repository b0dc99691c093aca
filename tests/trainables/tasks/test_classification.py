from __future__ import annotations

import math

import pytest
import torch

from tests.tasks import classification, task_of
from trainables.errors import UserError
from trainables.tasks import get_task


def test_metrics_by_hand() -> None:
    labels = torch.tensor([0, 0, 1, 2])
    logits = torch.eye(4)[torch.tensor([0, 1, 1, 2])] * 10  # one class-0 sample taken for class 1
    scores = classification(4).score(logits, labels)
    assert scores["accuracy"] == pytest.approx(0.75)
    # F1 of classes 0, 1, 2: 2/3, 2/3, 1; class 3 neither occurs nor is guessed
    assert scores["macro_f1"] == pytest.approx((2 / 3 + 2 / 3 + 1) / 3)
    assert scores["weighted_f1"] == pytest.approx((2 * 2 / 3 + 2 / 3 + 1) / 4)
    assert scores["loss"] > 0


@pytest.mark.parametrize(
    ("seed", "n_classes", "rows", "accuracy", "macro_f1", "loss"),
    [
        (0, 2, 7, 0.2857142984867096, 0.2222222238779068, 1.2034995555877686),
        (1, 5, 33, 0.3636363744735718, 0.3280112147331238, 1.8814853429794312),
        (2, 13, 481, 0.06444906443357468, 0.06282518804073334, 2.9718446731567383),
        (3, 40, 30, 0.06666667014360428, 0.050505053251981735, 4.36038875579834),
    ],
)
def test_metrics_of_random_logits_are_equal_to_the_digit(
    seed, n_classes, rows, accuracy, macro_f1, loss
) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(rows, n_classes, generator=generator)
    labels = torch.randint(0, n_classes, (rows,), generator=generator)
    scores = classification(n_classes).score(logits, labels)
    assert (scores["accuracy"], scores["macro_f1"]) == (accuracy, macro_f1)
    assert scores["loss"] == pytest.approx(loss, rel=1e-6)  # the order of summation is the processor's


def test_loss_of_guessing_is_the_log_of_the_classes() -> None:
    task = classification(7)
    assert task.loss(torch.zeros(3, 7), torch.tensor([1, 2, 3])).item() == pytest.approx(math.log(7))
    assert task.guess(torch.tensor([1, 2, 3]))["loss"] == math.log(7)


def test_guessing_gets_the_share_of_the_largest_class() -> None:
    assert classification(3).guess(torch.tensor([2, 0, 2, 2, 1]))["accuracy"] == 0.6


def test_what_a_larger_model_teaches_is_learnt_best_by_agreeing_with_it() -> None:
    task = classification(3)
    outputs = torch.tensor([[2.0, 0.0, -1.0]])
    taught = task.teaching(outputs)
    assert taught.sum().item() == pytest.approx(1)
    agreeing = task.distillation(outputs, taught)
    assert agreeing.item() == pytest.approx(-(taught * taught.log()).sum().item())
    assert agreeing < task.distillation(outputs.flip(1), taught)


def test_weights_are_inverse_counts_and_one_in_the_mean() -> None:
    task = task_of([0, 0, 0, 1], class_weights="inverse")
    assert task.to_dict()["class_weights"] == pytest.approx([2 / 3, 2])
    assert task.encoding() == task_of([0, 0, 0, 1]).encoding()
    logits, labels = torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.tensor([0, 1])
    hit, miss = math.log(1 + math.exp(-1)), math.log(1 + math.exp(1))
    assert task.loss(logits, labels).item() == pytest.approx((2 / 3 * hit + 2 * miss) / 2)
    assert task.score(logits, labels)["loss"] == pytest.approx((hit + miss) / 2)
    # The row of the rare class pulls the probe as much as the three others together
    _, bias = task.fit_linear(torch.zeros(4, 1, dtype=torch.float64), torch.tensor([0, 0, 0, 1]), 1.0)
    assert bias.tolist() == pytest.approx([0, 0], abs=1e-3)


def test_a_class_without_training_rows_has_weight_1() -> None:
    task = task_of(["a", "b"], class_weights="inverse", metadata={"classes": ["a", "b", "c"]})
    assert task.to_dict()["class_weights"] == [1.0, 1.0, 1.0]


def test_labels_are_names_or_indices() -> None:
    task = get_task("classification").from_dict({"classes": ["cat", "dog"]})
    assert task.encode(["dog", 0, "cat", 1, 1.0]).tolist() == [1, 0, 0, 1, 1]
    assert task.decode(torch.tensor([1, 0])) == ["dog", "cat"]
    for value in ("bird", 2, -1, None):
        with pytest.raises(UserError, match=rf"test row 8: label {value!r} is none of the 2 classes"):
            task.encode(["cat", value], "test row", 7)


def test_a_table_of_trials_says_what_it_did_before() -> None:
    record = classification(13).to_record({"accuracy": 0.25, "loss": math.log(13)})
    assert record == {"classes": 13, "majority": 0.25}
    task, guess = get_task("classification").from_record(record)
    assert task.output_size == 13
    assert guess == {"accuracy": 0.25, "loss": math.log(13)}
