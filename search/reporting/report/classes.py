"""How members of a front do on each class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from search.reporting.report.source import Source
from trainables.tasks import Task

#: Most classes that are shown; with more, the last one stands for all but the most frequent.
MOST = 30
OTHERS = "others"


def split_of(source: Source, trial_ids: Sequence[str]) -> tuple[str, list[str]]:
    """Return the split on which members are looked at, and those members whose outputs it has.

    It is the test split if any member has outputs for it.
    """
    for split in ("test", "validation"):
        labels = source.data.kept_labels(split)
        there = [] if labels is None else [t for t in trial_ids if source.outputs_of(t, split) is not None]
        if there:
            return split, there
    return "validation", []


def classes_of(source: Source, trial_ids: Sequence[str]) -> tuple[dict[str, Any] | None, list[str]]:
    """Return the results of trials by class, see the report's document, and notes.

    Args:
        source: The search.
        trial_ids: The trials, the members of the front among them.
    """
    if source.task.name not in ("classification", "multilabel"):
        return None, [f"results by class: a {source.task.name} has none"]
    split, there = split_of(source, trial_ids)
    if not there:
        return None, [f"results by class: {why_no_outputs(source)}"]
    truth = source.data.kept_labels(split)
    assert truth is not None
    members = {}
    names = [*getattr(source.task, "classes", ()), *getattr(source.task, "unseen", ())]
    for trial_id in there:
        outputs = source.outputs_of(trial_id, split)
        assert outputs is not None
        if source.task.name == "multilabel":
            names = names[: source.task.output_size]
            members[trial_id] = _of_tags(names, truth, source.tuned(trial_id), outputs)
        else:
            members[trial_id] = _of_classes(names, truth, outputs)
    shown = [row["name"] for row in next(iter(members.values()))["per_class"]]
    notes = []
    if len(names) > MOST:
        notes.append(
            f"results by class: the {MOST - 1} most frequent of {len(names):,} classes; '{OTHERS}' has the "
            "means of the rest"
        )
    return {"split": split, "names": shown, "members": members}, notes


def why_no_outputs(source: Source) -> str:
    """Return why there are no outputs that can be compared with labels, in words."""
    return source.data.lacking or "no member has outputs, which trials give when they finish"


def _of_classes(names: Sequence[str], truth: Tensor, outputs: Tensor) -> dict[str, Any]:
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support  # takes a while to import

    labels, predicted = truth.numpy(), outputs.argmax(dim=1).numpy()
    indices = list(range(len(names)))
    scores = precision_recall_fscore_support(labels, predicted, labels=indices, zero_division=0)
    chosen = _most_frequent(scores[3])
    place = np.full(len(names), len(chosen))
    place[chosen] = np.arange(len(chosen))
    size = len(chosen) + (len(chosen) < len(names))
    matrix = confusion_matrix(place[labels], place[predicted], labels=list(range(size)))
    return {"per_class": _per_class(names, chosen, scores), "confusion": matrix.tolist()}


def _of_tags(names: Sequence[str], truth: Tensor, task: Task, outputs: Tensor) -> dict[str, Any]:
    from sklearn.metrics import precision_recall_fscore_support  # takes a while to import

    tags = task.answers(outputs, {}, top=1)
    index = {name: number for number, name in enumerate(names)}
    predicted = np.zeros(truth.shape, dtype=np.uint8)
    for row, answer in enumerate(tags):
        predicted[row, [index[tag] for tag in answer["tags"]]] = 1
    each = [
        precision_recall_fscore_support(truth[:, n].numpy(), predicted[:, n], labels=[1], zero_division=0)
        for n in range(len(names))
    ]
    scores = tuple(np.array([part[number][0] for part in each]) for number in range(4))
    return {"per_class": _per_class(names, _most_frequent(scores[3]), scores), "confusion": None}


def _most_frequent(rows: NDArray[Any]) -> list[int]:
    """Return the classes to show by themselves, the most frequent first if there are too many."""
    if len(rows) <= MOST:
        return list(range(len(rows)))
    return np.argsort(-rows, kind="stable")[: MOST - 1].tolist()


def _per_class(
    names: Sequence[str], chosen: Sequence[int], scores: Sequence[NDArray[Any]]
) -> list[dict[str, Any]]:
    precision, recall, f1, rows = scores
    found = [
        {
            "name": str(names[number]),
            "rows": int(rows[number]),
            "precision": float(precision[number]),
            "recall": float(recall[number]),
            "f1": float(f1[number]),
        }
        for number in chosen
    ]
    rest = [number for number in range(len(names)) if number not in {*chosen}]
    if rest:
        means = {"precision": precision, "recall": recall, "f1": f1}
        mean = {name: float(values[rest].mean()) for name, values in means.items()}
        found.append({"name": OTHERS, "rows": int(rows[rest].sum()), **mean})
    return found
