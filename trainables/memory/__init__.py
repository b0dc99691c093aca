"""Prediction and measurement of training memory.

The memory of a configuration is what one ordinary optimization step needs on a kind of device, the target.
``MemoryPredictor`` runs the step of the real model on fake tensors, which have shapes but no content. So it
needs no GPU and takes a fraction of a second. For a CPU, memory is the peak of the bytes held by tensors;
``measure_memory`` tracks the same step on real tensors. For a GPU, the step's allocations are replayed
through a model of PyTorch's allocator; memory is what it reserves, and the CUDA context. ``Calibration``
holds what was measured on one.

``estimate`` predicts the memory of any PyTorch model's step, without methods and towers.
"""

from trainables.memory.calibration import Calibration, find_calibration, needed_on_cpu, needed_on_gpu
from trainables.memory.estimating import estimate
from trainables.memory.memo import PredictionMemo
from trainables.memory.predictor import MemoryPredictor
from trainables.memory.report import Breakdown, MemoryReport
from trainables.memory.tracking import measure_memory

__all__ = [
    "Breakdown",
    "Calibration",
    "MemoryPredictor",
    "MemoryReport",
    "PredictionMemo",
    "estimate",
    "find_calibration",
    "measure_memory",
    "needed_on_cpu",
    "needed_on_gpu",
]
