"""Folds of the included data, each a dataset of its own, so that every row is tested once."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

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


def write_folds(folder: Path, folds: int) -> list[Path]:
    """Write one dataset for each fold of all rows of the included drawings, in which that fold is tested.

    Args:
        folder: Where to write them. What is there already stays.
        folds: Number of folds.

    Returns:
        The datasets' folders.
    """
    from trainables.data import open_dataset

    dataset = open_dataset("openclipart")
    batches = [b for split in SPLITS for b in dataset.batches(split, ["text", "image", "label"])]
    rows = pa.Table.from_batches(batches)
    titles = [" ".join(text.casefold().split()) for text in rows["text"].to_pylist()]
    groups = linked_rows(titles, rows["image"].to_pylist())
    fold = fold_of_rows(groups, rows["label"].to_pylist(), folds)
    key = hashlib.sha256(dataset.fingerprint.encode() + fold.tobytes()).hexdigest()[:12]
    written = []
    for tested in range(folds):
        names = np.array(split_of_folds(folds, tested))[fold]
        parts = {split: rows.filter(pa.array(names == split)) for split in SPLITS}
        written.append(_write(folder / f"openclipart-{key}-{tested}", parts, dataset.rows.metadata))
    return written


def matched_folds(folders: Sequence[Path]) -> list[Path]:
    """Write for each fold the dataset of matching and wrong pairs of its rows; return their folders."""
    from trainables.data import open_dataset
    from trainables.data.matching import matched_dataset

    written = []
    for folder in folders:
        dataset = matched_dataset(open_dataset(str(folder)), k=1, seed=0)
        columns = ["text", "image", "label"]
        parts = {s: pa.Table.from_batches(list(dataset.batches(s, columns))) for s in SPLITS}
        written.append(_write(folder.with_name(f"match-{folder.name}"), parts, dataset.rows.metadata))
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
