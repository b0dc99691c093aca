"""JSON: an object on each line, a list of objects, or an object of lists."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from trainables.data.readers import ALL, READERS, Found
from trainables.errors import UserError
from trainables.reading_settings import ReadingSettings

ROWS: list[dict[str, Any]] = [
    {"image": "0.png", "text": "a box", "label": 3},
    {"image": None, "text": "", "label": 4},
    {"text": 'two\nlines "é"', "label": 3},
]
WHOLE = [{"image": None, **row} for row in ROWS]


def found(path: Path, columns: str | None = None) -> Found:
    return READERS["jsonl"].read("mine", path, ReadingSettings(columns=columns))


def written(folder: Path, text: str, name: str = "captions.jsonl") -> Path:
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def rows(path: Path, **how: Any) -> list[dict[str, Any]]:
    (part,) = found(path, **how).parts[ALL]
    return [row for batch in part.batches(part.schema.names, 2) for row in batch.to_pylist()]


def refusal(path: Path, **how: Any) -> str:
    with pytest.raises(UserError) as error:
        found(path, **how)
    return str(error.value)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("\n".join(map(json.dumps, ROWS)), "captions.jsonl line 3"),
        ("\ufeff" + "\n\n".join(map(json.dumps, ROWS)), "captions.jsonl line 5"),
        (json.dumps(ROWS), "captions.jsonl entry 3"),
        (json.dumps(ROWS, indent=1), "captions.jsonl entry 3"),
        (json.dumps({key: [row[key] for row in WHOLE] for key in WHOLE[0]}), "captions.jsonl entry 3"),
    ],
    ids=["lines", "blank lines", "list", "indented", "lists"],
)
def test_all_forms_are_read(tmp_path: Path, text: str, word: str) -> None:
    path = written(tmp_path, text)
    assert rows(path) == WHOLE
    assert found(path).parts[ALL][0].word(2) == word


def test_types_are_those_of_the_values(tmp_path: Path) -> None:
    row = {
        "text": "007",
        "label": 1,
        "score": 1,
        "tags": ["a"],
        "flag": True,
        "vector": [1, 2.5],
        "nothing": None,
    }
    (part,) = found(written(tmp_path, f"{json.dumps(row)}\n{json.dumps({**row, 'score': 0.5})}")).parts[ALL]
    assert {field.name: str(field.type) for field in part.schema} == {
        "text": "large_string",
        "label": "int64",
        "score": "double",
        "tags": "list<item: string>",
        "flag": "bool",
        "vector": "list<item: double>",
        "nothing": "null",
    }


def test_nan_is_missing(tmp_path: Path) -> None:
    """As pandas writes it."""
    assert rows(written(tmp_path, '{"text": NaN, "label": 1}\n{"text": "a", "label": 2}'))[0]["text"] is None


def test_bad_lines_are_refused_together(tmp_path: Path) -> None:
    lines = [
        '{"text": "a", "label": 1}',
        '{"text": "a", "label": }',
        "[1]",
        '{"text": 1, "text": 2}',
        '{"text": "a"',
    ]
    said = refusal(written(tmp_path, "\n".join(lines)))
    assert "captions.jsonl: 4 of 5 lines are no JSON objects" in said
    assert "Expecting value (line 2)" in said
    assert "no object (line 3)" in said
    assert "the key 'text' is there twice (line 4)" in said


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is empty, 0 bytes"),
        ("[]", "has no rows"),
        ("[1, 2]", "entry 1 is no object"),
        ('{"text": {"0": "a"}, "label": {"0": 1}}', "is an object of objects, as pandas writes it"),
        ('{"images": [1], "annotations": [1, 2]}', "is an object of lists of 1 to 2 entries"),
        ('{\n"info": {},\n"images": []\n}', "it has info, images"),
        ("[" * 100_000, "nested too deeply"),
        ("text,label\na,b", "line 1 is no JSON"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    assert reason in refusal(written(tmp_path, text))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"images": [{}], "annotations": [{}, {}]}', "whose images and annotations are lists of objects"),
        ('{"version": 1, "data": [{"text": "a"}]}', "whose data is a list of objects; write one list"),
        (
            '{"train": [{"text": "a"}], "test": [{}]}',
            "has several splits (train, test); write a file for each",
        ),
        ('{"train": [{"text": "a"}], "test": [{}, {}]}', "has several splits (train, test)"),
    ],
)
def test_rows_that_are_further_inside_are_refused(tmp_path: Path, text: str, reason: str) -> None:
    assert reason in refusal(written(tmp_path, text, "captions.json"))


def test_values_of_several_types_are_refused_where_they_are_needed(tmp_path: Path) -> None:
    path = written(tmp_path, '{"text": "a", "extra": 1}\n{"text": "b", "extra": "x"}')
    assert found(path).notes == ("captions.jsonl: column 'extra' is left out, it has numbers and texts",)
    assert rows(path) == [{"text": "a"}, {"text": "b"}]
    assert "column 'extra' has numbers and texts" in refusal(path, columns="label=extra")


def test_half_a_character_is_no_text(tmp_path: Path) -> None:
    path = written(tmp_path, '{"text": "\\ud83d", "label": "a"}')
    assert "half of a character" in refusal(path, columns="text=text")


def test_a_folder_with_a_file_for_each_split(tmp_path: Path) -> None:
    for name in ("train", "dev", "test"):
        written(tmp_path, json.dumps({"text": name, "label": 1}), f"{name}.jsonl")
    assert READERS["jsonl"].recognises(tmp_path)
    assert [part.word(0) for parts in found(tmp_path).parts.values() for part in parts] == [
        "train.jsonl line 1",
        "dev.jsonl line 1",
        "test.jsonl line 1",
    ]


def test_large_numbers(tmp_path: Path) -> None:
    assert rows(written(tmp_path, '{"label": 9007199254740993}'))[0]["label"] == 9007199254740993
    with pytest.raises(UserError, match="numbers of types that differ"):
        found(written(tmp_path, '{"label": 1}\n{"label": ' + "9" * 30 + "}"), "label=label")
    assert pa.types.is_floating(
        found(written(tmp_path, '{"label": 1e3}')).parts[ALL][0].schema.field("label").type
    )
