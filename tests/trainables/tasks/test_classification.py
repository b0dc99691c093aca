from __future__ import annotations

import math

import pyarrow as pa
import pytest
import torch
from torch.nn import functional as F

from tests.tasks import classification, column_of, task_of
from trainables.errors import UserError
from trainables.tasks import get_task
from trainables.testing.tasks import check_task


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


def test_a_sample_with_a_smoothed_label_is_weighed_by_its_class() -> None:
    task = task_of(["a"] * 6 + ["b"] * 3 + ["c"], class_weights="inverse")
    logits, labels = (
        torch.randn(5, 3, generator=torch.Generator().manual_seed(0)),
        torch.tensor([0, 0, 1, 2, 0]),
    )
    weights = torch.tensor(task.to_dict()["class_weights"])
    rows = F.cross_entropy(logits, labels, reduction="none", label_smoothing=0.2)
    expected = (weights[labels] * rows).sum().item() / len(labels)
    assert task.smoothed_loss(logits, labels, 0.2).item() == pytest.approx(expected)
    assert task.smoothed_loss(logits, labels, 0.0).item() == task.loss(logits, labels).item()


def test_weighed_classes_stay_even_if_labels_are_smoothed() -> None:
    labels = torch.tensor([0] * 99 + [1])
    task = task_of(labels.tolist(), class_weights="inverse")
    logits = torch.zeros(1, 2, requires_grad=True)
    task.smoothed_loss(logits.expand(len(labels), 2), labels, 0.1).backward()
    assert logits.grad.flatten().tolist() == pytest.approx([0, 0], abs=1e-6)


def test_a_class_without_training_rows_has_weight_1() -> None:
    task = task_of(["a", "b"], class_weights="inverse", metadata={"classes": ["a", "b", "c"]})
    assert task.to_dict()["class_weights"] == [1.0, 1.0, 1.0]


def test_labels_are_names_or_indices() -> None:
    task = get_task("classification").from_dict({"classes": ["cat", "dog"], "codes": [0, 1]})
    assert task.encode([" dog", 0, "cat", 1, 1.0, True]).tolist() == [1, 0, 0, 1, 1, 1]
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


@pytest.mark.parametrize(
    ("labels", "classes", "encoded"),
    [
        ([100207, 100200, 100214, 100200], ["100200", "100207", "100214"], [1, 0, 2, 0]),
        ([3_000_000_002, 3_000_000_000], ["3000000000", "3000000002"], [1, 0]),
        ([10, 9, -1], ["-1", "9", "10"], [2, 1, 0]),
        ([2.0, 1.0], ["1", "2"], [1, 0]),
        (pa.array([2, 1], pa.uint8()), ["1", "2"], [1, 0]),
        (pa.array([2, 1], pa.float16()), ["1", "2"], [1, 0]),
        ([True, False], ["False", "True"], [1, 0]),
        (["b ", "a", "b"], ["a", "b"], [1, 0, 1]),
        (["10", "9"], ["10", "9"], [0, 1]),
        (pa.array(["b", "a"], pa.dictionary(pa.int8(), pa.large_string())), ["a", "b"], [1, 0]),
        (pa.array(["b", "a"], pa.string_view()), ["a", "b"], [1, 0]),
    ],
    ids=str,
)
def test_each_value_is_a_class(labels, classes, encoded) -> None:
    task = task_of(labels)
    assert task.to_dict()["classes"] == classes
    assert task.encode(pa.array(labels).to_pylist()).tolist() == encoded
    check_task(task)


@pytest.mark.parametrize(
    ("stated", "labels", "encoded"),
    [
        (["no", "yes"], [1, 0, 1], [1, 0, 1]),
        (["no", "yes"], ["yes ", "no"], [1, 0]),
        (["no", "yes"], [True, False], [1, 0]),
        (["True", "False"], [True, False], [0, 1]),
        ({"7": "red", "3": "green"}, [7, 3], [1, 0]),
        ({"red": 7, "green": 3}, [7, 3], [1, 0]),
        ([20, 10], [10, 20], [1, 0]),
    ],
)
def test_stated_names_give_numbers_a_meaning(stated, labels, encoded) -> None:
    task = task_of(labels, metadata={"classes": stated})
    assert task.encode(labels).tolist() == encoded
    check_task(task)


@pytest.mark.parametrize(
    ("stated", "words"),
    [
        ("red, green", "is red, green; write a list of names, such as"),
        ([], "write a list of names"),
        (["red", None], "write a list of names"),
        ({"red": "green"}, "write a list of names"),
        (["red", "red "], "has the name 'red' more than once"),
        ({"red": 0, "green": 0}, "has the number 0 more than once"),
    ],
)
def test_stated_names_that_are_none(stated, words) -> None:
    with pytest.raises(UserError, match=f"schema key paretofuse.classes {words}|{words}"):
        task_of(["red", "green"], metadata={"classes": stated})


def test_labels_that_the_stated_names_lack_are_counted() -> None:
    with pytest.raises(
        UserError, match=r"3 of 4 train rows \(.*\) are of none of the 2 classes .*, but '2' and '5'"
    ):
        task_of([0, 5, 2, 5], metadata={"classes": ["no", "yes"]})


@pytest.mark.parametrize(
    ("one", "other", "shown"),
    [
        ("red", "Red", "'Red' and 'red'"),
        ("light  red", "light red", "'light  red' and 'light red'"),
        ("red", "r\u200bed", r"'red' and 'r\\u200bed'"),
        ("caf\u00e9", "cafe\u0301", r"'cafe\\u0301' and 'café'"),
    ],
)
def test_names_that_look_alike_are_refused(one: str, other: str, shown: str) -> None:
    for train, validation in (([one, other, "b"], []), ([one, "b"], [other, "b"])):
        with pytest.raises(UserError, match=f"names that differ only by case, space or hidden .*: {shown}; "):
            task_of(train, validation)
    assert task_of([one, other], metadata={"classes": [one, other]}).output_size == 2


def test_space_around_names_is_said() -> None:
    column = column_of(["red", "red ", "\tblue"], ["blue ", "nan"])
    task = get_task("classification").of_column(column)
    assert task.to_dict()["classes"] == ["blue", "red"]
    assert task.remarks(column)[0] == ("space around labels does not count: 4 have some, such as 'red '")
    column = column_of(["red", "nan"])
    (remark,) = get_task("classification").of_column(column).remarks(column)
    assert remark == "'nan' is taken as a name, which 1 train row has"


def test_answers_are_names_and_probabilities() -> None:
    task = task_of(["cat", "dog", "cat", "eel"], ["emu"])
    outputs = torch.tensor([[0.1, 0.6, 0.3], [0.4, 0.2, 0.4]]).log()
    first, second = task.answers(outputs, {})
    assert (first["label"], second["label"]) == ("dog", "cat")
    assert first["probability"] == pytest.approx(0.6)
    assert first["probabilities"] == pytest.approx({"dog": 0.6, "eel": 0.3, "cat": 0.1})
    assert [*first["probabilities"]] == ["dog", "eel", "cat"]
    assert [*second["probabilities"]] == ["cat", "eel", "dog"]  # as likely as each other, in order
    assert [*task.answers(outputs, {}, top=1)[0]["probabilities"]] == ["dog"]
    coded = task_of([3, 5], metadata={"classes": {"5": "yes", "3": "no"}})
    assert coded.answers(torch.tensor([[0.0, 9.0]]), {})[0]["label"] == "yes"


class TestAClassThatTrainLacks:
    column = column_of(["a", "b", "b", "d"], ["b", "c", "a", "e", "c"])
    task = get_task("classification").of_column(column)

    def test_is_no_output_but_has_an_index(self) -> None:
        assert self.task.output_size == 3
        labels = self.task.encode(["a", "d", "c", "e"])
        assert labels.tolist() == [0, 2, 3, 4]
        assert self.task.decode(labels) == ["a", "d", "c", "e"]
        check_task(self.task)

    def test_is_said(self) -> None:
        validation, test = self.task.remarks(self.column)
        assert validation == (
            "validation: 3 of 5 rows are of 2 classes that train lacks ('c' and 'e'); they count as wrong"
        )
        assert test == validation.replace("validation", "test")

    def test_is_scored_as_wrong(self) -> None:
        labels = torch.tensor([0, 1, 3, 3])
        logits = torch.eye(3)[torch.tensor([0, 1, 1, 2])] * 10
        scores = self.task.score(logits, labels)
        assert scores["accuracy"] == 0.5
        # F1 of the outputs: 1, 2/3, 0; that of the class which is never predicted: 0
        assert scores["macro_f1"] == pytest.approx((1 + 2 / 3 + 0 + 0) / 4)
        assert scores["weighted_f1"] == pytest.approx((1 + 2 / 3 + 0 + 0) / 4)
        known = classification(3).score(logits[:2], labels[:2])["loss"]
        assert scores["loss"] == pytest.approx((2 * known + 2 * math.log(3)) / 4)
        for metric in ("accuracy", "loss"):
            each = self.task.row_values(metric, logits, labels)
            assert each is not None
            assert each.mean().item() == pytest.approx(scores[metric])

    def test_is_not_guessed(self) -> None:
        assert self.task.guess(torch.tensor([3, 3, 3, 1]))["accuracy"] == 0.25


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (range(1000, 1030), "has 30 distinct values in 30 train rows; is it the label?"),
        ([*range(30), *range(20)], "has 30 distinct values in 50 train rows"),
        (range(70_000), "has more than 65,536 distinct values"),
    ],
)
def test_ids_are_no_classes(labels, words) -> None:
    with pytest.raises(UserError, match=words):
        task_of([*labels])


def test_there_must_be_something_to_tell_apart() -> None:
    for train, others, words in (
        (["a", "a"], [], "all train rows are of one class, 'a'"),
        (["a", "b"], ["c"], "no class of validation is in train: train has 'a' and 'b', validation has 'c'"),
    ):
        column = column_of(train, others)
        with pytest.raises(UserError, match=words):
            get_task("classification").of_column(column).require_learnable(column)


@pytest.mark.parametrize(
    ("train", "test", "hidden"),
    [
        ([0, 1], [-1, -1], True),
        ([0, 1], [None, None], True),
        (["a", "b"], ["", " "], True),
        ([0.0, 1.0], [math.nan, None], True),
        ([-1, 0, 1], [-1, -1], False),
        ([0, 1], [-1, 0], False),
        ([0, 1], [], False),
    ],
)
def test_labels_that_are_kept_from_us(train, test, hidden) -> None:
    assert get_task("classification").hides(column_of(train, test), "test") is hidden


def test_rows_without_a_label_are_counted() -> None:
    column = column_of(["a", None, " ", "b", None, ""], ["a", None])
    with pytest.raises(UserError) as error:
        column.require_labels()
    assert str(error.value) == (
        "column 'label': no label in 4 of 6 train rows (train row 1, train row 2, train row 4 and 1 more), "
        "and 1 of 2 validation rows (validation row 1), and 1 of 2 test rows (test row 1); fill it in, or "
        "leave such rows out by --bad-rows skip"
    )
    with pytest.raises(UserError, match="no validation row has a label; leave this split out"):
        column_of(["a"], [None]).require_labels()
