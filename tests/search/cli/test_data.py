"""The command ``data``: what is shown of a dataset, as a page, a document and a picture."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image


@pytest.fixture
def call(call: Callable[..., tuple[int, str, str]]) -> Callable[..., tuple[int, str, str]]:
    """Run ``data`` in this process; returns exit code, standard output and standard error."""
    return partial(call, "data")


@pytest.fixture
def tiny(tiny_encoders: dict[str, Path]) -> tuple[str, ...]:
    """Options that select tiny encoders."""
    return (
        "--text-encoder",
        str(tiny_encoders["bert"]),
        "--image-encoder",
        str(tiny_encoders["vit"]),
    )


def _changed(source: Path, target: Path, split: str, **columns: list[object]) -> Path:
    """Copy a dataset with some columns of a split exchanged or added."""
    shutil.copytree(source, target)
    path = target / f"{split}.parquet"
    table = pq.read_table(path)
    for name, values in columns.items():
        table = table.drop_columns([name] if name in table.column_names else []).append_column(name, [values])
    pq.write_table(table, path)
    return target


def test_a_page(call, squares: Path, tiny: tuple[str, ...], tmp_path: Path) -> None:
    images: list[object] = [*pq.read_table(squares / "train.parquet")["image"].to_pylist()[:11], None]
    folder = _changed(squares, tmp_path / "some", "test", image=images, id=[*range(12)])
    code, out, _ = call(str(folder), *tiny)
    assert code == 0
    assert max(map(len, out.splitlines()[1:])) <= 80, "but for the name of the dataset"
    assert "some, parquet, 72 rows" in out
    page = " ".join(out.split())
    for said in (
        "train.parquet (48), validation.parquet (12), test.parquet (12)",
        "all 48 12 12 text repeated",
        "image missing 0 0 1",
        "image in train, too 0 11",
        "column 'text': 4 different tokens of",
        "pixels: 40 x 36 in nearly all a search makes squares of 32 pixels",
        "label column 'label': classification into 3 classes",
        "green 16 4 4 ████",
        "not used id",
        "11 of 12 test rows have a picture that is in train",
    ):
        assert said in page, said


def test_a_document(call, squares: Path, tiny: tuple[str, ...]) -> None:
    code, out, _ = call(str(squares), *tiny, "--json", "--text-length", "4")
    document = json.loads(out)
    assert code == 0
    assert document["classes"] == ["blue", "green", "red"]
    assert document["rows"] == {"train": 48, "validation": 12, "test": 12}
    assert document["modalities"]["text"]["tokens"]["length"] == 4
    assert document["labels"]["counts"]["test"] == {"blue": 4, "green": 4, "red": 4}
    assert "12 of 12 test rows have a text that is in train" in document["warnings"]


def test_without_encoders(call, squares: Path, workplace: Path) -> None:
    """What needs no encoder is shown, and why the rest is not; nothing is written."""
    code, out, _ = call(str(squares), "--text-encoder", "nope", "--image-size", "48")
    page = " ".join(out.split())
    assert code == 0
    assert "what depends on the encoder is left out: unknown text encoder 'nope'" in page
    assert "squares of 48 pixels" in page
    assert not [path for path in workplace.iterdir() if path.name != "cache"]


def test_a_sheet(call, squares: Path, tiny: tuple[str, ...], workplace: Path) -> None:
    images: list[object] = [
        b"no picture",
        None,
        *pq.read_table(squares / "train.parquet")["image"].to_pylist()[2:],
    ]
    texts: list[object] = ["$x_1 <b> %s", None, "", *["word " * 90] * 45]
    folder = _changed(squares, workplace / "some", "train", image=images, text=texts)
    code, out, _ = call(str(folder), *tiny, "--plot", "sheet.png")
    assert code == 0
    assert out.endswith("picture: sheet.png\n")
    assert Image.open("sheet.png").size[0] == 6 * 2 * 160


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nope"], "dataset 'nope': no such file or folder"),
        (["{squares}", "--plot", "sheet.bmp"], "--plot sheet.bmp: must end in .png, .svg, .pdf"),
        (["{squares}", "--modalities", "smell"], "has no smell; its modalities: text, image"),
        (["{squares}", "--validation-fraction", "2"], "--validation-fraction 2.0: must be at most 0.4"),
        (["{squares}", "--columns", "label=colour"], "has no column 'colour'; its columns: text, image"),
        (["{squares}", "--format", "xls"], "unknown format 'xls'; known: "),
    ],
)
def test_mistakes(call, squares: Path, arguments: list[str], message: str) -> None:
    code, out, err = call(*(argument.replace("{squares}", str(squares)) for argument in arguments))
    assert (code, out) == (2, "")
    assert message in err
    assert len(err.splitlines()) == 1


def test_features_alone_have_no_sheet(call, workplace: Path) -> None:
    folder = workplace / "numbers"
    folder.mkdir()
    content = pa.table({"features": [[1.0], [2.0]], "label": ["a", "b"]})
    for split in ("train", "validation", "test"):
        pq.write_table(content, folder / f"{split}.parquet")
    assert "vectors of 1 numbers: 1 in nearly all" in call(str(folder))[1]
    code, _, err = call(str(folder), "--plot", "sheet.png")
    assert code == 2
    assert err.endswith("has neither pictures nor texts\n")


def test_a_table_with_pictures_beside_it(call, squares: Path, tiny: tuple[str, ...], workplace: Path) -> None:
    """Columns are found, files are read, and splits are made in which each picture has one side."""
    (workplace / "pictures").mkdir()
    lines = ["file;caption;genre"]
    for number, row in enumerate(pq.read_table(squares / "train.parquet").to_pylist()):
        (workplace / "pictures" / f"{number}.png").write_bytes(row["image"])
        lines += [
            f"{number}.png;{row['label']} {number}, said {time} times;{row['label']}" for time in range(5)
        ]
    (workplace / "my.csv").write_text("\n".join(lines))
    code, out, _ = call("my.csv", *tiny, "--validation-fraction", "0.2", "--json")
    document = json.loads(out)
    assert code == 0
    assert (document["format"], document["files"]) == ("csv", {"my.csv": 240})
    assert {name: found["column"] for name, found in document["modalities"].items()} == {
        "text": "caption",
        "image": "file",
    }
    assert document["rows"] == {"train": 145, "validation": 50, "test": 45}
    assert document["modalities"]["image"]["across"] == {
        "validation": {"train": 0},
        "test": {"train": 0, "validation": 0},
    }
    assert any(
        "(50 and 45 of 240, in groups of equal pictures or texts)" in note for note in document["notes"]
    )
    assert document["labels"]["counts"]["test"] == {"blue": 15, "green": 15, "red": 15}


def test_names_that_a_terminal_would_obey(call, workplace: Path) -> None:
    lines = ["text,label,split"]
    for split in ("train", "validation", "test"):
        lines += [f"a {split},\x1b[31mred,{split}", f"b {split},blue,{split}", f"c {split},,{split}"]
    (workplace / "my.csv").write_text("\n".join(lines))
    code, out, _ = call("my.csv", "--text-encoder", "nope", "--bad-rows", "skip")
    assert code == 0
    assert "\x1b" not in out
    assert "\\x1b[31mred" in out
    assert "rows without a label are left out: 3" in out
    assert "not used" not in out


def test_validation_by_another_name(call, squares: Path, tiny: tuple[str, ...], workplace: Path) -> None:
    folder = shutil.copytree(squares, workplace / "some")
    (folder / "validation.parquet").rename(folder / "val.parquet")
    code, out, _ = call(str(folder), *tiny)
    assert code == 0
    assert "val.parquet (12)" in out
    assert "became" not in out
