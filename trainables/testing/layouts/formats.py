"""The same rows in each format."""

from __future__ import annotations

import csv
import io
import json
import shutil
import tarfile
import wave
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

LABELS = ("cat", "cow", "dog")


@dataclass(frozen=True)
class Row:
    """A row of each fixture: a text, the bytes of a picture or sound, and the name of a class."""

    text: str
    file: bytes
    label: str


Rows = Mapping[str, list[Row]]

#: Writes the rows of each split into an empty folder, and returns the dataset's address.
Writer = Callable[[Path, Rows], str]

#: The writers by the names of the readers. Layouts of published sets cannot hold these rows.
WRITERS: dict[str, Writer] = {}

#: The readers whose files are sounds, and not pictures.
OF_SOUNDS = ("audiofolder",)


def writer(name: str) -> Callable[[Writer], Writer]:
    """Return the decorator for the writer of a reader's format."""

    def register(function: Writer) -> Writer:
        WRITERS[name] = function
        return function

    return register


def png(number: int) -> bytes:
    """Return a small PNG file, another one for each number."""
    file = io.BytesIO()
    Image.new("RGB", (9, 7), (number % 256, 60, number // 256)).save(file, "PNG")
    return file.getvalue()


def wav(number: int) -> bytes:
    """Return a short WAV file, another one for each number."""
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setparams((1, 2, 16_000, 0, "NONE", ""))
        sound.writeframes(number.to_bytes(2, "little") * 40)
    return file.getvalue()


def rows(name: str) -> dict[str, list[Row]]:
    """Return 24 rows for the fixture of a reader; their texts have what tables may trip over."""
    file = wav if name in OF_SOUNDS else png
    odd = ('a "quoted", text', "two\nlines", "naïve ☃", "semi;colon", "tab\there", "-")
    every = [Row(f"{odd[n % 6]} {n}", file(n), LABELS[n % 3]) for n in range(24)]
    return {"train": every[:12], "validation": every[12:18], "test": every[18:]}


def table(some: list[Row]) -> pa.Table:
    """Return rows as an Arrow table with the bytes of pictures."""
    return pa.Table.from_pylist([{"text": row.text, "image": row.file, "label": row.label} for row in some])


def hf_dataset(some: list[Row]) -> datasets.Dataset:
    """Return rows as the Hugging Face library has them: pictures with their type, labels as classes."""
    features = datasets.Features(
        text=datasets.Value("string"),
        image=datasets.Image(),
        label=datasets.ClassLabel(names=list(LABELS)),
    )
    values = [
        {"text": row.text, "image": {"bytes": row.file, "path": None}, "label": row.label} for row in some
    ]
    return datasets.Dataset.from_list(values, features=features)


def put(path: Path, data: bytes | str) -> Path:
    """Write a file, and the folders for it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def write_csv(path: Path, header: list[str], lines: list[list[str]]) -> Path:
    """Write a CSV file."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows([header, *lines])
    return put(path, text.getvalue())


def write_tar(path: Path, members: Mapping[str, bytes | str] | Sequence[tuple[str, bytes | str]]) -> Path:
    """Write a tar archive with these members, by name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pairs = members.items() if isinstance(members, Mapping) else members
    with tarfile.open(path, "w") as archive:
        for name, content in pairs:
            data = content.encode() if isinstance(content, str) else content
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def written(folder: Path, some: list[Row], end: str = "png") -> Iterator[tuple[Path, Row]]:
    """Write the pictures or sounds of rows as files, and yield their paths."""
    for number, row in enumerate(some):
        yield put(folder / f"{number}.{end}", row.file), row


@writer("parquet")
def _parquet(folder: Path, splits: Rows) -> str:
    for split, some in splits.items():
        pq.write_table(table(some), folder / f"{split}.parquet")
    return str(folder)


@writer("csv")
def _csv(folder: Path, splits: Rows) -> str:
    for split, some in splits.items():
        files = [
            [row.text, str(path.relative_to(folder)), row.label]
            for path, row in written(folder / "images" / split, some)
        ]
        write_csv(folder / f"{split}.csv", ["text", "image", "label"], files)
    return str(folder)


@writer("jsonl")
def _jsonl(folder: Path, splits: Rows) -> str:
    for split, some in splits.items():
        lines = [
            json.dumps({"text": row.text, "image": str(path.relative_to(folder)), "label": row.label})
            for path, row in written(folder / "images" / split, some)
        ]
        put(folder / f"{split}.jsonl", "\n".join(lines))
    return str(folder)


@writer("arrow")
def _arrow(folder: Path, splits: Rows) -> str:
    whole = pa.concat_tables(
        [table(some).append_column("split", pa.array([split] * len(some))) for split, some in splits.items()]
    )
    with pa.ipc.new_file(folder / "rows.arrow", whole.schema) as file:
        file.write_table(whole)
    return str(folder / "rows.arrow")


@writer("datasets")
def _datasets(folder: Path, splits: Rows) -> str:
    every = datasets.DatasetDict({split: hf_dataset(some) for split, some in splits.items()})
    every.save_to_disk(folder / "saved")
    return str(folder / "saved")


@writer("hub")
def _hub(folder: Path, splits: Rows) -> str:
    for split, some in splits.items():
        (folder / "all").mkdir(exist_ok=True)
        hf_dataset(some).to_parquet(folder / "all" / f"{split}-00000-of-00001.parquet")
    files = [{"split": split, "path": f"all/{split}-*"} for split in splits]
    put(
        folder / "README.md",
        f"---\nconfigs:\n- config_name: all\n  data_files: {json.dumps(files)}\n---\n# Rows\n",
    )
    return str(folder)


@writer("hf")
def _hf(folder: Path, splits: Rows) -> str:
    """Write what the hub's library keeps of a repository that it has fetched."""
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = folder / "datasets--someone--rows"
    put(repository / "refs" / "main", commit)
    (repository / "snapshots" / commit).mkdir(parents=True, exist_ok=True)
    _hub(repository / "snapshots" / commit, splits)
    return "hf:someone/rows"


@writer("captioned")
def _captioned(folder: Path, splits: Rows) -> str:
    lines = [
        [row.text, str(path.relative_to(folder)), row.label, split]
        for split, some in splits.items()
        for path, row in written(folder / "images" / split, some)
    ]
    write_csv(folder / "captions.csv", ["text", "image", "label", "split"], lines)
    return str(folder)


@writer("imagefolder")
def _imagefolder(folder: Path, splits: Rows) -> str:
    for split, some in splits.items():
        lines = [[path.name, row.text, row.label] for path, row in written(folder / split, some)]
        write_csv(folder / split / "metadata.csv", ["file_name", "text", "label"], lines)
    return str(folder)


@writer("audiofolder")
def _audiofolder(folder: Path, splits: Rows) -> str:
    for split, some in splits.items():
        lines = [
            json.dumps({"file_name": path.name, "text": row.text, "label": row.label})
            for path, row in written(folder / split, some, "wav")
        ]
        put(folder / split / "metadata.jsonl", "\n".join(lines))
    return str(folder)


@writer("webdataset")
def _webdataset(folder: Path, splits: Rows) -> str:
    for split, some in splits.items():
        half = len(some) // 2
        for shard, own in enumerate((some[:half], some[half:])):
            members = [
                member
                for number, row in enumerate(own)
                for member in (
                    (f"{number}.png", row.file),
                    (f"{number}.txt", row.text),
                    (f"{number}.cls", row.label),
                )
            ]
            write_tar(folder / f"{split}-{shard:05}.tar", members)
    return str(folder)


def empty(folder: Path) -> Path:
    """Return a folder after making it, or removing what is in it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
