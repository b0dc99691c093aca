"""The included datasets, and opening datasets by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainables.data import DATASETS, SPLITS, open_dataset
from trainables.errors import UserError
from trainables.task_settings import TaskSettings

#: Modalities and task of each.
EXPECTED = {
    "openclipart": ("text image", "classification", 13),
    "openclipart_match": ("text image", "classification", 2),
    "openclipart_topics": ("text image", "multilabel", 24),
    "digits": ("fou fac kar pix zer mor", "classification", 3),
    "digits_regression": ("pix fou", "regression", 6),
    "digits_retrieval": ("fou zer mor", "retrieval", 512),
}


def test_all_are_known_here() -> None:
    assert set(EXPECTED) == set(DATASETS)


@pytest.mark.parametrize("name", EXPECTED)
def test_included_datasets_open(name: str, digits_package: Path) -> None:
    modalities, task, outputs = EXPECTED[name]
    assert DATASETS[name].is_here() != name.startswith("digits")
    dataset = open_dataset(name)
    assert DATASETS[name].is_here()
    assert list(dataset.modalities) == modalities.split()
    assert (dataset.task.name, dataset.task.output_size) == (task, outputs)
    query = dataset.task.query
    assert (query and query.modality) == ("fou" if task == "retrieval" else None)
    columns = [modality.column for modality in dataset.modalities.values()]
    for split in SPLITS:
        rows = [row for batch in dataset.batches(split, columns) for row in batch.to_pylist()]
        assert len(rows) == dataset.count(split) > 0
        assert all(value is not None for value in rows[0].values())
        assert len(dataset.labels(split)) == len(rows)


def test_openclipart_is_what_results_were_recorded_with() -> None:
    assert open_dataset("openclipart").fingerprint == "83097fd640991371"
    assert open_dataset("openclipart_match").fingerprint == "e659d4e06184a679"


def test_settings_of_the_task_reach_it() -> None:
    tuned = open_dataset("openclipart_topics", TaskSettings(thresholds="tuned"))
    assert tuned.task.tunes
    with pytest.raises(UserError, match="--thresholds: is not for the task classification"):
        open_dataset("openclipart", TaskSettings(thresholds="tuned"))


def test_pictures_are_those_of_openclipart() -> None:
    """What both have is equal; the topics' splits are their own."""
    found = {}
    for name in ("openclipart", "openclipart_topics"):
        dataset = open_dataset(name)
        batches = [b for split in SPLITS for b in dataset.batches(split, ["id", "text", "image"], 100)]
        found[name] = {row["id"]: row for batch in batches for row in batch.to_pylist()}
    assert len(found["openclipart"]) == 2402
    assert len(found["openclipart_topics"]) == 2731
    assert all(found["openclipart_topics"][one] == row for one, row in found["openclipart"].items())


def test_missing_folder_names_the_included_datasets(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere.*no such file or folder.*openclipart"):
        open_dataset(str(tmp_path / "nowhere"))
