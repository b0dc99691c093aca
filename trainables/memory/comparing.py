"""Comparison of predictions with steps on this machine's device: its GPU, or else its CPU."""

from __future__ import annotations

import gc
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from trainables.data.features import to_device
from trainables.memory.calibration import Calibration, local_capability, local_gpu
from trainables.memory.measuring import WARM_UP, Measured, StepMeter, reset_peak
from trainables.memory.predictor import MemoryPredictor
from trainables.memory.tracking import track_forward
from trainables.methods import FusionMethod, build_method
from trainables.step.setting import TrainingSetting
from trainables.towers import ModalityInput, load_tower
from trainables.units import MIB


def typical_configurations(depth: int) -> list[tuple[str, dict[str, Any]]]:
    """Return methods and their options, from the cheapest in memory to full fine-tuning.

    Args:
        depth: Number of layers of the shallowest encoder.
    """
    fused = sorted({1, min(2, depth), depth // 3 or 1, depth // 2 or 1, depth})
    return [
        ("linear", {}),
        ("vpt", {}),
        ("p_late_concat", {}),
        ("prompt_fuse", {}),
        *(("pmf", {"n_fusion_layers": n}) for n in fused),
        ("pmf", {"n_fusion_layers": depth, "n_query_prompts": 16}),
        ("mope", {}),
        ("lora", {}),
        ("adapter", {}),
        ("late_concat", {}),
    ]


@dataclass(frozen=True)
class Point:
    """Predicted and measured bytes of one configuration.

    Attributes:
        method: Name of the method.
        config: The method's options that differ from their defaults.
        predicted_tensors: Predicted bytes of tensors at the peak.
        measured_tensors: Measured bytes of tensors at the peak.
        predicted: Predicted memory: on a GPU with what the allocator reserves, and the context.
        measured: The same, measured.
    """

    method: str
    config: Mapping[str, Any]
    predicted_tensors: int
    measured_tensors: int
    predicted: int
    measured: int

    @property
    def error(self) -> float:
        """Relative error of the predicted memory."""
        return self.predicted / self.measured - 1

    def to_dict(self) -> dict[str, Any]:
        """Return all fields by name, and the error."""
        return {**asdict(self), "error": self.error}


def compare_device(
    predictor: MemoryPredictor,
    configurations: Sequence[tuple[str, Mapping[str, Any]]] | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Calibration | None, list[Point]]:
    """Run steps of configurations on this machine's device, and compare their memory with predictions for it.

    Args:
        predictor: A predictor for the encoders and the setting, whose target may be any.
        configurations: Methods and their options that differ from the defaults; None takes
            ``typical_configurations``.
        progress: Called with the number of finished configurations and their total number.

    Returns:
        The calibration of this machine's GPU, or None if it has none; and what was compared.
    """
    gpu, capability = local_gpu(), local_capability()
    device = torch.device("cpu" if gpu is None else "cuda")
    here = predictor.changed(target=device.type)
    if capability is not None:
        here = here.changed(compute_capability=capability, context_bytes=0)
    if configurations is None:
        configurations = typical_configurations(min(e.depth for e in predictor.encoders.values()))
    compared = []
    for number, (method, config) in enumerate(configurations):
        progress(number, len(configurations))
        found = measure_configuration(here, method, config, device)
        compared.append((method, config, here.predict(method, config), found))
    # Now, because a context grows with every kernel that is loaded for the first time
    context = 0 if gpu is None else _context_bytes()
    points = [
        Point(
            method,
            config,
            predicted.total,
            found.allocated,
            predicted.memory + context,
            (found.allocated if found.reserved is None else found.reserved) + context,
        )
        for method, config, predicted, found in compared
    ]
    if gpu is None:
        return None, points
    both = [point.predicted for point in points], [point.measured for point in points]
    return Calibration.of(gpu, here.setting.compute_capability, context, *both), points


def measure_configuration(
    predictor: MemoryPredictor, method: str, config: Mapping[str, Any], device: torch.device
) -> Measured:
    """Run a few real optimization steps of a configuration and return their memory.

    The encoders' weights are zeros, because memory does not depend on their values.
    """
    setting = predictor.setting
    _release()
    built = _built(predictor, method, config, device).train()
    optimizer = setting.make_optimizer(built, learning_rate=0.0)
    examples = _example_batch(built, setting)
    meter = StepMeter(device, setting.batch_size)
    for _ in range(WARM_UP + (2 if device.type == "cuda" else 1)):
        # As in training, a batch is there until the next one is
        inputs = {m: to_device(example, device) for m, example in examples.items()}
        labels = predictor.task.example_labels(setting.batch_size).to(device)
        meter.step(built, inputs, labels, predictor.task, setting, optimizer)
    measured = meter.measured
    assert measured is not None
    del built, optimizer, inputs, labels
    _release()
    return measured


def measure_inference(
    predictor: MemoryPredictor, method: str, config: Mapping[str, Any], device: torch.device
) -> Measured:
    """Run a few real forward passes of a configuration without gradient, and return their memory."""
    setting = predictor.setting.of_inference()
    _release()
    reset_peak(device)
    built = _built(predictor, method, config, device).eval()
    examples = _example_batch(built, setting)
    if device.type == "cpu":
        return Measured(sum(track_forward(built, examples, setting).values()))
    for _ in range(3):
        inputs = {m: to_device(example, device) for m, example in examples.items()}
        with torch.inference_mode(), setting.autocast(device):
            built(inputs)
    measured = Measured(torch.cuda.max_memory_allocated(device), torch.cuda.max_memory_reserved(device))
    del built, inputs
    _release()
    return measured


def _example_batch(built: FusionMethod, setting: TrainingSetting) -> dict[str, ModalityInput]:
    """Return a batch of the shapes that memory is predicted for."""
    rows = setting.batch_size
    inputs = {m: built.tower(m).example_inputs(rows, setting.sizes) for m in built.modalities}
    return inputs | built.example_presence(rows)


def _built(
    predictor: MemoryPredictor, method: str, config: Mapping[str, Any], device: torch.device
) -> FusionMethod:
    """Return a method on a device, over encoders whose weights are zeros."""
    towers = {
        modality: load_tower(encoder, attention=predictor.setting.attention, weights=False)
        for modality, encoder in predictor.encoders.items()
    }
    for tower in towers.values():
        for weight in (*tower.parameters(), *tower.buffers()):
            if weight.is_floating_point():
                torch.nn.init.zeros_(weight)
    task = predictor.task
    context = predictor.setting.context(towers, task.output_size, task.query)
    return build_method(method, config, context).to(device)


def _release() -> None:
    """Give back all that the allocator holds, cuBLAS's workspaces included, as if the process were new."""
    gc.collect()
    if torch.cuda.is_available():
        torch._C._cuda_clearCublasWorkspaces()
        torch.cuda.empty_cache()


def _context_bytes() -> int:
    """Return the bytes that this process takes on the GPU beside its allocator's, according to the driver."""
    torch.cuda.synchronize()
    command = ["nvidia-smi", "--query-compute-apps=used_memory", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout
        used = max(int(line) for line in answer.split()) * MIB
    except (OSError, ValueError, subprocess.SubprocessError):
        free, total = torch.cuda.mem_get_info()
        used = total - free  # counts all processes, so it is too large if there are others
    return max(used - torch.cuda.memory_reserved(), 0)
