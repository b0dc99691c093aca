"""Which columns are modalities and labels, where nobody says so."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.trainables.data.test_source import png
from trainables.data import SPLITS, Dataset, open_dataset
from trainables.errors import UserError
from trainables.reading_settings import ReadingSettings

TEXTS = ["a red box", "a blue box", "a box"]
LABELS = ["red", "blue", "red"]


def opened(folder: Path, columns: str | None = None, **content: Any) -> Dataset:
    """Open a dataset whose splits all have these columns."""
    folder.mkdir(exist_ok=True)
    for name in ("0.png", "1.png", "2.png", "0.WAV"):
        (folder / name).write_bytes(png())
    for split in SPLITS:
        pq.write_table(pa.table(content), folder / f"{split}.parquet")
    return open_dataset(str(folder), reading=ReadingSettings(columns=columns))


def meant(dataset: Dataset) -> dict[str, str]:
    return {**{name: where.column for name, where in dataset.modalities.items()}, "label": dataset.label}


PATHS = [f"{i}.png" for i in range(3)]
BYTES = [png()] * 3


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"caption": TEXTS, "genre": LABELS}, {"text": "caption", "label": "genre"}),
        ({"Text": TEXTS, " Label ": LABELS}, {"text": "Text", "label": " Label "}),
        (
            {"text": TEXTS, "caption": TEXTS, "label": LABELS, "class": LABELS},
            {"text": "text", "label": "label"},
        ),
        ({"title": TEXTS, "file": PATHS, "y": LABELS}, {"text": "title", "image": "file", "label": "y"}),
        ({"ImagePath": PATHS, "label": LABELS}, {"image": "ImagePath", "label": "label"}),
        ({"jpg": BYTES, "class": [0, 1, 0]}, {"image": "jpg", "label": "class"}),
        (
            {"a": ["0.WAV", "1.wav", ""], "b": PATHS, "label": LABELS},
            {"image": "b", "audio": "a", "label": "label"},
        ),
        ({"a": [[path] for path in PATHS], "label": LABELS}, {"image": "a", "label": "label"}),
        (
            {"photo": [{"bytes": base64.b64encode(png()).decode()}] * 3, "label": LABELS},
            {"image": "photo", "label": "label"},
        ),
        (
            {"a": [base64.b64encode(png()).decode()] * 3, "label": LABELS, "url": ["http://x/0.png"] * 3},
            {"image": "a", "label": "label"},
        ),
        (
            {"a": [{"bytes": None, "path": p} for p in PATHS], "label": LABELS},
            {"image": "a", "label": "label"},
        ),
    ],
)
def test_columns_are_found(tmp_path: Path, content: dict[str, Any], expected: dict[str, str]) -> None:
    assert meant(opened(tmp_path / "d", **content)) == expected


def test_what_was_found_is_said(tmp_path: Path) -> None:
    dataset = opened(tmp_path / "d", caption=TEXTS, file=PATHS, genre=LABELS)
    assert dataset.notes == ("columns: text=caption, image=file, label=genre (found by name and type)",)
    assert opened(tmp_path / "d", text=TEXTS, image=PATHS, label=LABELS).notes == ()


def test_what_the_user_says_holds(tmp_path: Path) -> None:
    content = {"text": TEXTS, "title": LABELS, "image": BYTES, "label": LABELS, "kind": LABELS}
    said = "text=title,label=Kind"
    assert meant(opened(tmp_path / "d", said, **content)) == {
        "text": "title",
        "image": "image",
        "label": "kind",
    }
    pair = {"sentence1": TEXTS, "sentence2": TEXTS, "label": LABELS}
    dataset = opened(tmp_path / "d", "premise:text=sentence1,hypothesis:text=sentence2", **pair)
    assert meant(dataset) == {"premise": "sentence1", "hypothesis": "sentence2", "label": "label"}


@pytest.mark.parametrize(
    ("content", "columns", "reason"),
    [
        (
            {"title": TEXTS, "plot": TEXTS, "label": LABELS},
            None,
            "text may be any of the columns title, plot; say which: --columns text=title or --columns "
            "title:text=title,plot:text=plot",
        ),
        (
            {"text": TEXTS, "class": LABELS, "genre": LABELS},
            None,
            "label may be any of the columns class, genre; say which: --columns label=class",
        ),
        ({"image_path": PATHS, "photo": PATHS, "label": LABELS}, None, "image may be any of the columns"),
        (
            {"text": TEXTS, "kind": LABELS},
            None,
            "its columns: text, kind; say which it is: --columns label=COLUMN",
        ),
        (
            {"words": TEXTS, "label": LABELS},
            None,
            "its columns: words, label; say which: --columns text=COLUMN",
        ),
        ({"text": TEXTS, "label": LABELS}, "text=words", "has no column 'words'; its columns: text, label"),
        (
            {"text": TEXTS, "Words": TEXTS, "words": TEXTS, "label": LABELS},
            "text=WORDS",
            "'Words' and 'words'",
        ),
        ({"text": TEXTS, "label": LABELS}, "text=label,text=text", "text is there twice"),
        ({"text": TEXTS, "label": LABELS}, "text", "write NAME=COLUMN"),
        ({"text": [1, 2, 3], "label": LABELS}, None, "column 'text' is int64; expected string"),
        ({"text": [["a"], ["b"], ["c"]], "label": LABELS}, None, "column 'text' is list<"),
        ({"captions": [["a"], ["b"], ["c"]], "label": LABELS}, None, "column 'captions' has lists of texts"),
        (
            {"text": ["a/1.txt", "a/2.txt", ""], "label": LABELS},
            None,
            "column 'text' has names of files such as",
        ),
    ],
)
def test_what_is_in_doubt_is_refused(
    tmp_path: Path, content: dict[str, Any], columns: str | None, reason: str
) -> None:
    with pytest.raises(UserError) as error:
        opened(tmp_path / "d", columns, **content)
    assert reason in str(error.value)


def test_columns_that_are_not_used_are_said(tmp_path: Path) -> None:
    content = {
        "caption": TEXTS,
        "image_url": ["https://example.org/1"] * 3,
        "size": [1, 2, 3],
        "label": LABELS,
    }
    assert opened(tmp_path, **content).notes == (
        "columns: text=caption, label=label (found by name and type); not used: image_url, size",
        "column 'image_url' has addresses of files, which are not fetched",
    )


def test_texts_that_are_lists_are_said(tmp_path: Path) -> None:
    (note,) = opened(tmp_path, text=["['a', 'b']"] * 3, label=LABELS).notes
    assert note == "column 'text' has lists such as \"['a', 'b']\"; each is taken as one text"


@pytest.mark.parametrize("lacking", ["text", "image"])
def test_a_modality_that_only_some_files_have_is_refused(tmp_path: Path, lacking: str) -> None:
    opened(tmp_path, text=TEXTS, image=BYTES, label=LABELS)
    table = pq.read_table(tmp_path / "train.parquet")
    pq.write_table(table.drop_columns([lacking]), tmp_path / "train.parquet")
    with pytest.raises(
        UserError, match=f"validation.parquet has a column '{lacking}', which train.parquet has"
    ):
        open_dataset(str(tmp_path))
