"""Folds of the included data, each a dataset of its own, so that every row is tested once."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

SPLITS = ("train", "validation", "test")


def split_of_folds(folds: int, tested: int) -> list[str]:
    """Return the split that each fold belongs to: one is tested, the next one validates, the others train."""
    names = ["train"] * folds
    names[tested], names[(tested + 1) % folds] = "test", "validation"
    return names


def linked_rows(*columns: Sequence[object]) -> np.ndarray:
    """Return a number for each row; rows that share a value of a column have the same, and so on."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    rows = len(columns[0])
    nodes: dict[object, int] = {}
    edges = [
        (row, nodes.setdefault((number, value), rows + len(nodes)))
        for number, column in enumerate(columns)
        for row, value in enumerate(column)
    ]
    shape = (rows + len(nodes), rows + len(nodes))
    graph = coo_array((np.ones(len(edges)), np.array(edges).T), shape=shape)
    return np.asarray(connected_components(graph, directed=False)[1][:rows])


def fold_of_rows(groups: np.ndarray, labels: Sequence[str], folds: int, seed: int = 0) -> np.ndarray:
    """Return the fold of each row. Rows of a group are in one fold; classes are as frequent in all of them.

    Args:
        groups: A number for each row; rows with equal numbers stay together.
        labels: The rows' classes.
        folds: Number of folds.
        seed: Seed of the order in which groups are dealt out.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    fold = np.empty(len(labels), dtype=int)
    for number, (_, rows) in enumerate(splitter.split(np.zeros(len(labels)), labels, groups)):
        fold[rows] = number
    return fold


def write_folds(folder: Path, folds: int, name: str = "openclipart") -> list[Path]:
    """Write one dataset for each fold of all rows of an included dataset, in which that fold is tested.

    Rows with an equal value of a modality are in one fold.

    Args:
        folder: Where to write them. What is there already stays.
        folds: Number of folds.
        name: Name of the dataset.

    Returns:
        The datasets' folders.
    """
    from trainables.data import open_dataset

    dataset = open_dataset(name)
    seen = [modality.column for modality in dataset.modalities.values()]
    labeled = dataset.task.has_labels
    columns = [*seen, dataset.label] if labeled else seen
    rows = pa.Table.from_batches([b for split in SPLITS for b in dataset.batches(split, columns)])
    groups = linked_rows(*([_comparable(value) for value in rows[column].to_pylist()] for column in seen))
    labels = rows[dataset.label].to_pylist() if labeled else [""] * len(rows)
    fold = fold_of_rows(groups, _strata(labels), folds)
    key = hashlib.sha256(dataset.fingerprint.encode() + fold.tobytes()).hexdigest()[:12]
    written = []
    for tested in range(folds):
        names = np.array(split_of_folds(folds, tested))[fold]
        parts = {split: rows.filter(pa.array(names == split)) for split in SPLITS}
        written.append(_write(folder / f"{name}-{key}-{tested}", parts, dataset.metadata))
    return written


def _comparable(value: object) -> object:
    """Return a value that equals those of all equal contents."""
    if isinstance(value, str):
        return " ".join(value.casefold().split())
    return tuple(value) if isinstance(value, list) else value


def _strata(labels: Sequence[Any]) -> list[str]:
    """Return what is as frequent in all folds: classes, or the rarest tag of each row; numbers are not."""
    if not isinstance(labels[0], list):
        return list(map(str, labels))
    counts = Counter(tag for own in labels for tag in own)
    tags = isinstance(labels[0][0], str)
    return [min(own, key=lambda tag: (counts[tag], tag), default="") if tags else "" for own in labels]


def matched_folds(folders: Sequence[Path]) -> list[Path]:
    """Write for each fold the dataset of matching and wrong pairs of its rows; return their folders."""
    from trainables.data import open_dataset
    from trainables.data.matching import matched_dataset

    written = []
    for folder in folders:
        dataset = matched_dataset(open_dataset(str(folder)), k=1, seed=0)
        columns = ["text", "image", "label"]
        parts = {s: pa.Table.from_batches(list(dataset.batches(s, columns))) for s in SPLITS}
        written.append(_write(folder.with_name(f"match-{folder.name}"), parts, dataset.metadata))
    return written


def _write(folder: Path, parts: Mapping[str, pa.Table], metadata: Mapping[str, str]) -> Path:
    """Write the splits of a dataset that are not there yet; return its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, rows in parts.items():
        file = folder / f"{split}.parquet"
        if not file.exists():
            pq.write_table(rows.replace_schema_metadata(dict(metadata)), folder / f".{split}.partial")
            (folder / f".{split}.partial").rename(file)
    return folder
