"""CMU-MOSI and CMU-MOSEI as MMSA and MulT publish them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.trainables.data.readers.cells import cells, lengths, vectors
from trainables.data import open_dataset
from trainables.errors import UserError
from trainables.reading_settings import ReadingSettings
from trainables.task_settings import TaskSettings
from trainables.testing.layouts.feature_sets import SIZES, STEPS, mmsa, mult, write_pickle

THREE_TO_FIVE = [3 + i % 3 for i in range(12)]


def test_mmsa_aligned(tmp_path: Path) -> None:
    content = mmsa()
    path = write_pickle(tmp_path / "aligned_50.pkl", content)
    dataset = open_dataset(f"mosi:{path}")
    assert list(dataset.modalities) == ["text", "audio", "vision"]
    assert [dataset.count(split) for split in ("train", "validation", "test")] == [12, 6, 6]
    assert dataset.labels("train").flatten().tolist() == content["train"]["regression_labels"].tolist()
    assert dataset.task.in_words() == "regression of a number from -3 to 3, l1 loss"
    assert "acc7" in {metric.name for metric in dataset.task.metrics}
    for modality in dataset.modalities:  # padding is left out, BERT's outputs for it too
        assert lengths(dataset, modality) == THREE_TO_FIVE
        stored = content["train"][modality]
        for row, cell in enumerate(vectors(dataset, modality)):
            np.testing.assert_array_equal(cell, stored[row, : len(cell)])
            assert cell.dtype == np.float32
    assert dataset.rows.words("validation", [2]) == ["aligned_50.pkl valid validvideo$_$2"]
    assert dataset.notes == (
        "other numbers of rows than published: train has 12 (published: 1,284), validation has 6 "
        "(published: 229), test has 6 (published: 686)",
    )


def test_mmsa_unaligned_is_cut_to_its_lengths(tmp_path: Path) -> None:
    content = mmsa(aligned=False)
    content["train"]["audio"][0, 11] = 0  # silence is no padding, because the length says so
    content["train"]["vision_lengths"][1] = 0
    dataset = open_dataset(f"mosi:{write_pickle(tmp_path / 'unaligned_50.pkl', content)}")
    assert lengths(dataset, "text") == THREE_TO_FIVE
    assert lengths(dataset, "audio") == [4 * length for length in THREE_TO_FIVE]
    assert lengths(dataset, "vision")[:3] == [9, 0, 15]
    assert cells(dataset, "vision")[1] is None


@pytest.mark.parametrize("protocol", [2, 4])
def test_mult_has_its_zeros_in_front(tmp_path: Path, protocol: int) -> None:
    content = mult()
    dataset = open_dataset(f"mosi:{write_pickle(tmp_path / 'mosi_data.pkl', content, protocol)}")
    for modality in SIZES:
        assert lengths(dataset, modality) == THREE_TO_FIVE
        for row, cell in enumerate(vectors(dataset, modality)):
            np.testing.assert_array_equal(cell, content["train"][modality][row, STEPS - len(cell) :])
    assert dataset.labels("test").flatten().tolist() == content["test"]["labels"].flatten().tolist()
    assert dataset.rows.words("train", [4]) == ["mosi_data.pkl train train4 0.5 3"]


def test_aligned_modalities_stay_aligned(tmp_path: Path) -> None:
    content = mult()
    audio = content["train"]["audio"]
    audio[0, :4] = 0  # row 0 has steps 3 to 5; in the first of them it is silent
    audio[1] = 0
    dataset = open_dataset(f"mosi:{write_pickle(tmp_path / 'mosi_data.pkl', content)}")
    assert lengths(dataset, "audio")[:3] == [3, 0, 5]
    assert lengths(dataset, "text")[:3] == [3, 4, 5]
    first = cells(dataset, "audio")[0]
    assert isinstance(first, np.ndarray)
    np.testing.assert_array_equal(first, audio[0, 3:])


def test_numbers_that_are_minus_infinity_or_none_count_as_zero(tmp_path: Path) -> None:
    content = mult()
    content["train"]["audio"][0, -1, :3] = -np.inf
    content["train"]["audio"][1, 0, 2] = -np.inf  # in the padding
    content["valid"]["vision"][2, -1, 1] = np.nan
    dataset = open_dataset(f"mosi:{write_pickle(tmp_path / 'mosi_data.pkl', content)}")
    assert vectors(dataset, "audio")[0][-1, :3].tolist() == [0, 0, 0]
    assert lengths(dataset, "audio")[1] == 4
    assert np.isfinite(vectors(dataset, "vision", "validation")[2]).all()
    assert dataset.notes[1:] == (
        "4 numbers of audio are -inf or NaN and count as 0",
        "1 numbers of vision are -inf or NaN and count as 0",
    )


def test_other_columns_may_be_chosen(tmp_path: Path) -> None:
    name = f"mosi:{write_pickle(tmp_path / 'aligned_50.pkl', mmsa())}"
    reading = ReadingSettings(columns="text:text=raw_text,label=annotations")
    dataset = open_dataset(name, TaskSettings(task="classification"), reading)
    kinds = {modality: where.kind for modality, where in dataset.modalities.items()}
    assert kinds == {"text": "text", "audio": "features", "vision": "features"}
    assert cells(dataset, "text")[3] == "film 3 of train très bon"
    assert dataset.task.to_dict()["classes"] == ["Negative", "Positive"]


def test_mosei_has_other_sizes(tmp_path: Path) -> None:
    dataset = open_dataset(f"mosei:{write_pickle(tmp_path / 'mosei_senti_data.pkl', mult())}")
    assert dataset.notes == ("other numbers of rows than published: train has 12 (published: 16,326)",)


@pytest.mark.parametrize("inside", ["aligned_50.pkl", "Processed/aligned_50.pkl"])
def test_a_folder_with_one_pickle(tmp_path: Path, inside: str) -> None:
    write_pickle(tmp_path / inside, mmsa())
    assert open_dataset(f"mosi:{tmp_path}").count("train") == 12
    write_pickle(tmp_path / "unaligned_50.pkl", mmsa())
    with pytest.raises(UserError, match=rf"several pickles \(.*{inside}.*\); give the path of one"):
        open_dataset(f"mosi:{tmp_path}")


def test_a_folder_without_one(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has no \*\.pkl or Processed/\*\.pkl; it has nothing"):
        open_dataset(f"mosi:{tmp_path}")
    (tmp_path / "label.csv").touch()
    with pytest.raises(UserError, match=r"it has label\.csv"):
        open_dataset(f"mosi:{tmp_path}")


def _without(*keys: str) -> Callable[[dict[str, Any]], Any]:
    def change(content: dict[str, Any]) -> None:
        for key in keys[:-1]:
            content = content[key]
        del content[keys[-1]]

    return change


def _with(split: str, key: str, change: Callable[[Any], Any]) -> Callable[[dict[str, Any]], Any]:
    return lambda content: content[split].update({key: change(content[split][key])})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_without("valid"), "has no dictionary dev, val, valid or validation; it has train, test"),
        (_without("test", "vision"), "test has no 'vision'; it has raw_text, text,"),
        (_without("valid", "regression_labels"), "valid has no 'labels'; it has raw_text,"),
        (_with("train", "audio", lambda a: a[:-1]), "train has different numbers of rows: 12 of text, 11 of"),
        (
            _with("train", "audio", lambda a: a[:, 0]),
            "'audio' is an array of float32 of shape (12, 5); expec",
        ),
        (_with("train", "audio", lambda a: a.tolist()), "'audio' is a list; expected numbers of shape (rows"),
        (_with("train", "audio", lambda a: a.astype(str)), "'audio' is an array of <U32 of shape (12, 6, 5)"),
        (
            _with("train", "text_bert", lambda a: a[..., 1:]),
            "'text_bert' has masks of shape (12, 5), and 'te",
        ),
        (_with("train", "regression_labels", lambda a: a[None]), "has shape (1, 12); expected one a row"),
        (
            _with("train", "regression_labels", lambda a: [*a[1:], "x"]),
            "has texts (string) in aligned_50.pkl train, but numbers",
        ),
        (_with("train", "regression_labels", lambda a: a + 1), "train row 6: label 4.0 is not from -3 to 3"),
        (
            _with("test", "annotations", lambda a: np.array([*a[1:], 3], object)),
            "test has values of another type than expected",
        ),
        (_with("test", "audio", lambda a: a[..., :0]), "'audio' is an array of float32 of shape (6, 6, 0)"),
        (_with("test", "id", lambda a: 3), "test has values of another type than expected"),
    ],
)
def test_what_is_not_of_the_layout_is_refused(
    tmp_path: Path, change: Callable[[dict[str, Any]], Any], message: str
) -> None:
    content = mmsa()
    change(content)
    path = write_pickle(tmp_path / "aligned_50.pkl", content)
    with pytest.raises(UserError) as error:
        assert open_dataset(f"mosi:{path}").task
    assert message in str(error.value)
    assert str(error.value).startswith(f"dataset 'mosi:{path}': ")


@pytest.mark.parametrize("content", [[1, 2], {"train": [], "valid": [], "test": []}, {}, np.zeros(3)])
def test_another_pickle_is_refused(tmp_path: Path, content: Any) -> None:
    path = write_pickle(tmp_path / "other.pkl", content)
    with pytest.raises(UserError, match=r"is no dictionary with|has no dictionary train"):
        open_dataset(f"mosi:{path}")


def test_lengths_are_no_longer_than_the_sequences(tmp_path: Path) -> None:
    content = mmsa(aligned=False)
    content["test"]["audio_lengths"][3] = 30
    path = write_pickle(tmp_path / "unaligned_50.pkl", content)
    with pytest.raises(
        UserError, match=r"test: 'audio_lengths' has 30, and 'audio' has the shape \(6, 24, 5\)"
    ):
        open_dataset(f"mosi:{path}")


def test_labels_of_emotions_are_of_the_other_set(tmp_path: Path) -> None:
    path = write_pickle(tmp_path / "iemocap_data.pkl", mult("emotions"))
    with pytest.raises(UserError, match=r"'labels' has shape \(12, 4, 2\); expected one a row"):
        open_dataset(f"mosi:{path}")


def test_rows_without_names_have_numbers(tmp_path: Path) -> None:
    content = mult()
    for split in content.values():
        del split["id"]
    dataset = open_dataset(f"mosi:{write_pickle(tmp_path / 'a.pkl', content)}")
    assert dataset.rows.words("train", [3]) == ["a.pkl train 3"]
    assert json.loads(dataset.metadata["paretofuse.range"]) == [-3, 3]
