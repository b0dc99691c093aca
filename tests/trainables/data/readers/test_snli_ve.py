"""SNLI-VE: pairs, pictures and classes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.trainables.data.readers.test_published import found, noted, rows
from trainables.data import open_dataset
from trainables.errors import UserError
from trainables.reading_settings import ReadingSettings
from trainables.testing.layouts import published


def test_the_text_is_the_hypothesis(tmp_path: Path) -> None:
    dataset = open_dataset(f"snli_ve:{published.write(tmp_path, published.snli_ve())}")
    assert {name: each.column for name, each in dataset.modalities.items()} == {
        "text": "sentence2",
        "image": "image",
    }
    assert dataset.task.to_dict()["classes"] == list(published.CLASSES)


def test_columns_add_the_premise(tmp_path: Path) -> None:
    columns = "text=sentence2,premise:text=sentence1,image=image"
    address = f"snli_ve:{published.write(tmp_path, published.snli_ve())}"
    dataset = open_dataset(address, reading=ReadingSettings(columns=columns))
    batch = next(iter(dataset.batches("test", ["sentence1", "sentence2"])))
    assert dataset.contents("premise", batch)[0] == "premise 9"
    assert dataset.contents("text", batch)[0] == "hypothesis 9"


def test_pairs_without_a_decision_are_left_out(tmp_path: Path) -> None:
    files = published.snli_ve()
    for line in files["snli_ve_train.jsonl"][1:3]:
        line["gold_label"] = "-"
    read = found("snli_ve", tmp_path, files)
    assert len(rows(read, "train")) == 4
    assert "left out: 2 with the label '-'" in noted(read)
    assert "(snli_ve_train.jsonl line 2, snli_ve_train.jsonl line 3)" in noted(read)


def test_mmbts_lists_have_paths_and_a_hard_part(tmp_path: Path) -> None:
    files = published.snli_ve(name="{}.jsonl", pictures="pictures")
    for split in ("train", "dev", "test"):
        for line in files[f"{split}.jsonl"]:
            line["label"] = line.pop("gold_label")
            line["img"] = f"pictures/{line.pop('Flickr30K_ID')}.jpg"
    read = found("snli_ve", tmp_path, {**files, "test_hard.jsonl": files["test.jsonl"]})
    assert rows(read, "test")[0]["image"] == "pictures/1009.jpg"
    assert "test_hard.jsonl is not read" in noted(read)


def test_other_labels_are_refused(tmp_path: Path) -> None:
    files = published.snli_ve()
    files["snli_ve_dev.jsonl"][2]["gold_label"] = "entailed"
    with pytest.raises(UserError, match=r"1 with the label 'entailed', which is none of .*dev\.jsonl line 3"):
        found("snli_ve", tmp_path, files)


def test_a_picture_may_be_named_with_its_suffix_or_by_a_number(tmp_path: Path) -> None:
    files = published.snli_ve()
    files["snli_ve_test.jsonl"][0]["Flickr30K_ID"] = "1009.jpg"
    files["snli_ve_test.jsonl"][1]["Flickr30K_ID"] = 1010
    images = [row["image"] for row in rows(found("snli_ve", tmp_path, files), "test")]
    assert images == [f"flickr30k_images/{number}.jpg" for number in (1009, 1010, 1011)]
