"""IEMOCAP as MulT and MMIN publish it."""

from __future__ import annotations

import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from tests.trainables.data.readers.cells import lengths, vectors
from trainables.data import open_dataset
from trainables.errors import UserError
from trainables.testing.layouts.feature_sets import mult, write_mmin, write_pickle


def test_mult_asks_for_each_emotion_whether_it_is_there(tmp_path: Path) -> None:
    content = mult("emotions")
    dataset = open_dataset(f"iemocap:{write_pickle(tmp_path / 'iemocap_data.pkl', content)}")
    assert dataset.task.to_dict()["classes"] == ["Neutral", "Happy", "Sad", "Angry"]
    assert {"tag_accuracy", "tag_weighted_f1"} <= {metric.name for metric in dataset.task.metrics}
    assert dataset.labels("test").tolist() == content["test"]["labels"].argmax(axis=2).tolist()
    assert list(dataset.modalities) == ["text", "audio", "vision"]
    assert lengths(dataset, "vision")[:3] == [3, 4, 5]
    assert dataset.notes == ()


@pytest.mark.parametrize("shape", ["one answer", "no answer"])
def test_labels_of_another_form_are_refused(tmp_path: Path, shape: str) -> None:
    content = mult("emotions")
    labels = content["valid"]["labels"]
    content["valid"]["labels"] = labels[..., :1] if shape == "one answer" else labels * 0
    path = write_pickle(tmp_path / "iemocap_data.pkl", content)
    message = r"shape \(6, 4, 1\); expected \(rows, 4, 2\)|valid: a label has not a 1 in one place and else 0"
    with pytest.raises(UserError, match=message):
        open_dataset(f"iemocap:{path}")


def test_mmin_has_one_of_four_classes(tmp_path: Path) -> None:
    dataset = open_dataset(f"iemocap:{write_mmin(tmp_path)}")
    assert dataset.task.in_words() == "classification into 4 classes"
    assert [dataset.count(split) for split in ("train", "validation", "test")] == [12, 6, 6]
    assert dataset.labels("validation").tolist() == [1, 2, 3, 0, 1, 2]
    for modality, (file, size) in {
        "text": ("L/bert_large", 1024),
        "audio": ("A/comparE", 130),
        "vision": ("V/denseface", 342),
    }.items():
        found = vectors(dataset, modality, "test")
        assert [cell.shape for cell in found] == [(3 + i % 3, size) for i in range(6)]
        with h5py.File(tmp_path / f"{file}.h5") as stored:
            np.testing.assert_array_equal(found[4], stored["Ses01F_tst_4"][:4])
    assert dataset.rows.words("train", [7]) == ["target/1/trn Ses01F_trn_7"]
    assert dataset.notes == (f"fold 1 of 2; iemocap:{tmp_path}/target/NUMBER takes another",)


def test_the_path_says_the_fold(tmp_path: Path) -> None:
    folder = write_mmin(tmp_path)
    first, second = open_dataset(f"iemocap:{folder}"), open_dataset(f"iemocap:{folder}/target/2")
    assert second.labels("validation").tolist() == [2, 3, 0, 1, 2, 3]
    assert first.fingerprint != second.fingerprint


def test_names_of_a_fixed_length_are_read_too(tmp_path: Path) -> None:
    folder = write_mmin(tmp_path)
    path = folder / "target" / "1" / "trn_int2name.npy"
    np.save(path, np.load(path, allow_pickle=True).astype("S").ravel())
    assert open_dataset(f"iemocap:{folder}").rows.words("train", [0]) == ["target/1/trn Ses01F_trn_0"]


@pytest.mark.parametrize("file", ["A/comparE.h5", "target/1/val_label.npy", "target/1/tst_int2name.npy"])
def test_a_missing_file_is_named(tmp_path: Path, file: str) -> None:
    (write_mmin(tmp_path) / file).unlink()
    with pytest.raises(UserError, match=f"dataset 'iemocap:{tmp_path}': has no {tmp_path}/{file}"):
        open_dataset(f"iemocap:{tmp_path}")


def test_utterances_without_features_are_counted(tmp_path: Path) -> None:
    with h5py.File(write_mmin(tmp_path) / "V/denseface.h5", "a") as file:
        del file["Ses01F_trn_3"], file["Ses01F_trn_5"]
    message = r"denseface\.h5 lacks 2 of 12 utterances of 1/trn_int2name\.npy, the first is Ses01F_trn_3"
    with pytest.raises(UserError, match=message):
        open_dataset(f"iemocap:{tmp_path}")


@pytest.mark.parametrize("shape", [(3, 7), (3,), (1, 2, 3)])
def test_vectors_of_another_size_are_named(tmp_path: Path, shape: tuple[int, ...]) -> None:
    with h5py.File(write_mmin(tmp_path) / "A/comparE.h5", "a") as file:
        del file["Ses01F_tst_3"]
        file["Ses01F_tst_3"] = np.zeros(shape)
    dataset = open_dataset(f"iemocap:{tmp_path}")
    with pytest.raises(
        UserError, match=r"comparE\.h5: Ses01F_tst_3 is float64 of shape .*; expected vectors"
    ):
        lengths(dataset, "audio", "test")


def test_labels_and_names_belong_together(tmp_path: Path) -> None:
    path = write_mmin(tmp_path) / "target" / "1" / "trn_label.npy"
    np.save(path, np.load(path)[:-1])
    with pytest.raises(UserError, match=r"shape \(11, 4\) and float64, beside 12 names of utterances"):
        open_dataset(f"iemocap:{tmp_path}")
    np.save(path, np.ones((12, 4)))
    with pytest.raises(UserError, match=r"trn_label\.npy: a label has not a 1 in one place and else 0"):
        open_dataset(f"iemocap:{tmp_path}")


def test_another_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has no \*\.pkl, Processed/\*\.pkl or target/; it has nothing"):
        open_dataset(f"iemocap:{tmp_path}")


def test_without_h5py_a_line_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_mmin(tmp_path)
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(UserError, match=r"needs h5py: pip install 'paretofuse\[h5\]'"):
        open_dataset(f"iemocap:{tmp_path}")
