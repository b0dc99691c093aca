"""UPMC Food-101: titles, texts and classes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.trainables.data.readers.test_published import found, noted, rows
from trainables.errors import UserError
from trainables.testing.layouts import published


def test_titles_are_taken_as_they_are(tmp_path: Path) -> None:
    first, second, *_ = rows(found("food101", tmp_path, published.food101()), "train")
    assert first == {
        "text": "apple_pie | recipe 0 &amp; more",
        "image": "images/train/apple_pie/apple_pie_0.jpg",
        "label": "apple_pie",
    }
    assert second["text"] == '[["Gran\'s sushi no. 1" ]]'


def test_there_is_no_validation_split_unless_it_is_listed(tmp_path: Path) -> None:
    assert set(found("food101", tmp_path / "a", published.food101()).parts) == {"train", "test"}
    assert set(found("food101", tmp_path / "b", published.food101_texts()).parts) == {"train", "test"}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "sushi_1.jpg,Rolls, and more,sushi",
            r"train_titles\.csv line 2 has 4 fields; expected picture, title",
        ),
        ("sushi_1.jpg,sushi", "line 2 has 2 fields"),
        ("image,title,class", "line 2: 'image' is no picture's name such as"),
        ('sushi_1.jpg,"Rolls,sushi', "line 2"),
        ('sushi_1.jpg,"Rolls,sushi\nsushi_2.jpg,More"" rolls",sushi', "line 2"),
        ('sushi_1.jpg,"Rolls\nsushi_2.jpg,More rolls",sushi', "line 2: a quote is left open"),
        ('sushi_1.jpg,"Rolls" of rice,sushi', "line 2 is no CSV"),
    ],
)
def test_titles_with_other_lines_are_refused(tmp_path: Path, line: str, message: str) -> None:
    files = published.food101()
    files["texts/train_titles.csv"] = f"apple_pie_0.jpg,A pie,apple_pie\n{line}\nsushi_3.jpg,Rice,sushi\n"
    with pytest.raises(UserError, match=message):
        found("food101", tmp_path, files)


def test_a_title_may_have_two_lines(tmp_path: Path) -> None:
    files = published.food101()
    files["texts/train_titles.csv"] += 'sushi_1.jpg,"Rolls\nof rice",sushi\n'
    read = found("food101", tmp_path, files)
    assert rows(read, "train")[-1]["text"] == "Rolls\nof rice"
    assert read.parts["train"][0].word(9) == "train_titles.csv line 10"


def test_moPEs_folder_of_titles_has_another_name(tmp_path: Path) -> None:
    files = {name.replace("texts/", "text/"): content for name, content in published.food101().items()}
    assert len(rows(found("food101", tmp_path, files), "train")) == 9


@pytest.mark.parametrize(
    ("layout", "names"),
    [
        ("mope", ["apple_pie", "sushi"]),
        ("missing_aware_prompts", ["sushi", "apple_pie"]),
        ("kaggle", None),
    ],
)
def test_classes_have_the_order_that_a_file_states(
    tmp_path: Path, layout: str, names: list[str] | None
) -> None:
    read = found("food101", tmp_path, published.LAYOUTS["food101"][layout]())
    assert json.loads(read.metadata.get("paretofuse.classes", "null")) == names


def test_pictures_without_a_text_are_left_out(tmp_path: Path) -> None:
    texts = published.food101_texts()
    del texts["texts_txt/sushi/sushi_1.txt"]
    texts["texts_txt/sushi/sushi_3.txt"] = " \n"
    read = found("food101", tmp_path / "a", texts)
    assert len(rows(read, "train")) == 7
    assert "left out: 2 without a text" in noted(read)
    split = published.food101_split_json()
    del split["text.json"]["sushi_1.jpg"]
    read = found("food101", tmp_path / "b", split)
    assert len(rows(read, "train")) == 5
    assert "left out: 1 without a text" in noted(read)


def test_other_files_beside_the_pictures(tmp_path: Path) -> None:
    files: dict[str, Any] = {
        **published.food101_texts(),
        "images/train/sushi/Thumbs.db": "",
        "images/.x/y": "",
    }
    assert len(rows(found("food101", tmp_path, files), "train")) == 9
    files |= {"images/train/sushi/new.jpg": b"", "texts_txt/sushi/sushi_1.txt": b"\xff"}
    with pytest.raises(UserError) as error:
        found("food101", tmp_path, files)
    assert "1 with a picture that is not called CLASS_NUMBER.jpg (images/train/sushi/new.jpg)" in str(
        error.value
    )
    assert "1 with a text that is not in UTF-8 (images/train/sushi/sushi_1.jpg)" in str(error.value)


def test_texts_without_a_picture_are_said(tmp_path: Path) -> None:
    files = published.food101_texts()
    del files["images/train/sushi/sushi_3.jpg"]
    (note,) = [each for each in found("food101", tmp_path, files).notes if "left out" in each]
    assert note == "left out: 1 without a picture (texts_txt/sushi/sushi_3.txt)"
