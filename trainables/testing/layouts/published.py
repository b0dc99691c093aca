"""Small datasets in the layouts in which image and text datasets are published, for tests."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

GENRES = (["Drama"], ["Comedy", "Romance"], ["Drama", "Film-Noir"])
DISHES = ("apple_pie", "sushi")
CLASSES = ("entailment", "neutral", "contradiction")
#: Rows of each split.
SIZES = {"train": 6, "dev": 3, "test": 3}


def jpeg(number: int) -> bytes:
    """Return a small picture, another one for each number."""
    file = io.BytesIO()
    Image.new("RGB", (20, 28), (number * 37 % 256, number * 91 % 256, number * 53 % 256)).save(file, "JPEG")
    return file.getvalue()


def write(folder: Path, files: Mapping[str, Any]) -> Path:
    """Write files by their paths: bytes, texts, or what becomes JSON; lists of ``.jsonl`` a line each."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".jsonl") and isinstance(content, list):
            content = "".join(json.dumps(line) + "\n" for line in content)
        if not isinstance(content, str | bytes):
            content = json.dumps(content)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def _numbered() -> Iterable[tuple[str, int]]:
    """Yield each row's split and its number over all splits."""
    splits = [split for split, size in SIZES.items() for _ in range(size)]
    return zip(splits, range(len(splits)), strict=True)


def mmimdb(described: str = "dataset", shown: str = "dataset") -> dict[str, Any]:
    """Return the files of MM-IMDB as it is published."""
    files: dict[str, Any] = {"split.json": {split: [] for split in SIZES}}
    for split, number in _numbered():
        film = f"{number + 98:07}"
        files["split.json"][split].append(film)
        plots = ["Short.", f"The long story of film {number}.", "Not so long."]
        about = {"title": film, "plot": plots, "genres": GENRES[number % 3], "year": 1950}
        files |= {f"{described}/{film}.json": about, f"{shown}/{film}.jpeg": jpeg(number)}
    return files


def pixels() -> np.ndarray:
    """Return the posters of twelve films as the HDF5 file of MM-IMDB has them."""
    return np.random.default_rng(1).integers(0, 256, (12, 3, 8, 6)).astype(np.int32)


def write_mmimdb_hdf5(
    folder: Path, images: np.ndarray, change: Callable[[Any], None] = lambda file: None
) -> Path:
    """Write the HDF5 file of MM-IMDB; return its path.

    Args:
        folder: A folder, which is made.
        images: The posters, as many as twelve.
        change: Called with the open file in the end.
    """
    import h5py

    draw, count = np.random.default_rng(0), len(images)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "multimodal_imdb.hdf5"
    with h5py.File(path, "w") as file:
        file["images"] = images
        file["features"] = draw.normal(size=(count, 5)).astype(np.float32)
        file["vgg_features"] = draw.normal(size=(count, 6)).astype(np.float32)
        file["genres"] = np.eye(3, dtype=np.int32)[np.arange(count) % 3]
        file["genres"].attrs["target_names"] = json.dumps(["Drama", "Comedy", "Romance"])
        file["imdb_ids"] = np.array([b"%07d" % each for each in range(count)], "S7")
        kind = [("split", "S5"), ("source", "S12"), ("start", "i8"), ("stop", "i8"), ("comment", "S1")]
        bounds = {b"train": (0, 6), b"dev": (6, 9), b"test": (9, 12)}
        each = [(s, k, *b, b"") for s, b in bounds.items() for k in (b"features", b"genres")]
        file.attrs["split"] = np.array(each, dtype=kind)
        change(file)
    return path


def mmimdb_lists(key: str = "img", validation: str = "dev") -> dict[str, Any]:
    """Return the files of MM-IMDB as mmbt (``image``) and MoPE (``img``) prepare it."""
    files: dict[str, Any] = {f"{split}.jsonl": [] for split in ("train", validation, "test")}
    for split, number in _numbered():
        path = f"dataset/{number + 98:07}.jpeg"
        line = {"id": f"{number + 98:07}", "text": f"Film {number}.", key: path, "label": GENRES[number % 3]}
        files[f"{validation if split == 'dev' else split}.jsonl"].append(line)
        files[path] = jpeg(number)
    return files


def _picture(number: int) -> tuple[str, str]:
    """Return the class and the file's name of a dish."""
    label = DISHES[number % 2]
    return label, f"{label}_{number}.jpg"


def food101(validation: bool = False) -> dict[str, Any]:
    """Return the pictures and titles of UPMC Food-101 as it is on Kaggle."""
    files: dict[str, Any] = {"texts/train_titles.csv": "", "texts/test_titles.csv": ""}
    for split, number in _numbered():
        split = "test" if split == "test" else "train"
        label, picture = _picture(number)
        title = (
            f'"[[""Gran\'s {label} no. {number}"" ]]"'
            if number % 2
            else f"{label} | recipe {number} &amp; more"
        )
        files[f"texts/{split}_titles.csv"] += f"{picture},{title},{label}\n"
        files[f"images/{split}/{label}/{picture}"] = jpeg(number)
    return files


def food101_texts() -> dict[str, Any]:
    """Return the pictures and texts of UPMC Food-101 as it was published."""
    files: dict[str, Any] = {}
    for split, number in _numbered():
        label, picture = _picture(number)
        files[f"images/{'test' if split == 'test' else 'train'}/{label}/{picture}"] = jpeg(number)
        files[f"texts_txt/{label}/{label}_{number}.txt"] = f"All about {label}\nin text {number}"
    return files


def food101_lists(validation: str = "dev") -> dict[str, Any]:
    """Return the files of UPMC Food-101 as mmbt and MoPE prepare it."""
    files: dict[str, Any] = {f"{split}.jsonl": [] for split in ("train", validation, "test")}
    for split, number in _numbered():
        label, picture = _picture(number)
        path = f"images/{'test' if split == 'test' else 'train'}/{label}/{picture}"
        line = {"id": f"{label}_{picture}", "label": label, "text": f"a text {number}", "img": path}
        files[f"{validation if split == 'dev' else split}.jsonl"].append(line)
        files[path] = jpeg(number)
    return files


def food101_split_json() -> dict[str, Any]:
    """Return the files that missing_aware_prompts adds to the pictures of UPMC Food-101."""
    split: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    texts = {}
    for word, number in _numbered():
        _, picture = _picture(number)
        split["val" if word == "dev" else word].append(picture)
        texts[picture] = f"text {number}"
    pictures = {name: file for name, file in food101().items() if name.startswith("images")}
    return {
        **pictures,
        "split.json": split,
        "text.json": texts,
        "class_idx.json": {"sushi": 0, "apple_pie": 1},
    }


def food101_tokens() -> dict[str, Any]:
    """Return UPMC Food-101 as lists in JSON, whose texts are lists of words."""
    files: dict[str, Any] = {f"{split}.json": [] for split in SIZES}
    for split, number in _numbered():
        label, picture = _picture(number)
        entry = {
            "id": number,
            "label": label,
            "text_tokens": ["text", str(number)],
            "img_path": f"i/{picture}",
        }
        files[f"{split}.json"].append(entry)
        files[f"i/{picture}"] = jpeg(number)
    return files


def snli_ve(
    key: str = "Flickr30K_ID", pictures: str = "flickr30k_images", name: str = "snli_ve_{}.jsonl"
) -> dict[str, Any]:
    """Return the files of SNLI-VE as its generator writes them."""
    files: dict[str, Any] = {name.format(split): [] for split in SIZES}
    for split, number in _numbered():
        line = {
            "annotator_labels": [CLASSES[number % 3]],
            "captionID": f"{1000 + number}.jpg#0",
            "gold_label": CLASSES[number % 3],
            "pairID": f"{1000 + number}.jpg#0r1e",
            "sentence1": f"premise {number}",
            "sentence1_parse": "(ROOT)",
            "sentence2": f"hypothesis {number}",
            key: str(1000 + number),
        }
        files[name.format(split)].append(line)
        files[f"{pictures}/{1000 + number}.jpg"] = jpeg(number)
    return files


#: Each dataset in each layout.
LAYOUTS: dict[str, dict[str, Callable[[], dict[str, Any]]]] = {
    "mmimdb": {
        "published": mmimdb,
        "labels and images": lambda: mmimdb("labels", "images"),
        "mmbt": lambda: mmimdb_lists("image"),
        "mope": lambda: {**mmimdb_lists("img", "val"), "labels.txt": "Drama\nFilm-Noir \nComedy\nRomance "},
    },
    "food101": {
        "kaggle": food101,
        "texts": food101_texts,
        "mmbt": food101_lists,
        "mope": lambda: {**food101_lists("val"), "labels.txt": "apple_pie\nsushi\n"},
        "missing_aware_prompts": food101_split_json,
        "cggm": food101_tokens,
    },
    "snli_ve": {
        "generated": snli_ve,
        "other key": lambda: snli_ve("Flikr30kID", "Flickr30K/flickr30k_images"),
        "mope": lambda: {
            **snli_ve(name="{}.jsonl", pictures="flickr30k_images/flickr30k_images"),
            "labels.txt": "contradiction \nentailment\nneutral",
        },
    },
}

EACH = [(name, layout) for name, layouts in LAYOUTS.items() for layout in layouts]
