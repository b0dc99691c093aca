"""The linear model is scikit-learn's, and its strength is chosen on the validation split."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from tests.tasks import classification
from trainables.probe import STRENGTHS, solve_linear


def rows(n: int, classes: int = 3, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Classes that overlap, in columns of different means and scales; the last column is constant."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % classes
    centers = torch.randn(classes, 6, generator=torch.Generator().manual_seed(9))
    features = centers[labels] + torch.randn(n, 6, generator=generator) * 1.5
    features = features * torch.logspace(-3, 3, 6) + torch.arange(6) * 10
    return torch.cat([features, torch.full((n, 1), 0.1)], dim=1), labels


@pytest.mark.parametrize("classes", [2, 3])
def test_predictions_are_those_of_scikit_learn(classes) -> None:
    train, validation = rows(120, classes), rows(60, classes, seed=1)
    for strength in (STRENGTHS[0], 0.1, STRENGTHS[-1]):
        solution = solve_linear(classification(classes), train, validation, [strength])
        plain = make_pipeline(StandardScaler(), LogisticRegression(C=1 / (strength * 120), max_iter=1000))
        plain.fit(train[0].double().numpy(), train[1].numpy())
        outputs = solution.outputs(validation[0])
        expected = plain.predict_proba(validation[0].double().numpy())
        np.testing.assert_allclose(outputs.softmax(dim=1).numpy(), expected, atol=1e-3)
        assert solution.metrics == classification(classes).score(outputs, validation[1])
        assert solution.weight.dtype == solution.bias.dtype == torch.float32


def test_the_best_strength_on_validation_is_taken_and_the_strongest_of_equals() -> None:
    task, train, validation = classification(3), rows(60), rows(60, seed=1)
    each = {s: solve_linear(task, train, validation, [s]).metrics["accuracy"] for s in STRENGTHS}
    assert len(set(each.values())) > 1
    best = max(s for s in STRENGTHS if each[s] == max(each.values()))
    solution = solve_linear(task, train, validation)
    assert solution.strength == best
    assert solution.metrics["accuracy"] == each[best]


def test_a_class_without_training_rows_is_never_predicted() -> None:
    features, labels = rows(90)
    for others in ([1], [0, 2]):
        kept = torch.isin(labels, torch.tensor(others))
        solution = solve_linear(classification(3), (features[kept], labels[kept]), (features, labels))
        assert solution.weight.shape == (3, 7)
        assert set(solution.outputs(features).argmax(dim=1).tolist()) <= set(others)
        assert solution.metrics["loss"] < 30


def test_a_column_that_hardly_varies_gets_no_weight() -> None:
    train, validation = rows(120), rows(60, seed=1)
    dead = [torch.randn(len(labels), 1) * 1e-33 for _, labels in (train, validation)]
    with_it = [
        (torch.cat([features, column], dim=1), labels)
        for (features, labels), column in zip((train, validation), dead, strict=True)
    ]
    solution = solve_linear(classification(3), *with_it)
    assert solution.weight[:, -1].abs().max() < 1e-6
    plain = solve_linear(classification(3), train, validation)
    torch.testing.assert_close(solution.weight[:, :-1], plain.weight)
