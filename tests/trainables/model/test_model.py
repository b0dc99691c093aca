"""Trained models answer as the search that has trained them would."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from PIL import Image

from trainables import load_model
from trainables.errors import UserError
from trainables.model import copy_model


def test_it_answers_as_in_the_search(trained) -> None:
    model = load_model(trained.folder)
    expected, _ = trained.run.trainer.outputs(trained.run.loader("test"))
    outputs = model.outputs(trained.rows)
    assert torch.allclose(outputs, expected, atol=1e-5)
    answers = model.predict(trained.rows, top=2)
    assert [a["label"] for a in answers] == trained.run.bench.task.decode(expected.argmax(dim=1))
    assert all(len(answer["probabilities"]) == 2 for answer in answers)


def test_a_copy_may_have_its_encoders(trained, tmp_path: Path) -> None:
    expected = load_model(trained.folder).outputs(trained.rows)
    copy_model(trained.folder, tmp_path / "alone", standalone=True)
    assert torch.equal(load_model(tmp_path / "alone").outputs(trained.rows), expected)


def test_a_missing_modality_is_a_blank_as_in_the_search(trained) -> None:
    model = load_model(trained.folder)
    for away, other in (("text", "image"), ("image", "text")):
        given = [row for row, values in enumerate(trained.rows) if values[other] is not None]
        loader = trained.run.loader("test").without([away])
        expected, _ = trained.run.trainer.outputs(loader)
        for nothing in ({}, {away: None}, {away: float("nan")}):
            rows = [{other: trained.rows[row][other], **nothing} for row in given]
            assert torch.allclose(model.outputs(rows), expected[given], atol=1e-5)


def test_pictures_may_be_given_in_any_way(trained, tmp_path: Path) -> None:
    model = load_model(trained.folder)
    row = trained.rows[0]
    (tmp_path / "picture.png").write_bytes(row["image"])
    path = tmp_path / "picture.png"
    given = [row["image"], path, str(path), Image.open(io.BytesIO(row["image"]))]
    outputs = model.outputs([{**row, "image": picture} for picture in given])
    assert torch.allclose(outputs, outputs[:1].expand_as(outputs), atol=1e-6)


def test_rows_are_read_a_batch_at_a_time(trained) -> None:
    model = load_model(trained.folder, batch_size=5)
    expected = model.outputs(trained.rows)
    read = []

    def rows():
        for number, row in enumerate(trained.rows):
            read.append(number)
            yield row

    found, sizes = [], []
    for batch, outputs in model.batches(rows()):
        assert len(batch) == len(outputs)
        assert len(read) == sum(sizes) + len(batch)
        sizes.append(len(batch))
        found.append(outputs)
    assert sizes == [5, 4]
    assert torch.equal(torch.cat(found), expected)
    assert torch.allclose(load_model(trained.folder, batch_size=1).outputs(trained.rows), expected, atol=1e-5)
    assert load_model(trained.folder).batch_size == 4
    assert model.outputs([]).shape == (0, 3)
    assert model.predict([]) == []


def test_the_module_takes_the_inputs(trained) -> None:
    model = load_model(trained.folder)
    inputs = model.inputs(trained.rows)
    assert set(inputs) == {"text", "image"} == set(model.modalities)
    with torch.no_grad():
        outputs = model.torch_module(inputs).outputs
    assert torch.allclose(outputs, model.outputs(trained.rows), atol=1e-5)
    assert not model.torch_module.training


def test_threads_may_share_it(trained) -> None:
    model = load_model(trained.folder, batch_size=3)
    expected = model.outputs(trained.rows)
    with ThreadPoolExecutor(4) as pool:
        for outputs in pool.map(model.outputs, [trained.rows] * 8):
            assert torch.equal(outputs, expected)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"texts": "a"}, "row 9: unknown modality 'texts'; accepted: text, image"),
        ({}, "row 9: has no value; accepted: at least one of text, image"),
        ({"text": None, "image": None}, "row 9: has no value"),
        ("a square", "row 9: is of the type str; accepted: values by modality, text, image"),
        ({"text": 3}, r"row 9: its text cannot be read: a value of the type int \(accepted: a text\)"),
        ({"image": "no.png"}, "row 9: its image cannot be read: a file that cannot be opened"),
        ({"image": b"GIF89a"}, "row 9: its image cannot be read: "),
    ],
)
def test_a_row_that_is_refused_is_named(trained, row, words) -> None:
    model = load_model(trained.folder)
    with pytest.raises(UserError, match=words) as refused:
        model.predict([*trained.rows, row])
    assert "\n" not in str(refused.value)


def test_a_device_that_is_not_there_is_refused(trained) -> None:
    for device in ("cuda:99", "abacus"):
        with pytest.raises(UserError, match=f"device '{device}': cannot be used here"):
            load_model(trained.folder, device)
    with pytest.raises(UserError, match="batch size 0: must be at least 1"):
        load_model(trained.folder, batch_size=0)
