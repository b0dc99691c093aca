"""Predictions that outlive a process."""

from __future__ import annotations

import pytest

from tests.tasks import classification
from trainables.memory import memo
from trainables.memory.memo import PredictionMemo
from trainables.memory.predictor import MemoryPredictor
from trainables.step.setting import TrainingSetting
from trainables.towers import resolve_encoder


def test_remembers_for_as_long_as_the_program_is_the_same(tmp_path, monkeypatch) -> None:
    PredictionMemo(tmp_path / "memo").put("a", {"total": 3})
    again = PredictionMemo(tmp_path / "memo")
    assert again.get("a") == {"total": 3}
    assert again.get("b") is None
    monkeypatch.setattr(memo, "_program", lambda: "another version")
    assert again.get("a") is None


def test_does_without_a_file_that_cannot_be_used(tmp_path) -> None:
    (tmp_path / "file").touch()
    useless = PredictionMemo(tmp_path / "file" / "below a file")
    useless.put("a", {"total": 3})
    assert useless.get("a") is None
    (tmp_path / "folder").mkdir()
    assert PredictionMemo(tmp_path / "folder").get("a") is None


def _zero_a_page(content: bytes) -> bytes:
    return content[:4096] + bytes(4096) + content[8192:]


def _flip_in_a_name(content: bytes) -> bytes:
    return content.replace(b"CREATE TABLE memo", b"CREATE TABLE m\xeemo")


def _flip_a_digit(content: bytes) -> bytes:
    assert content.count(b'{"total": 3}') == 1
    return content.replace(b'{"total": 3}', b'{"total": 2}')


@pytest.mark.parametrize(
    "harm",
    [
        lambda content: b"no database at all" * 100,
        lambda content: bytes(len(content)),
        lambda content: content[: len(content) // 2 + 5],
        _zero_a_page,
        _flip_in_a_name,
        _flip_a_digit,
    ],
    ids=["foreign", "zeroed", "cut", "page", "name", "flipped"],
)
def test_a_damaged_file_is_set_aside_and_made_again(tmp_path, capfd, harm) -> None:
    path = tmp_path / "memo.sqlite"
    PredictionMemo(path).put("a", {"total": 3})
    path.write_bytes(harm(path.read_bytes()))
    kept = PredictionMemo(path)
    assert kept.get("a") is None
    kept.put("a", {"total": 3})
    assert PredictionMemo(path).get("a") == {"total": 3}
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith(f"{path} was damaged (")
    assert (tmp_path / "memo.damaged").exists()


def test_a_prediction_is_made_once(tmp_path, tiny_encoders, monkeypatch) -> None:
    encoders = {m: resolve_encoder(m, str(tiny_encoders[f])) for m, f in (("text", "bert"), ("image", "vit"))}
    setting = TrainingSetting(batch_size=4, text_length=8, image_size=32)

    def predictor(**changes: object) -> MemoryPredictor:
        kept = PredictionMemo(tmp_path / "memo")
        return MemoryPredictor(encoders, classification(3), setting, memo=kept).changed(**changes)

    first = predictor().predict("pmf", {"n_fusion_layers": 1})
    with monkeypatch.context() as patch:
        patch.setattr(MemoryPredictor, "_run", lambda *_: None)  # nothing is run any more
        assert predictor().predict("pmf", {"n_fusion_layers": 1}) == first
        config = {"method": "pmf", "n_fusion_layers": 1, "learning_rate": 0.1}
        assert predictor().predict_configuration(config) == first
    for changes in ({"batch_size": 8}, {"gradient_checkpointing": True}, {"optimizer": "sgd"}):
        assert predictor(**changes).predict("pmf", {"n_fusion_layers": 1}) != first
    assert predictor().predict("pmf", {"n_fusion_layers": 2}) != first
