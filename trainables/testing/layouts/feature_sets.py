"""Small datasets of extracted features in the layouts in which they are published."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

ROWS = {"train": 12, "valid": 6, "test": 6}
STEPS = 6
SIZES = {"text": 8, "audio": 5, "vision": 4}
EXPERTS = {"face": 512, "ocr": 300, "rgb": 2048, "s3d": 1024, "scene": 2208, "speech": 300, "vggish": 128}


def mmsa(aligned: bool = True, rows: Mapping[str, int] = ROWS) -> dict[str, dict[str, Any]]:
    """Return what a pickle of MMSA holds. Row i has 3 + i % 3 steps of STEPS.

    The vectors of a text go on behind its end, because they are BERT's outputs for padding. Those of audio
    and vision are 0 there. Unaligned audio has 4 and vision 3 times as many steps.
    """
    draw = np.random.default_rng(0)
    splits: dict[str, dict[str, Any]] = {}
    for split, count in rows.items():
        lengths = 3 + np.arange(count) % 3
        there = np.arange(STEPS) < lengths[:, None]
        labels = (np.arange(count) % 7 - 3).astype(np.float32)
        content: dict[str, Any] = {
            "raw_text": np.array([f"film {i} of {split} très bon" for i in range(count)]),
            "text": draw.normal(size=(count, STEPS, SIZES["text"])).astype(np.float32),
            "text_bert": np.stack([there * 7, there, there * 0], axis=1).astype(np.int64),
            "id": [f"{split}video$_${i}" for i in range(count)],
            "annotations": ["Negative" if label < 0 else "Positive" for label in labels],
            "classification_labels": (labels >= 0).astype(np.float32),
            "regression_labels": labels,
        }
        for modality, times in {"audio": 4, "vision": 3}.items():
            times = 1 if aligned else times
            longer = np.arange(STEPS * times) < times * lengths[:, None]
            vectors = draw.normal(size=(count, STEPS * times, SIZES[modality])) * longer[..., None]
            content[modality] = vectors.astype(np.float32 if aligned else np.float64)
            if not aligned:
                content[f"{modality}_lengths"] = (times * lengths).tolist()
        splits[split] = content
    return splits


def mult(labels: str = "sentiment") -> dict[str, dict[str, Any]]:
    """Return what a pickle of MulT holds: row i has 3 + i % 3 vectors, behind as many zeros as it takes.

    Args:
        labels: ``sentiment`` or ``emotions``.
    """
    draw = np.random.default_rng(1)
    splits = {}
    for split, content in mmsa().items():
        count = len(content["id"])
        there = np.arange(STEPS) >= STEPS - (3 + np.arange(count) % 3)[:, None]
        splits[split] = {
            m: (draw.normal(size=(count, STEPS, size)) * there[..., None]).astype(np.float32)
            for m, size in SIZES.items()
        }
        if labels == "sentiment":
            splits[split]["labels"] = content["regression_labels"][:, None, None]
            splits[split]["id"] = np.array([[f"{split}{i}".encode(), b"0.5", b"3"] for i in range(count)])
        else:
            answers = np.array([[i % 2, i % 3 == 0, i % 4 == 1, i % 5 == 0] for i in range(count)]).astype(
                int
            )
            splits[split]["labels"] = np.eye(2)[answers]
    return splits


def write_pickle(path: Path, content: Any, protocol: int = 4) -> Path:
    """Write a pickle."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(content, protocol))
    return path


def write_mmin(folder: Path, folds: int = 2) -> Path:
    """Write MMIN's layout: utterance i of ``trn`` has 3 + i % 3 vectors, and zeros behind them."""
    draw = np.random.default_rng(0)
    keys = {split: [f"Ses01F_{split}_{i}" for i in range(12 if split == "trn" else 6)] for split in _MMIN}
    for name, size in (("A/comparE", 130), ("V/denseface", 342), ("L/bert_large", 1024)):
        (folder / name).parent.mkdir(parents=True)
        with h5py.File(folder / f"{name}.h5", "w") as file:
            for names in keys.values():
                for i, key in enumerate(names):
                    vectors = draw.normal(size=(STEPS, size)).astype(np.float32)
                    vectors[3 + i % 3 :] = 0
                    file[key] = vectors
    with h5py.File(folder / "A/comparE_mean_std.h5", "w") as file:
        for fold in range(1, folds + 1):
            file[f"{fold}/mean"], file[f"{fold}/std"] = np.zeros(130), np.ones(130)
    for fold in range(1, folds + 1):
        target = folder / "target" / str(fold)
        target.mkdir(parents=True)
        for split, names in keys.items():
            np.save(target / f"{split}_label.npy", np.eye(4)[(np.arange(len(names)) + fold) % 4])
            np.save(target / f"{split}_int2name.npy", np.array([[key.encode()] for key in names], object))
    return folder


_MMIN = ("trn", "val", "tst")


def write_msrvtt(folder: Path) -> Path:
    """Write MMT's layout of 12 + 4 videos with three captions each.

    Video i has 2 vectors of each expert, but video 0 lacks ``face``, that of ``ocr`` in video 1 is empty, the
    first value of ``speech`` in video 2 is NaN, and video 3 has 40 vectors of ``rgb``.
    """
    lists = folder / "symlinked-feats"
    lists.mkdir(parents=True)
    videos = [f"video{7000 + i}" for i in range(16)]
    for name, some in {
        "train_list_jsfusion": videos[:12],
        "val_list_jsfusion": videos[12:],
        "train_list_miech": videos[:10],
        "test_list_miech": videos[12:],
        "train_list": videos[:8],
        "val_list": videos[8:12],
        "test_list": videos[12:],
    }.items():
        (lists / f"{name}.txt").write_text("\n".join(some) + "\n")
    write_pickle(lists / "jsfusion_val_caption_idx.pkl", {video: i % 3 for i, video in enumerate(videos)})
    draw = np.random.default_rng(0)
    for i, video in enumerate(videos):
        path = folder / "vid_feat_files/mult_h5/v/i/d" / f"{video}.h5"
        path.parent.mkdir(parents=True, exist_ok=True)
        with h5py.File(path, "w") as file:
            for caption in range(3):
                words = [b"scene", str(i).encode(), b"take", str(caption).encode()]
                file.create_dataset(f"raw_captions.{caption}", data=words, dtype=h5py.string_dtype())
            for expert, size in EXPERTS.items():
                count = 40 if (i, expert) == (3, "rgb") else 0 if (i, expert) == (1, "ocr") else 2
                vectors = draw.normal(size=(count, size)).astype(np.float32)
                vectors[:, 0] = np.arange(count)
                if (i, expert) == (2, "speech"):
                    vectors[0, 0] = np.nan
                if (i, expert) != (0, "face"):
                    file[f"features.{expert}"] = vectors
    return folder
