"""Trained models answer as the search that has trained them would."""

from __future__ import annotations

from pathlib import Path

import torch

from trainables import load_model
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
