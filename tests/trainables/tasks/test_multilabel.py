from __future__ import annotations

import math

import pyarrow as pa
import pytest
import torch

from tests.tasks import column_of, task_of
from trainables.errors import UserError
from trainables.tasks import Task, get_task
from trainables.testing.tasks import check_task

LABELS = torch.tensor([[1, 1, 0], [1, 0, 0], [0, 1, 0], [0, 0, 0]], dtype=torch.uint8)
LOGITS = torch.tensor([[2.0, 1.0, -1.0], [1.0, -3.0, -1.0], [3.0, -1.0, -1.0], [-1.0, -2.0, -1.0]])


def tags(count: int = 3) -> Task:
    return get_task("multilabel").of_size(count)


def tuning(count: int = 3) -> Task:
    return get_task("multilabel").from_dict({**tags(count).to_dict(), "tunes": True})


def test_metrics_by_hand() -> None:
    scores = tags().score(LOGITS, LABELS)
    # Tag 0: 2 hits, 1 false, F1 4/5. Tag 1: 1 hit, 1 missed, F1 2/3. Tag 2 neither occurs nor is predicted
    assert scores["macro_f1"] == pytest.approx((4 / 5 + 2 / 3 + 0) / 3)
    assert scores["micro_f1"] == pytest.approx(2 * 3 / (2 * 3 + 1 + 1))
    # Tag 0 ranks its rows 2nd and 3rd: (1/2 + 2/3) / 2. Tag 1 ranks its rows first; tag 2 does not occur
    assert scores["map"] == pytest.approx(((1 / 2 + 2 / 3) / 2 + 1) / 2)
    each = [
        math.log(1 + math.exp(-x if y else x)) for x, y in zip(LOGITS.ravel(), LABELS.ravel(), strict=True)
    ]
    assert scores["loss"] == pytest.approx(sum(each) / 12)
    assert tags().loss(LOGITS, LABELS).item() == pytest.approx(sum(each) / 12)


def test_tags_as_questions_by_hand() -> None:
    scores = tags().score(LOGITS, LABELS)
    assert scores["tag_accuracy"] == pytest.approx(10 / 12)  # one wrong yes, one wrong no
    # Tag 0, yes and no: F1 4/5 and 2/3 for two rows each. Tag 1: 2/3 and 4/5. Tag 2: all are rightly no
    assert scores["tag_weighted_f1"] == pytest.approx((11 / 15 + 11 / 15 + 1) / 3)
    guess = tags().guess(LABELS)
    assert guess["tag_accuracy"] == pytest.approx((1 / 2 + 1 / 2 + 1) / 3)
    assert guess["tag_weighted_f1"] == pytest.approx((1 / 3 + 1 / 3 + 1) / 3)  # yes for all: 1/2 of F1 2/3


def test_one_tag_is_no_pair_of_classes() -> None:
    scores = tags(1).score(LOGITS[:, :1], LABELS[:, :1])
    assert scores["macro_f1"] == scores["micro_f1"] == pytest.approx(4 / 5)


def test_tuned_thresholds_separate_what_a_half_does_not() -> None:
    tuned = tuning().tuned(LOGITS, LABELS)
    # Tag 0: from the output 1 on, as before. Tag 1: between -1 and -2. Tag 2 has nothing to tune
    assert tuned.to_dict()["thresholds"] == pytest.approx([0.0, -1.5, 0.0])
    assert tuned.score(LOGITS, LABELS)["macro_f1"] == pytest.approx((4 / 5 + 1 + 0) / 3)
    other = LOGITS + torch.tensor([0.0, -1.0, 0.0])  # what was tuned holds for other outputs
    assert tuned.score(other, LABELS)["macro_f1"] == pytest.approx((4 / 5 + 2 / 3 + 0) / 3)
    assert tags().tuned(LOGITS, LABELS) == tags()


def test_guessing_by_hand() -> None:
    guess = tags().guess(LABELS)
    assert guess["macro_f1"] == pytest.approx((2 / 3 + 2 / 3 + 0) / 3)  # two tags of a half each
    assert guess["micro_f1"] == pytest.approx(2 * 4 / (8 + 4))  # predicting both for all: 4 of 8 are right
    assert guess["map"] == pytest.approx(0.5)
    assert guess["loss"] == pytest.approx((math.log(2) + math.log(2) + 0) / 3)


def test_samples_with_a_rare_tag_weigh_more() -> None:
    task = task_of([["a"], ["a", "b"], [], ["a"]], class_weights="inverse")
    assert task.to_dict()["class_weights"] == pytest.approx([4 / 3, 4])
    missed = task.loss(torch.zeros(1, 2), torch.tensor([[0, 1]], dtype=torch.uint8))
    assert missed.item() == pytest.approx((math.log(2) + 4 * math.log(2)) / 2)


@pytest.mark.parametrize(
    ("stored", "metadata"),
    [
        ([["b", "a"], [], ["a"]], {}),
        (pa.array([["b", "a"], [], ["a"]], pa.large_list(pa.dictionary(pa.int8(), pa.string()))), {}),
        (["b| a", "", "a"], {"delimiter": "|"}),
        (pa.array([[1, 1], [0, 0], [1, 0]], pa.list_(pa.int8(), 2)), {"classes": ["a", "b"]}),
        ([[True, True], [False, False], [True, False]], {"classes": ["a", "b"]}),
    ],
    ids=["lists", "dictionary", "texts", "integers", "booleans"],
)
def test_forms_of_labels(stored, metadata) -> None:
    task = task_of(stored, metadata=metadata)
    assert task.name == "multilabel"
    assert task.encode(pa.array(stored).to_pylist()).tolist() == [[1, 1], [0, 0], [1, 0]]
    assert task.to_dict()["classes"] == ["a", "b"]
    check_task(task)


def test_vectors_without_names_are_numbered() -> None:
    assert task_of([[0, 1, 1], [1, 0, 0]]).to_dict()["classes"] == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("labels", "classes", "encoded"),
    [
        ([[100, 7], [], [7]], ["7", "100"], [[1, 1], [0, 0], [1, 0]]),
        ([[0, 1], [0], []], ["0", "1"], [[1, 1], [1, 0], [0, 0]]),
        ([[0, 1, 1], [1, 0, 0], []], ["0", "1", "2"], [[0, 1, 1], [1, 0, 0], [0, 0, 0]]),
        ([[0.0, 1.0], [1.0, 1.0]], ["0", "1"], [[0, 1], [1, 1]]),
        ([["b ", "a", "b"], ["a"]], ["a", "b"], [[1, 1], [1, 0]]),
        (pa.array([["b"], ["a"]], pa.list_(pa.string_view())), ["a", "b"], [[0, 1], [1, 0]]),
    ],
    ids=str,
)
def test_lists_are_of_tags_or_of_1_and_0(labels, classes, encoded) -> None:
    task = task_of(labels)
    assert task.to_dict()["classes"] == classes
    assert task.encode(pa.array(labels).to_pylist()).tolist() == encoded
    check_task(task)


@pytest.mark.parametrize(
    ("labels", "encoded"),
    [([[2], [0, 1], []], [[0, 0, 1], [1, 1, 0], [0, 0, 0]]), ([[0], [1]], [[1, 0, 0], [0, 1, 0]])],
)
def test_numbers_are_indices_of_stated_tags(labels, encoded) -> None:
    task = task_of(labels, metadata={"classes": ["a", "b", "c"]})
    assert task.encode(labels).tolist() == encoded


def test_the_user_says_what_stands_between_tags() -> None:
    labels = ["Drama|Comedy", "Drama", "Comedy", "Drama|War", "War"]
    column = column_of(labels)
    assert get_task("classification").of_column(column).remarks(column) == [
        "'Drama|Comedy' is taken as one class; if '|' stands between tags, add --tag-delimiter '|'"
    ]
    assert task_of(labels, tag_delimiter="|").to_dict()["classes"] == ["Comedy", "Drama", "War"]
    assert task_of(labels, tag_delimiter="|", metadata={"delimiter": ";"}).output_size == 3
    with pytest.raises(UserError, match=r"schema key paretofuse\.delimiter is 3; write a text"):
        task_of(labels, metadata={"delimiter": 3})
    column = column_of(["Washington, D.C.", "Paris"])
    assert not get_task("classification").of_column(column).remarks(column)


def test_tags_that_train_lacks_are_left_out_and_said() -> None:
    column = column_of([["a", "a"], ["b"]], [["c", "a"], ["c"]])
    task = get_task("multilabel").of_column(column)
    assert task.to_dict()["classes"] == ["a", "b"]
    assert task.encode([["c", "a"], ["c"]]).tolist() == [[1, 0], [0, 0]]
    assert task.remarks(column) == [
        "train: 1 row has a tag twice, which counts once",
        "validation: a tag is in no train row ('c', 2 times); not scored",
        "test: a tag is in no train row ('c', 2 times); not scored",
    ]
    check_task(task)
    column = column_of([["a"], ["b"]], [["c"]])
    with pytest.raises(UserError, match="no tag of validation is in train"):
        get_task("multilabel").of_column(column).require_learnable(column)
    assert get_task("multilabel").hides(column_of([["a"]], [[], []]), "test")


@pytest.mark.parametrize(
    ("stored", "words"),
    [
        ([[], []], "has no tags"),
        (
            [["a"], ["b", None], ["b", ""]],
            r"2 train rows have a list with an empty tag \(train row 1 and train row 2",
        ),
        ([["a"], ["A"]], "differ only by case"),
        (
            [[1, 0, 1], [1, 0]],
            r"lists of 1 and 0 must have one length; there are lists of 2 \(train row 1\), 3",
        ),
        ([[True], [True, False]], "lists of 1 and 0 must have one length"),
        ([[1, 0, 2], [0, 0, 1]], "lists of 3 numbers, 1 of which have one twice"),
        ([[0.5], [1.0]], "has fractions, no tags"),
        (["a|b"], "has texts; say what stands between two tags, e.g. --tag-delimiter"),
    ],
    ids=str,
)
def test_columns_that_are_refused(stored, words) -> None:
    with pytest.raises(UserError, match=words):
        task_of(stored, task="multilabel")


def test_labels_that_are_refused() -> None:
    for indicators, value, words in (
        (False, ["a", "x"], "tag 'x' is none of the 3 tags"),
        (True, [1, 0], r"label \[1, 0\] is not a 1 or 0 for each of 3 tags"),
        (True, [1, 0, 2], r"label \[1, 0, 2\] is not a 1 or 0 for each of 3 tags"),
        (False, None, "the label is missing; a row without tags has an empty list"),
    ):
        task = get_task("multilabel").from_dict({"classes": ["a", "b", "c"], "indicators": indicators})
        with pytest.raises(UserError, match=f"test row 8: {words}"):
            task.encode([[], value], "test row", 7)


def test_answers_are_the_tags_above_their_thresholds() -> None:
    described = {"classes": ["a", "b", "c"], "thresholds": [1.0, 0.0, -2.0]}
    outputs = torch.tensor([[0.5, 0.0, -1.0], [-1.0, -1.0, -3.0], [2.0, 1.0, 3.0]])
    for stored in ({}, {"delimiter": "|"}, {"indicators": True}, {"codes": [7, 8, 9]}):
        first, second, third = get_task("multilabel").from_dict({**described, **stored}).answers(outputs, {})
        assert first["tags"] == ["b", "c"]
        assert second["tags"] == []
        assert third["tags"] == ["a", "b", "c"]
        assert [*first["probabilities"]] == ["a", "b", "c"]  # likelier than "b", but it takes more
        assert third["probabilities"] == pytest.approx({"c": 0.953, "a": 0.881, "b": 0.731}, abs=1e-3)
    untuned = get_task("multilabel").from_dict({"classes": ["a", "b", "c"]})
    assert untuned.answers(outputs, {}, top=1)[0] == {
        "tags": ["a", "b"],
        "probabilities": {"a": pytest.approx(0.622, abs=1e-3)},
    }
