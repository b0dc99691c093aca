"""CSV, TSV and the like: read exactly, or refused with the numbers of the lines."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from trainables.data.readers import ALL, READERS, Found, Part
from trainables.errors import UserError
from trainables.reading_settings import ReadingSettings

LINES = [f"{i}.png,a red box number {i},{'red' if i % 2 else 'blue'}" for i in range(12)]


def found(path: Path, columns: str | None = None) -> Found:
    return READERS["csv"].read("mine", path, ReadingSettings(columns=columns))


def written(folder: Path, lines: list[str], name: str = "captions.csv", **how: Any) -> Path:
    path = folder / name
    ends = {"newline": "", "encoding": "utf-8", **how}
    with path.open("w", **ends) as file:
        file.write("\n".join(lines) + "\n")
    return path


def rows(path: Path, split: str = ALL) -> list[dict[str, str]]:
    return [row for part in found(path).parts[split] for row in part.table.to_pylist()]  # type: ignore[attr-defined]


def texts(part: Part) -> list[str]:
    return [text for batch in part.batches(["text"], 2) for text in batch["text"].to_pylist()]


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as error:
        found(path)
    return str(error.value)


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_found(tmp_path: Path, delimiter: str) -> None:
    """Whatever the other delimiters do within the texts."""
    others = [each for each in ",;|" if each != delimiter]
    expected = [
        {"image": f"{i}.png", "text": f"one{others[0]} two{others[1]} {i}", "label": "red"} for i in range(5)
    ]
    lines = [
        delimiter.join(row.values()) for row in [dict(zip(expected[0], expected[0], strict=True)), *expected]
    ]
    assert rows(written(tmp_path, lines)) == expected


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252"]
)
def test_the_encoding_is_found_and_said(tmp_path: Path, encoding: str) -> None:
    path = written(tmp_path, ["image,text,label", "0.png,Café “Zoë”,blå", *LINES], encoding=encoding)
    assert rows(path)[0] == {"image": "0.png", "text": "Café “Zoë”", "label": "blå"}
    assert bool(found(path).notes) != encoding.startswith("utf-8")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("text,label\nжёлтый,a\nлилия,b\n".encode("cp1251"), "line 2 is no text in UTF-8"),
        ("text,label\n赤い箱,a\n".encode("shift-jis"), "line 2 is no text in UTF-8"),
        (
            "text,label\nnaïve café,a\nblå,b\n".encode().replace("å".encode(), b"\xc3"),
            "line 3 is no text in UTF-8",
        ),
        (b"text,label\na,b\na\0b,c\n", "line 3 has a zero byte"),
        (b"", "is empty, 0 bytes"),
        (b"\xef\xbb\xbf\n \n", "is empty"),
        (b"text,label\n", "has a header and no rows"),
        (b"PK\x03\x04rest", "is a ZIP archive; unpack it, and name the folder"),
        (b"<!DOCTYPE html><html></html>", "is HTML"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        (b"nothing that delimits\nanything\n", "has no delimiter (comma, semicolon, tab, |)"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "captions.csv"
    path.write_bytes(content)
    assert reason in refusal(path)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_may_end_in_any_way(tmp_path: Path, end: str) -> None:
    path = written(tmp_path, [end.join(["image,text,label", *LINES, "", ",,"])])
    assert len(rows(path)) == len(LINES)
    assert found(path).parts[ALL][0].word(3) == "captions.csv line 5"


def test_texts_in_quotes_may_hold_anything(tmp_path: Path) -> None:
    texts = [
        'say "hi"',
        "one, two",
        "two\nlines, and\n\nthree",
        "",
        " spaces ",
        "NA",
        "null",
        "None",
        "007",
        "x" * 200_000,
    ]
    path = tmp_path / "captions.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerows(
            [["image", "text", "label"], *([f"{i}.png", text, "a"] for i, text in enumerate(texts))]
        )
    assert [row["text"] for row in rows(path)] == texts
    assert found(path).parts[ALL][0].word(4) == "captions.csv line 9"


def test_spaces_after_delimiters_are_no_part_of_the_texts(tmp_path: Path) -> None:
    path = written(tmp_path, ["image, text, label", '0.png, "one, two", red', "1.png, three, red"])
    assert [row["text"] for row in rows(path)] == ["one, two", "three"]
    assert {row["label"] for row in rows(path)} == {"red"}


def test_commas_that_are_not_quoted_are_refused_together(tmp_path: Path) -> None:
    bad = [
        line.replace("box", "box, seen from above,") if i % 3 == 0 else line for i, line in enumerate(LINES)
    ]
    said = refusal(written(tmp_path, ["image,text,label", *bad, "12.png,red"]))
    assert "captions.csv: 5 of 13 lines are no rows" in said
    assert "4 have 5 fields, the header 3 (lines 2, 5, 8, 11)" in said
    assert "1 have 2 fields, the header 3 (line 14)" in said
    one = refusal(written(tmp_path, ["image,text,label", *LINES, "12.png,a, b,red"]))
    assert "captions.csv line 14 has 4 fields, the header 3" in one


@pytest.mark.parametrize(
    "closing", ['9.png,"a box",red', '9.png,a box",red', '9.png,a "box",red', '9.png,a box,red"', None]
)
def test_a_quote_that_is_left_open_is_refused(tmp_path: Path, closing: str | None) -> None:
    lines = [
        LINES[0],
        '1.png,"a red box number 1,red',
        *LINES[2:9],
        *([closing] if closing else []),
        *LINES[10:],
    ]
    assert "line 3" in refusal(written(tmp_path, ["image,text,label", *lines]))


def test_a_quote_that_swallows_one_row_is_refused(tmp_path: Path) -> None:
    lines = [*LINES[:4], '4.png,"a red box,red', '5.png,a box",red', *LINES[6:]]
    assert "line 6 has a quotation mark that is left open" in refusal(
        written(tmp_path, ["image,text,label", *lines])
    )


def test_tabs_need_no_quotes(tmp_path: Path) -> None:
    path = written(tmp_path, ["text\tlabel", 'a 5" nail\tx', '"Hello" he said\ty', '"open\tz'])
    assert [row["text"] for row in rows(path)] == ['a 5" nail', '"Hello" he said', '"open']
    assert "quotation marks" in found(path).notes[0]


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (LINES, "has no header: its first line is '0.png,a red box number 0,blue'"),
        (["a box,0", "a ball,1"], "has no header"),
        (
            ["a box,red", "a ball,blue", "a hat,red", "a pen,red"],
            "has no header: its first line is 'a box,red'",
        ),
        (
            ["My captions,,", "image,text,label", "0.png,a,b"],
            "has no header: its first line is 'My captions,,'",
        ),
        (["text,text,label", "a,b,c"], "has the column 'text' twice"),
    ],
)
def test_a_header_is_needed(tmp_path: Path, lines: list[str], reason: str) -> None:
    assert reason in refusal(written(tmp_path, lines))


def test_a_column_without_a_name_is_left_out(tmp_path: Path) -> None:
    """As pandas writes its index; empty ones, as Excel writes them, need no word."""
    path = written(tmp_path, [",text,label,", "0,a,x,", "1,b,y,"])
    assert rows(path) == [{"text": "a", "label": "x"}, {"text": "b", "label": "y"}]
    assert found(path).notes == ("captions.csv: a column without a name is left out",)
    assert not found(written(tmp_path, ["text,label,", "a,x,", "b,y,"])).notes


def test_excel_may_state_the_delimiter(tmp_path: Path) -> None:
    path = written(tmp_path, ["sep=;", "text;label", "a, b;x"])
    assert rows(path) == [{"text": "a, b", "label": "x"}]
    assert found(path).parts[ALL][0].word(0) == "captions.csv line 3"


def test_a_column_says_the_split(tmp_path: Path) -> None:
    words = ["train", "Training", "val", "dev", "validation", "valid", "test", "testing"]
    path = written(tmp_path, ["text,label,Split", *(f"{word},a,{word}" for word in words)])
    assert {split: texts(part) for split, (part,) in found(path).parts.items()} == {
        "train": words[:2],
        "validation": words[2:6],
        "test": words[6:],
    }
    assert found(path).parts["test"][0].word(1) == "captions.csv line 9"
    assert found(path).notes == ("column 'Split' says the split of each row",)


def test_a_split_that_is_none_is_refused(tmp_path: Path) -> None:
    said = refusal(written(tmp_path, ["text,label,split", "a,x,train", "b,x,extra", "c,x,"]))
    assert "captions.csv line 3: column 'split' is 'extra'; write train, validation or test" in said
    assert "line 3" in refusal(written(tmp_path, ["text,label,split", "a,x,train", "b,x,"]))


def test_a_set_may_be_something_else(tmp_path: Path) -> None:
    path = written(tmp_path, ["text,label,set", "a,x,lego", "b,x,train set"])
    assert list(found(path).parts) == [ALL]
    assert list(found(written(tmp_path, ["text,set", "a,train", "b,test"]), "label=set").parts) == [ALL]


def test_a_folder_with_a_file_for_each_split(tmp_path: Path) -> None:
    for name, text in {"train.csv": "a", "dev.csv": "b", "test.csv": "c"}.items():
        written(tmp_path, ["text,label", f"{text},x"], name)
    assert READERS["csv"].recognises(tmp_path)
    assert [rows(tmp_path, split) for split in ("train", "validation", "test")] == [
        [{"text": text, "label": "x"}] for text in "abc"
    ]
    written(tmp_path, ["Text , LABEL", "b, x"], "dev.csv")
    assert rows(tmp_path, "validation") == [{"text": "b", "label": "x"}]
    written(tmp_path, ["text,label,split", "c,x,train"], "test.csv")
    assert "test.csv line 2: column 'split' is 'train'; the file's name says test" in refusal(tmp_path)


def test_quotation_marks_that_quote_nothing_are_said(tmp_path: Path) -> None:
    """They are inches, or what is left of a text in quotes whose line break is lost."""
    lines = [
        "image,text,label",
        '0.png,a 5" disk,red',
        '1.png,"a ""box"", red",red',
        '2.png,"two\nlines",blue',
    ]
    path = written(tmp_path, [*lines, *LINES])
    assert [row["text"] for row in rows(path)[:3]] == ['a 5" disk', 'a "box", red', "two\nlines"]
    kept = "captions.csv: quotation marks in texts that are not in quotes are kept (line 2)"
    assert found(path).notes == (kept,)
