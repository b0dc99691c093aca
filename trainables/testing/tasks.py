"""Checks that every task must pass."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from trainables.errors import UserError
from trainables.tasks import Task, get_task, read_task
from trainables.testing.memory import check_predicted_memory_holds_for_a_task

#: Number of samples, and number of outputs per sample if the task leaves the choice.
_ROWS, _OUTPUTS = 6, 3

#: Entries of ``Task.to_dict`` that differ from those of the task of three outputs, to be checked as well.
VARIANTS: dict[str, list[dict[str, Any]]] = {
    "classification": [
        {"class_weights": [0.5, 1.0, 2.0]},
        {"codes": [3, 5, 4], "unseen": ["another"]},
    ],
    "multilabel": [
        {"class_weights": [4.0, 1.0, 2.0], "tunes": True},
        {"classes": ["one"]},
        {"delimiter": "|"},
        {"indicators": True},
        {"codes": [3, 5, 4], "unseen": ["another"]},
    ],
    "regression": [
        {"loss": "l2", "means": [5.0, -1.0, 0.0], "deviations": [1e3, 0.1, 1.0]},
        {"loss": "huber", "means": [0.0], "deviations": [2.0], "range": [-3.0, 3.0]},
        {"means": [0.0], "deviations": [1.0], "range": [-1.0, 1.0]},
    ],
    "retrieval": [
        {"size": 4, "contrast": "margin"},
        {"size": 4, "temperature": 0.05},
    ],
}


#: Names of the keys under which answers list what is likeliest or nearest.
_LISTED = {"probabilities", "ranking", "scores"}


def _accuracy(task: Task, answers: Sequence[Mapping[str, Any]], labels: Tensor) -> dict[str, float]:
    right = [answer["label"] == name for answer, name in zip(answers, task.decode(labels), strict=True)]
    assert all(answer["probabilities"][answer["label"]] == answer["probability"] for answer in answers)
    return {"accuracy": sum(right) / len(right)}


def _tag_accuracy(task: Task, answers: Sequence[Mapping[str, Any]], labels: Tensor) -> dict[str, float]:
    classes: Sequence[str] = task.to_dict()["classes"]
    right = [
        (name in answer["tags"]) == bool(there)
        for answer, row in zip(answers, labels, strict=True)
        for name, there in zip(classes, row, strict=True)
    ]
    return {"tag_accuracy": sum(right) / len(right)}


def _absolute_error(task: Task, answers: Sequence[Mapping[str, Any]], labels: Tensor) -> dict[str, float]:
    values = torch.tensor([answer["value"] for answer in answers], dtype=torch.float64)
    return {"mae": (values.view(labels.shape) - labels).abs().mean().item()}


def _recalls(task: Task, answers: Sequence[Mapping[str, Any]], labels: Tensor) -> dict[str, float]:
    own = [answer["scores"][answer["ranking"].index(row)] for row, answer in enumerate(answers)]
    # What matches as well as the right one ranks before it
    ranks = [sum(score >= right for score in a["scores"]) for a, right in zip(answers, own, strict=True)]
    first = sum(rank == 1 for rank in ranks) / len(ranks)
    return {"r_at_1": first, "mean_rank": sum(ranks) / len(ranks)}


#: What answers to all rows of a split say about a task's metrics, by the name of the task.
_ANSWERED: Mapping[str, Callable[[Task, Sequence[Mapping[str, Any]], Tensor], dict[str, float]]] = {
    "classification": _accuracy,
    "multilabel": _tag_accuracy,
    "regression": _absolute_error,
    "retrieval": _recalls,
}


def task_cases(name: str, outputs: int = _OUTPUTS) -> list[Task]:
    """Return a registered task of some size, and its variants, some of which have a size of their own."""
    made = get_task(name).of_size(outputs)
    described = made.to_dict()
    return [made, *(type(made).from_dict({**described, **changes}) for changes in VARIANTS.get(name, []))]


def check_task(task: Task | str) -> None:
    """Run all checks of a task.

    Args:
        task: A task, or the name of a registered one.

    Raises:
        AssertionError: If a check fails.

    Example:
        >>> check_task("classification")
    """
    for made in task_cases(task) if isinstance(task, str) else [task]:
        check_losses(made)
        check_metrics(made)
        check_tuning(made)
        check_answers(made)
        check_linear(made)
        check_labels(made)
        check_description(made)
        if made.query is None:
            for smoothing in (0.0, 0.1) if made.smooths_labels else (0.0,):
                check_predicted_memory_holds_for_a_task("linear", made, smoothing)


def check_losses(task: Task) -> None:
    """Check that losses are finite scalars, in bfloat16 as well, and that outputs get their gradient."""
    labels = task.example_labels(_ROWS)
    for dtype in (torch.float32, torch.bfloat16):
        taught = task.teaching(_outputs(task, dtype, seed=1))
        assert not taught.requires_grad, "a gradient would reach the model that teaches"
        for name, against in (("loss", labels), ("distillation", taught)):
            outputs = _outputs(task, dtype)
            loss: Tensor = getattr(task, name)(outputs, against)
            assert loss.shape == (), f"{name} is no scalar"
            assert math.isfinite(loss.item()), f"{name} is not finite"
            loss.backward()
            assert outputs.grad is not None, f"{name} has no gradient"
            assert outputs.grad.abs().sum() > 0, f"{name} has a gradient of 0"
    if task.smooths_labels:
        outputs = _outputs(task).detach()
        plain, smoothed = (task.smoothed_loss(outputs, labels, smoothing).item() for smoothing in (0.0, 0.1))
        assert plain == task.loss(outputs, labels).item(), "the loss without smoothing is another one"
        assert math.isfinite(smoothed), "the smoothed loss is not finite"


def check_metrics(task: Task) -> None:
    """Check that ``score`` returns exactly the task's metrics, and ``guess`` no others."""
    names = [metric.name for metric in task.metrics]
    assert names, "there is no metric"
    assert task.metrics[0] == type(task).metrics[0], "the default objective is not that of the class"
    assert set(task.metrics) <= set(type(task).metrics), "the class does not have all metrics"
    assert len(set(names)) == len(names), "a metric is there twice"
    labels = task.example_labels(_ROWS)
    kept = task.kept(_outputs(task).detach(), labels)
    assert kept.shape == (_ROWS, task.kept_size), "what is kept has another shape"
    scores = task.score(kept, labels)
    assert set(scores) == set(names), "score does not return exactly the metrics"
    broken = task.score(task.kept(torch.full((_ROWS, task.output_size), math.nan), labels), labels)
    assert not all(map(math.isfinite, broken.values())), "outputs of NaN get finite scores"
    together = task.drawn_together(labels)
    assert together is None or together.shape == (_ROWS,), "what is drawn together is not one number a row"
    for name in names:
        assert task.value(name, kept, labels) == scores[name]
        each = task.row_values(name, kept, labels)
        if each is not None:
            assert each.shape == (_ROWS,), f"{name} has not one value for each row"
            mean = each.double().mean().item()
            assert math.isclose(mean, scores[name], rel_tol=1e-5, abs_tol=1e-6), (
                f"{name} is no mean of its rows"
            )
        else:
            weights = torch.stack([torch.ones(_ROWS), torch.arange(_ROWS) % 3]).double()
            found = task.resampled_values(name, kept, labels, weights)
            expected = Task.resampled_values(task, name, kept, labels, weights)
            assert found.shape == (2,), f"{name} has not one value for each resample"
            assert torch.allclose(found, expected, rtol=1e-5, atol=1e-6), (
                f"{name} of a resample is not that of its rows"
            )
    guess = task.guess(labels)
    assert set(guess) <= set(names), "guess returns what is no metric"
    for values in (scores, guess):
        assert all(type(value) is float and math.isfinite(value) for value in values.values())
    for metric in task.metrics:
        assert metric.direction in ("minimize", "maximize")
        if metric.worst is None:
            assert metric.name in guess, f"nothing says what the worst {metric.name} is"
        else:
            assert (metric.worst < metric.ideal) is (metric.direction == "maximize")


def check_tuning(task: Task) -> None:
    """Check that tuning to some outputs makes nothing worse on them, and can be stored."""
    labels = task.example_labels(_ROWS)
    kept = task.kept(_outputs(task).detach(), labels)
    tuned = task.tuned(kept, labels)
    assert task.tunes or tuned is task, "it is tuned, though it does not say so"
    metric = task.metrics[0]
    before, after = (made.score(kept, labels)[metric.name] for made in (task, tuned))
    assert before == after or (before < after) is (metric.direction == "maximize"), "tuning makes it worse"
    restored = type(task).from_dict(tuned.to_dict())
    assert restored.score(kept, labels) == tuned.score(kept, labels)


def check_answers(task: Task) -> None:
    """Check that answers are JSON, list no more than they should, and agree with the metrics."""
    labels = task.example_labels(_ROWS)
    outputs = _outputs(task).detach()
    asked = "another"
    if task.query is not None:
        asked = task.query.modality
        outputs = torch.cat([F.normalize(vectors) for vectors in outputs.chunk(2, dim=1)], dim=1)
    present = {modality: torch.ones(_ROWS, dtype=torch.bool) for modality in ("document", asked)}
    kept = task.kept(outputs, labels)
    for made in (task, task.tuned(kept, labels)):
        answers = made.answers(outputs, present)
        assert len(answers) == _ROWS, "there is not one answer for each row"
        assert json.loads(json.dumps(answers, allow_nan=False)) == answers, "answers are not JSON"
        stored = type(task).from_dict(json.loads(json.dumps(made.to_dict())))
        assert stored.answers(outputs, present) == answers, "a stored task answers something else"
        for top in (1, 2):
            expected = [_shortened(answer, top) for answer in answers]
            assert made.answers(outputs, present, top) == expected, f"it does not list the first {top}"
        for row in range(_ROWS) if task.query is None else ():
            (alone,) = made.answers(outputs[row, None], {m: there[:1] for m, there in present.items()})
            assert _rounded(alone) == _rounded(answers[row]), "an answer depends on the other rows"
        scores = made.score(kept, labels)
        for name, value in _ANSWERED.get(task.name, lambda *_: {})(made, answers, labels).items():
            assert math.isclose(value, scores[name], rel_tol=1e-5), f"answers have another {name}"


def _rounded(answer: Mapping[str, Any]) -> Any:
    """Return an answer whose numbers do not show how they were computed."""
    return json.loads(json.dumps(answer), parse_float=lambda text: round(float(text), 6))


def _shortened(answer: Mapping[str, Any], top: int) -> dict[str, Any]:
    """Return an answer whose lists of what fits best have at most ``top`` entries."""
    short = dict(answer)
    for name in _LISTED & answer.keys():
        listed = answer[name]
        short[name] = dict(list(listed.items())[:top]) if isinstance(listed, dict) else listed[:top]
    return short


def check_linear(task: Task) -> None:
    """Check that ``fit_linear`` separates what can be separated, and that its result is always finite."""
    labels = task.example_labels(_ROWS)
    _, which = labels.unique(dim=0, return_inverse=True)
    kinds = int(which.max()) + 1
    features = torch.eye(kinds, dtype=torch.float64)[which]
    # What a query says is predicted, where there is one
    fitted = labels if task.query is None else features.roll(1, dims=1)
    weight, bias = task.fit_linear(features, fitted, 1e-4)
    size = task.output_size if task.query is None else kinds
    assert weight.shape == (size, kinds)
    assert bias.shape == (size,)
    again = task.fit_linear(features, fitted, 1e-4)
    assert torch.equal(weight, again[0]), "fit_linear is not the same at every call"
    assert torch.equal(bias, again[1]), "fit_linear is not the same at every call"
    metric = task.metrics[0]
    for start in (None, (weight, bias)):
        made = task.fit_linear(features, fitted, 1e-4, start)
        outputs = F.linear(features, *made).float()
        if task.query is not None:
            outputs = torch.cat([outputs, fitted.float()], dim=1)
        value = task.score(task.kept(outputs, labels), labels)[metric.name]
        worst = task.guess(labels).get(metric.name, metric.worst)
        assert worst is not None
        halfway = abs(value - metric.ideal) <= abs(worst - metric.ideal) / 2
        assert halfway or kinds == 1, f"fit_linear does not separate: {metric.name} is {value}"
    for values in task.fit_linear(features[:1].expand(2, -1), fitted[:1].repeat_interleave(2, 0), 1.0):
        assert torch.isfinite(values).all(), "fit_linear of rows that are all alike is not finite"


def check_labels(task: Task) -> None:
    """Check that encoding undoes decoding, and that a missing label is refused with its row's number."""
    examples = task.example_labels(_ROWS)
    assert len(examples) == _ROWS
    assert examples.ndim in (1, 2)
    stored = task.decode(examples)
    encoded = task.encode(stored)
    assert encoded.dtype == examples.dtype
    assert torch.equal(encoded, examples), "encode does not undo decode"
    message = None
    try:
        task.encode([*stored, None], "train row", 10)
    except UserError as error:
        message = str(error)
    assert message is not None, "a missing label is taken"
    assert f"train row {10 + _ROWS}" in message, "the message does not name the row"


def check_description(task: Task) -> None:
    """Check that the task can be restored from its stored descriptions."""
    described = task.to_dict()
    assert described["task"] == task.name
    again = type(task).from_dict(described)
    assert again.to_dict() == described
    assert again.output_size == task.output_size
    assert again.loss_kind == task.loss_kind
    assert again.metrics == task.metrics
    assert described.items() >= task.encoding().items()
    if get_task(task.name) is type(task):
        assert read_task(described).to_dict() == described
    sized = type(task).of_size(task.output_size)
    assert sized.output_size == task.output_size
    guess = task.guess(task.example_labels(_ROWS))
    recorded, remembered = type(task).from_record(task.to_record(guess))
    assert recorded.output_size == task.output_size
    assert remembered == guess


def _outputs(task: Task, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(_ROWS, task.output_size, generator=generator).to(dtype).requires_grad_()
