"""The memory that steps really take."""

from __future__ import annotations

from dataclasses import asdict

import pytest
import torch

from tests.tasks import classification
from trainables.memory.calibration import local_capability
from trainables.memory.comparing import measure_configuration
from trainables.memory.kernels import CudaDevice, library_workspaces
from trainables.memory.measuring import StepMeter, limit_memory
from trainables.memory.predictor import MemoryPredictor
from trainables.memory.tracking import measure_memory
from trainables.step.setting import TrainingSetting
from trainables.testing.cases import ROWS, build, make_batch, task
from trainables.testing.tiny import SIZES
from trainables.towers import resolve_encoder
from trainables.trial.outcome import is_out_of_memory
from trainables.units import MIB

on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.fixture(scope="module")
def predictor() -> MemoryPredictor:
    names = {"text": "arch:bert-base", "image": "arch:vit-base"}
    encoders = {modality: resolve_encoder(modality, name) for modality, name in names.items()}
    return MemoryPredictor(encoders, classification(13), TrainingSetting(batch_size=8))


def test_nothing_is_measured_before_a_step_was() -> None:
    assert StepMeter(torch.device("cpu"), 8).measured is None


def test_the_batch_with_the_longest_texts_is_measured() -> None:
    setting = TrainingSetting(batch_size=ROWS, **asdict(SIZES))
    method = build("pmf", {})
    optimizer = setting.make_optimizer(method, 1e-3)
    inputs, labels = make_batch()
    meter = StepMeter(torch.device("cpu"), ROWS)
    method.train()
    measured = []
    for length in (5, 5, 4, 8, SIZES.text_length, 6):
        text = {name: tensor[:, :length] for name, tensor in inputs["text"].items()}
        meter.step(method, {**inputs, "text": text}, labels, task(), setting, optimizer)
        measured.append(meter.measured)
    assert measured[0] is None  # the first step makes the optimizer's state
    assert measured[1] == measured[2]
    sizes = [m.allocated for m in measured[2:] if m is not None]
    assert sizes[0] < sizes[1] < sizes[2] == sizes[3]
    assert [m.shorter for m in measured[2:] if m is not None] == [True, True, False, False]
    assert sizes[-1] == measure_memory(method, inputs, labels, setting, task()).total


@pytest.mark.gpu
@on_gpu
@pytest.mark.parametrize("method", ["linear", "pmf", "lora"])
def test_a_gpu_holds_the_predicted_tensors(predictor, method) -> None:
    capability = local_capability()
    assert capability is not None
    measured = measure_configuration(predictor, method, {}, torch.device("cuda"))
    predicted = predictor.changed(target="cuda", compute_capability=capability).predict(method, {})
    libraries = sum(library_workspaces(CudaDevice(capability)))
    assert measured.allocated == pytest.approx(predicted.total + libraries, rel=0.05)
    assert measured.reserved is not None
    assert measured.reserved >= measured.allocated
    assert measured.reserved == pytest.approx(predicted.reserved, rel=0.05)


@pytest.mark.gpu
@on_gpu
def test_a_trial_is_kept_to_its_share() -> None:
    limit_memory(400 * MIB + 256 * MIB, context=400 * MIB)
    try:
        with pytest.raises(RuntimeError) as caught:
            torch.empty(512 * MIB, dtype=torch.uint8, device="cuda")
        assert is_out_of_memory(caught.value)
    finally:
        limit_memory(None, context=0)
    torch.empty(512 * MIB, dtype=torch.uint8, device="cuda")
