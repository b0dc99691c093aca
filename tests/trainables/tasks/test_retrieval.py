"""Retrieval, against figures worked out by hand."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from trainables.tasks import retrieval
from trainables.tasks.retrieval import Retrieval

#: Queries 0 and 2 of the rows are one text, which has two documents.
LABELS = torch.tensor([[0, 0], [1, 1], [0, 2], [2, 3]])
#: How well the queries (rows) match the documents.
MATCH = torch.tensor([[0.1, 0.9, 0.5, 0.3], [0.2, 0.4, 0.6, 0.8], [0.5, 0.5, 0.5, 0.5]])


def outputs_of(match: Tensor, labels: Tensor) -> Tensor:
    """Return outputs (N, 2 E) of rows whose queries and documents match so; E is the number of documents."""
    documents = torch.eye(match.shape[1])
    return torch.cat([documents[labels[:, 1]], match[labels[:, 0]]], dim=1)


def test_ranks() -> None:
    task = Retrieval("text", 4)
    kept = task.kept(outputs_of(MATCH, LABELS), LABELS)
    # Query 0: 0.5 is its best right one, and 0.9 is before it. 1: 0.6 and 0.8 are. 2: all that match equally.
    # Document 0: of 0.1, 0.2, 0.5 the first is right. 1: 0.9, 0.4, 0.5, the second. 2: 0.5, 0.6, 0.5, the
    # first. 3: 0.3, 0.8, 0.5, the last.
    assert kept.tolist() == [[2, 3], [3, 3], [2, 3], [4, 2]]
    scores = task.score(kept, LABELS)
    assert scores == {
        "r_at_1": 0.0,
        "r_at_5": 1.0,
        "r_at_10": 1.0,
        "median_rank": 2.5,
        "mean_rank": 2.75,
        "reverse_r_at_1": 0.0,
        "reverse_r_at_5": 1.0,
        "reverse_r_at_10": 1.0,
        "reverse_median_rank": 3.0,
        "reverse_mean_rank": 2.75,
    }
    best = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    pairs = torch.tensor([[0, 0], [1, 1]])
    assert task.score(task.kept(outputs_of(best, pairs), pairs), pairs)["r_at_1"] == 1.0


def test_a_repeated_document_takes_one_place() -> None:
    labels = torch.tensor([[0, 0], [1, 0], [2, 0], [3, 1]])
    match = torch.tensor([[0.9, 0.1], [0.9, 0.1], [0.9, 0.1], [0.9, 0.1]])
    ranks = Retrieval("text", 2).kept(outputs_of(match, labels), labels)
    assert ranks[:, 0].tolist() == [1, 1, 1, 2]  # not 4: the three rows before are one document


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    task = Retrieval("text", 4)
    labels = torch.randint(0, 30, (60, 2), generator=torch.Generator().manual_seed(0))
    outputs = torch.randn(60, 8, generator=torch.Generator().manual_seed(1))
    _, first = np.unique(labels[:, 1], return_index=True)
    whole = task.kept(outputs, labels)
    monkeypatch.setattr(retrieval, "_AT_ONCE", 7 * len(first))
    assert torch.equal(task.kept(outputs, labels), whole)


def test_a_match_that_is_no_number_gives_no_rank() -> None:
    outputs = outputs_of(MATCH, LABELS)
    outputs[1, 4:] = torch.nan
    ranks = Retrieval("text", 4).kept(outputs, LABELS)
    assert ranks[:, 0].isnan().tolist() == [False, True, False, False]
    assert ranks[:, 1].isnan().all()


def test_guess_is_the_mean_over_all_orders() -> None:
    task = Retrieval("text", 4)
    orders = list(itertools.permutations(range(4)))
    ranks = torch.tensor(
        [
            [1 + min(order.index(document) for document in right) for order in orders]
            for right in ([0, 2], [1], [0, 2], [3])
        ],
        dtype=torch.float64,
    )
    guess = task.guess(LABELS)
    assert guess["r_at_1"] == pytest.approx((ranks <= 1).double().mean().item())
    assert guess["mean_rank"] == pytest.approx(ranks.mean().item())
    assert guess["median_rank"] == pytest.approx(np.median([5 / 3, 5 / 2, 5 / 3, 5 / 2]))
    assert guess["r_at_5"] == guess["reverse_r_at_5"] == 1.0
    assert guess["reverse_r_at_1"] == pytest.approx(1 / 3)
    many = torch.arange(1000)[:, None].expand(-1, 2)
    assert task.guess(many)["r_at_10"] == pytest.approx(0.01)


def test_infonce() -> None:
    labels = torch.tensor([[0, 0], [1, 1]])
    outputs = outputs_of(torch.tensor([[0.8, 0.2], [0.5, 0.6]]), labels)

    def expected(temperature: float) -> float:
        a, b, c, d = (value / temperature for value in (0.8, 0.2, 0.5, 0.6))
        right = [math.log1p(math.exp(wrong - own)) for own, wrong in ((a, b), (d, c), (a, c), (d, b))]
        return sum(right) / 4

    # With a learnt temperature, the documents' lengths contain it
    assert Retrieval("text", 2).loss(outputs, labels).item() == pytest.approx(expected(1.0))
    assert Retrieval("text", 2, temperature=0.05).loss(outputs, labels).item() == pytest.approx(
        expected(0.05)
    )


def test_margin() -> None:
    labels = torch.tensor([[0, 0], [1, 1]])
    outputs = outputs_of(torch.tensor([[0.8, 0.2], [0.5, 0.6]]), labels)
    # Right are 0.8 and 0.6. 0.5 is less than 0.2 below 0.6 only.
    assert Retrieval("text", 2, "margin", margin=0.2).loss(outputs, labels).item() == pytest.approx(0.1 / 4)
    assert Retrieval("text", 2, "margin", margin=0.05).loss(outputs, labels).item() == 0


@pytest.mark.parametrize("contrast", ["infonce", "margin"])
def test_equal_queries_are_not_told_apart(contrast: str) -> None:
    task = Retrieval("text", 4, contrast, margin=1.0)
    match = torch.tensor([[0.1, 0.9, 0.5, 0.3], [0.2, 0.4, 0.6, 0.8], [0.5, 0.3, 0.5, 0.5]])
    outputs = outputs_of(match, LABELS)
    assert task.loss(outputs[[0, 2]], LABELS[[0, 2]]).item() == 0  # there is no wrong pair
    assert task.loss(outputs[[0, 1]], LABELS[[0, 1]]).item() > 0


def test_the_linear_model_is_a_ridge_regression() -> None:
    generator = torch.Generator().manual_seed(0)
    features, queries = (torch.randn(50, n, generator=generator, dtype=torch.float64) for n in (4, 3))
    weight, bias = Retrieval("text", 2).fit_linear(features, queries, 0.1)
    centered, target = features - features.mean(0), queries - queries.mean(0)
    penalty = 0.1 * 50 * torch.eye(4, dtype=torch.float64)
    by_hand = torch.linalg.solve(centered.T @ centered + penalty, centered.T @ target).T
    torch.testing.assert_close(weight, by_hand)
    torch.testing.assert_close(features.mean(0) @ weight.T + bias, queries.mean(0))


def test_a_bootstrap_of_ranks_keeps_the_gallery() -> None:
    task = Retrieval("text", 4)
    kept = task.kept(outputs_of(MATCH, LABELS), LABELS)
    rows = torch.tensor([0, 0, 1, 3])
    assert task.value("median_rank", kept[rows], LABELS[rows]) == np.median([2, 2, 3, 4])
    values = task.row_values("r_at_1", kept, LABELS)
    assert values is not None
    assert values.tolist() == [0, 0, 0, 0]
    assert task.row_values("median_rank", kept, LABELS) is None


class TestAnswers:
    task = Retrieval("text", 4)
    #: Four rows: the first lacks the query, the second has no document.
    present = {
        "text": torch.tensor([False, True, True, True]),
        "image": torch.tensor([True, False, True, False]),
        "audio": torch.tensor([False, False, False, True]),
    }
    labels = torch.tensor([[0, 0], [0, 1], [1, 2], [2, 3]])

    def test_rank_the_documents_of_the_call(self) -> None:
        outputs = outputs_of(MATCH, self.labels)
        nothing, first, second, third = self.task.answers(outputs, self.present)
        assert nothing == {"ranking": None, "scores": None}
        assert first["ranking"] == [2, 3, 0]
        assert second["ranking"] == [3, 2, 0]
        assert third["ranking"] == [0, 2, 3]  # all match equally
        length = math.sqrt(0.1**2 + 0.9**2 + 0.5**2 + 0.3**2)
        assert first["scores"] == pytest.approx([0.5 / length, 0.3 / length, 0.1 / length])
        assert self.task.answers(outputs, self.present, top=1)[2]["ranking"] == [3]

    def test_scores_are_cosines_whatever_the_temperature(self) -> None:
        outputs = outputs_of(MATCH, self.labels)
        scaled = torch.cat([outputs[:, :4] * 100, outputs[:, 4:]], dim=1)
        for plain, other in zip(
            self.task.answers(outputs, self.present), self.task.answers(scaled, self.present), strict=True
        ):
            assert plain["ranking"] == other["ranking"]
            assert plain["scores"] == (other["scores"] and pytest.approx(other["scores"]))

    def test_without_queries_or_documents_there_is_nothing_to_rank(self) -> None:
        outputs = outputs_of(MATCH, self.labels)
        nobody = torch.zeros(4, dtype=torch.bool)
        unasked = self.task.answers(outputs, {**self.present, "text": nobody})
        assert unasked == [{"ranking": None, "scores": None}] * 4
        none = self.task.answers(outputs, {"text": ~nobody, "image": nobody})
        assert none == [{"ranking": [], "scores": []}] * 4

    def test_blocks_change_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        whole = self.task.answers(outputs_of(MATCH, self.labels), self.present)
        monkeypatch.setattr(retrieval, "_AT_ONCE", 3)
        assert self.task.answers(outputs_of(MATCH, self.labels), self.present) == whole
