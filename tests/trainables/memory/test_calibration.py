"""What is measured of a GPU, and from predicted memory to what a trial is given."""

from __future__ import annotations

import pytest
import torch

from tests.tasks import classification
from trainables.memory.calibration import (
    CONTEXT_MARGIN,
    GPU_MARGIN,
    Calibration,
    find_calibration,
    load_calibrations,
    needed_on_cpu,
    needed_on_gpu,
    save_calibration,
)
from trainables.memory.comparing import compare_device
from trainables.memory.predictor import MemoryPredictor
from trainables.step.setting import TrainingSetting
from trainables.towers import resolve_encoder
from trainables.units import GIB, MIB


def _calibration(device: str = "NVIDIA A10G", **changes: object) -> Calibration:
    known = Calibration.of(device, 8.6, 400 * MIB, predicted=[99, 51, 90], measured=[100, 50, 100])
    return Calibration(**{**known.to_dict(), **changes})


def test_errors_are_those_of_the_prediction() -> None:
    found = _calibration()
    assert (found.median, found.worst) == (pytest.approx(0.02), pytest.approx(0.1))
    assert (found.points, found.torch, found.context) == (3, torch.__version__, 400 * MIB)


def test_calibrations_are_kept_by_device_and_version(workplace) -> None:
    assert find_calibration("NVIDIA A10G") is None
    for known in (_calibration(), _calibration("NVIDIA H100 80GB HBM3"), _calibration(torch="1.0.0")):
        save_calibration(known)
    save_calibration(_calibration(context=300 * MIB))
    assert [known.context for known in load_calibrations()].count(300 * MIB) == 1
    assert len(load_calibrations()) == 3
    assert find_calibration("NVIDIA A10G").context == 300 * MIB
    assert find_calibration("H100").device == "NVIDIA H100 80GB HBM3"
    assert find_calibration("") is None


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("{", "is damaged ("),
        ('[{"device": "NVIDIA A10G", "attention": "eager", "slope": 1.1}]', "is of another version"),
    ],
)
def test_a_file_that_cannot_be_read_is_left_out_and_replaced(workplace, capsys, text, line) -> None:
    path = save_calibration(_calibration())
    path.write_text(text)
    assert load_calibrations() == []
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith(f"{path} {line}")
    assert said.endswith("not used; run `calibrate` again")
    save_calibration(_calibration())
    assert load_calibrations() == [_calibration()]


def test_trials_are_given_a_margin() -> None:
    assert needed_on_gpu(10 * GIB, None) == round((1 + GPU_MARGIN) * 10 * GIB) + CONTEXT_MARGIN
    assert needed_on_gpu(10 * GIB, _calibration()) == pytest.approx(11 * GIB)
    assert needed_on_gpu(10 * GIB, _calibration(worst=0.001)) == round((1 + GPU_MARGIN) * 10 * GIB)
    assert needed_on_cpu(GIB) > 2 * GIB


@pytest.mark.slow
def test_predictions_for_this_machine_are_compared_with_real_steps(workplace, tiny_encoders) -> None:
    encoders = {m: resolve_encoder(m, str(tiny_encoders[f])) for m, f in (("text", "bert"), ("image", "vit"))}
    setting = TrainingSetting(target="cpu", batch_size=4, text_length=8, image_size=32)
    members = [("linear", {}), ("pmf", {"n_fusion_layers": 1}), ("pmf", {"n_fusion_layers": 3}), ("lora", {})]
    predictor = MemoryPredictor(encoders, classification(3), setting)
    calibration, points = compare_device(predictor, members)
    assert [point.method for point in points] == ["linear", "pmf", "pmf", "lora"]
    if not torch.cuda.is_available():
        assert calibration is None
        assert all(point.measured == point.predicted == point.measured_tensors for point in points)
    else:
        assert calibration.points == 4
        assert 200 * MIB < calibration.context < GIB
