"""Predictions that outlive a process."""

from __future__ import annotations

from tests.tasks import classification
from trainables.memory.memo import PredictionMemo
from trainables.memory.predictor import MemoryPredictor
from trainables.step.setting import TrainingSetting
from trainables.towers import resolve_encoders


def test_a_prediction_is_made_once(tmp_path, tiny_encoders, monkeypatch) -> None:
    names = {"text": str(tiny_encoders["bert"]), "image": str(tiny_encoders["vit"])}
    setting = TrainingSetting(batch_size=4, text_length=8, image_size=32)

    def predictor(pooling: str = "cls", **changes: object) -> MemoryPredictor:
        kept = PredictionMemo(tmp_path / "memo")
        encoders = resolve_encoders(names, {"text": pooling})
        return MemoryPredictor(encoders, classification(3), setting, memo=kept).changed(**changes)

    first = predictor().predict("pmf", {"n_fusion_layers": 1})
    with monkeypatch.context() as patch:
        patch.setattr(MemoryPredictor, "_run", lambda *_: None)  # nothing is run any more
        assert predictor().predict("pmf", {"n_fusion_layers": 1}) == first
        config = {"method": "pmf", "n_fusion_layers": 1, "learning_rate": 0.1}
        assert predictor().predict_configuration(config) == first
        for decay in (0.01, 0.02):  # no byte depends on the rate
            assert predictor().predict_configuration({**config, "weight_decay": decay}) == first
    for changes in ({"batch_size": 8}, {"gradient_checkpointing": True}, {"optimizer": "sgd"}):
        assert predictor(**changes).predict("pmf", {"n_fusion_layers": 1}) != first
    assert predictor().predict("pmf", {"n_fusion_layers": 2}) != first
    assert predictor("mean").predict("pmf", {"n_fusion_layers": 1}) != first
    with monkeypatch.context() as patch:  # a variable of the libraries' own
        patch.setenv("CUBLAS_WORKSPACE_CONFIG", ":65536:4")
        assert predictor().predict("pmf", {"n_fusion_layers": 1}).memory > first.memory
    other = predictor(context_bytes=1).predict("pmf", {"n_fusion_layers": 1})
    assert (other.reserved, other.context) == (first.reserved, 1)
