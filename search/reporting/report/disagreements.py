"""Rows on which the members of a front disagree most, with what they hold."""

from __future__ import annotations

import base64
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from search.pictures import opened_picture
from search.reporting.report.classes import split_of, why_no_outputs
from search.reporting.report.data import Value
from search.reporting.report.source import Source
from trainables.data.cells import digest
from trainables.data.kinds import Unreadable
from trainables.data.kinds.image import color_of
from trainables.errors import UserError
from trainables.trial.outputs import kept_rows

#: Number of rows, and how many are looked at for them, because a picture is shown once.
ROWS, _LOOKED_AT = 12, 60
#: Most members whose answers are compared.
_MEMBERS = 12

_LETTERS = 300  # of a text
_SIDE = 160  # of a picture, in pixels
_BYTES = 20_000  # of a picture as the report holds it
_QUALITIES = (85, 70, 50, 30, 10)


def disagreements_of(source: Source, trial_ids: Sequence[str]) -> tuple[dict[str, Any] | None, list[str]]:
    """Return the rows on which trials disagree most, see the report's document, and notes.

    Rows are ordered by the entropy of the answers. Of equal ones, those come first whose probabilities differ
    more; then the first row of the split does.

    Args:
        source: The search.
        trial_ids: The trials: the members of the front, the best in the first objective first.
    """
    what = "rows on which members disagree"
    if source.task.name == "retrieval":
        return None, [f"{what}: a retrieval gives ranks, which depend on all rows"]
    split, there = split_of(source, trial_ids)
    if not there:
        return None, [f"{what}: {why_no_outputs(source)}"]
    if len(there) < 2:
        return None, [f"{what}: it takes two with outputs, and there is one"]
    there = there[:_MEMBERS]
    outputs = {trial_id: source.outputs_of(trial_id, split) for trial_id in there}
    answers = {
        trial_id: [_in_words(answer) for answer in source.tuned(trial_id).answers(found, {}, top=1)]
        for trial_id, found in outputs.items()
        if found is not None
    }
    order = _order(answers, [found for found in outputs.values() if found is not None], source.task.name)
    if not order:
        return None, [f"{what}: there are none"]
    try:
        rows = _shown(source, split, order, answers)
    except UserError as error:
        return None, [f"{what}: {error}"]
    return {"split": split, "rows": rows}, []


def _order(answers: Mapping[str, list[str]], outputs: Sequence[Tensor], task: str) -> list[int]:
    """Return the rows with different answers, those with the most disagreement first."""
    by_row = list(zip(*answers.values(), strict=True))
    each = torch.stack(list(outputs)).double()  # (members, N, K)
    if task == "regression":
        spread = each.std(dim=0).mean(dim=1).numpy()
        return [int(row) for row in np.argsort(-spread, kind="stable") if spread[row] > 0]
    entropy = np.array([_entropy(row) for row in by_row])
    probabilities = each.sigmoid() if task == "multilabel" else each.softmax(dim=2)
    spread = probabilities.var(dim=0).sum(dim=1).numpy()
    order = np.lexsort([np.arange(len(entropy)), -spread, -entropy])
    return [int(row) for row in order if entropy[row] > 0]


def _entropy(answers: Sequence[str]) -> float:
    shares = [count / len(answers) for count in Counter(answers).values()]
    return round(-sum(share * math.log(share) for share in shares), 9)


def _shown(
    source: Source, split: str, order: Sequence[int], answers: Mapping[str, list[str]]
) -> list[dict[str, Any]]:
    """Return the first rows in an order, without those whose picture was there before."""
    labels = source.data.labels(split)
    assert labels is not None
    numbers: NDArray[np.intp] = kept_rows(len(labels), source.task.kept_size)
    some = order[:_LOOKED_AT]
    values = source.data.values(split, [int(numbers[row]) for row in some])
    truth = source.task.decode(labels[torch.from_numpy(numbers[np.array(some)])])
    background = tuple(color_of(source.data.background))
    found: list[dict[str, Any]] = []
    seen: set[bytes] = set()
    for row, of_row, label in zip(some, values, truth, strict=True):
        pictures = {digest(v.content) for v in of_row.values() if v.kind == "image" and v.content}
        if pictures & seen:
            continue
        seen |= pictures
        found.append(
            {
                "row": int(numbers[row]),
                "values": {modality: _value(value, background) for modality, value in of_row.items()},
                "truth": _label(label),
                "answers": {trial_id: of_trial[row] for trial_id, of_trial in answers.items()},
            }
        )
        if len(found) == ROWS:
            break
    return found


def _in_words(answer: Mapping[str, Any]) -> str:
    """Return an answer of a task as a text."""
    return _label(next(answer[key] for key in ("label", "tags", "value") if key in answer))


def _label(label: Any) -> str:
    if isinstance(label, list | tuple):
        return ", ".join(map(_label, label)) or "(no tags)"
    return f"{label:.4g}" if isinstance(label, float) else str(label)


def _value(value: Value, background: tuple[int, ...]) -> dict[str, str] | None:
    """Return a value of a row as the report shows it; None if it is missing."""
    content = value.content
    if content is None:
        return None
    if isinstance(content, Unreadable):
        return {"note": f"cannot be read: {content.reason}"}
    if isinstance(content, str):
        return {"text": content if len(content) <= _LETTERS else f"{content[: _LETTERS - 1]}…"}
    if isinstance(content, np.ndarray):
        return {"note": f"features of shape {' x '.join(map(str, content.shape))}"}
    if value.kind != "image":
        return {"note": f"{value.kind} of {len(content):,} bytes"}
    return _thumbnail(content, background)


def _thumbnail(content: bytes, background: tuple[int, ...]) -> dict[str, str]:
    """Return a small picture as the address of a page's image."""
    picture = opened_picture(content, background, _SIDE)
    if picture is None:
        return {"note": "a picture that cannot be read"}
    address = ""
    for quality in _QUALITIES:
        file = BytesIO()
        picture.save(file, "JPEG", quality=quality, optimize=True)
        address = f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
        if len(address) <= _BYTES:
            break
    return {"picture": address}
