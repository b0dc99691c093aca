"""From predicted bytes to what a device has to have."""

from __future__ import annotations

import pytest

from tests.tasks import classification
from trainables.memory.calibration import (
    CUDA_CONTEXT,
    Calibration,
    find_calibration,
    fit_line,
    load_calibrations,
    local_device,
    needed_on_cpu,
    needed_on_gpu,
    save_calibration,
)
from trainables.memory.fitting import calibrate_device
from trainables.memory.predictor import MemoryPredictor
from trainables.step.setting import TrainingSetting
from trainables.towers import resolve_encoder
from trainables.units import GIB


def _calibration(device: str = "NVIDIA A10G", **changes: object) -> Calibration:
    points = [GIB, 2 * GIB, 5 * GIB]
    known = fit_line(points, [round(1.1 * p + GIB) for p in points], device=device, attention="eager")
    return Calibration(**{**known.to_dict(), **changes})


def test_a_line_is_found() -> None:
    found = _calibration()
    assert found.slope == pytest.approx(1.1)
    assert found.intercept == pytest.approx(GIB)
    assert found.worst < 1e-6
    assert found.device_bytes(10 * GIB) == pytest.approx(12 * GIB)
    with pytest.raises(ValueError, match="three configurations"):
        fit_line([GIB, GIB, GIB], [1, 2, 3], device="", attention="eager")


def test_calibrations_are_kept_by_device_version_and_kernel(workplace) -> None:
    assert find_calibration("NVIDIA A10G", "eager") is None
    for known in (_calibration(), _calibration("NVIDIA H100 80GB HBM3"), _calibration(torch="1.0.0")):
        path = save_calibration(known)
    save_calibration(_calibration(slope=2.0))
    assert [known.slope for known in load_calibrations()].count(2.0) == 1
    assert len(load_calibrations()) == 3
    assert find_calibration("NVIDIA A10G", "eager").slope == 2.0
    assert find_calibration("H100", "eager").device == "NVIDIA H100 80GB HBM3"
    assert find_calibration("NVIDIA A10G", "sdpa") is None
    assert find_calibration("", "eager") is None
    path.write_text("{")
    assert load_calibrations() == []


def test_needs_have_a_margin_and_a_context() -> None:
    assert needed_on_gpu(1, None) > CUDA_CONTEXT
    assert needed_on_gpu(10 * GIB, None) > 11 * GIB
    assert needed_on_gpu(10 * GIB, _calibration()) > 12 * GIB
    assert needed_on_gpu(GIB, _calibration(slope=1.0, intercept=0.0)) >= GIB + CUDA_CONTEXT
    assert needed_on_cpu(GIB) > 2 * GIB


@pytest.mark.slow
def test_this_machine_is_calibrated_by_real_steps(workplace, tiny_encoders) -> None:
    encoders = {m: resolve_encoder(m, str(tiny_encoders[f])) for m, f in (("text", "bert"), ("image", "vit"))}
    setting = TrainingSetting(target="cpu", batch_size=4, text_length=8, image_size=32)
    members = [("linear", {}), ("pmf", {"n_fusion_layers": 1}), ("pmf", {"n_fusion_layers": 3}), ("lora", {})]
    calibration, points = calibrate_device(MemoryPredictor(encoders, classification(3), setting), members)
    assert calibration.device == local_device()
    assert [point.method for point in points] == ["linear", "pmf", "pmf", "lora"]
    if calibration.device.startswith("cpu"):  # tensors are all that counts there
        assert all(point.device == point.predicted for point in points)
        assert calibration.slope == pytest.approx(1)
