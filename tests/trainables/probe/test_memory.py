"""A probe's memory is predicted without running it."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import pytest
import torch

from tests.tasks import classification
from trainables.memory import MemoryPredictor
from trainables.memory.tracking import track_forward
from trainables.methods.linear import LinearConfig
from trainables.probe import predict_probe, solve_linear
from trainables.probe.memory import ProbeModel, ridge_memory, solver_memory
from trainables.step.setting import TrainingSetting
from trainables.tasks import get_task
from trainables.tasks.retrieval import Retrieval
from trainables.towers import load_tower, resolve_encoder
from trainables.units import MIB

FEW = {"train": 10, "validation": 5, "test": 5}
#: Most bytes that other threads of the tests' process take meanwhile.
_OTHERS = 2**16


@pytest.fixture(scope="module")
def encoders(tiny_encoders):
    names = {"text": str(tiny_encoders["bert"]), "image": str(tiny_encoders["vit"])}
    return {modality: resolve_encoder(modality, name) for modality, name in names.items()}


@pytest.mark.parametrize("modalities", [("text", "image"), ("image",)])
@pytest.mark.parametrize("precision", ["fp32", "bf16-frozen"])
def test_the_forward_pass_is_predicted_to_the_byte(encoders, modalities, precision) -> None:
    setting = TrainingSetting(
        batch_size=8,
        gradient_accumulation=2,
        text_length=8,
        image_size=32,
        precision=precision,
        target="cpu",
    )
    task = classification(3)
    predicted = predict_probe(MemoryPredictor(encoders, task, setting), modalities, FEW)
    towers = {m: load_tower(encoders[m], attention=setting.attention) for m in modalities}
    model = ProbeModel(setting.context(towers, task.output_size), LinearConfig())
    inputs = {m: tower.example_inputs(4, setting.sizes) for m, tower in towers.items()}
    assert sum(track_forward(model, inputs, setting).values()) == predicted.total
    width = sum(encoders[m].width for m in modalities)
    assert predicted.trainable_parameters == 3 * (width + 1)
    assert predicted.checkpoint == 4 * predicted.trainable_parameters


@pytest.mark.parametrize("target", ["cpu", "cuda"])
def test_its_inference_memory_is_that_of_the_method_it_fits(encoders, target) -> None:
    setting = TrainingSetting(
        batch_size=8, gradient_accumulation=2, text_length=8, image_size=32, target=target
    )
    predictor = MemoryPredictor(encoders, classification(3), setting, inference=True)
    both, text = (predict_probe(predictor, m, FEW).inference for m in (("text", "image"), ("text",)))
    assert both == predictor.predict_inference("linear", {}) >= text > 0


def test_it_takes_less_than_training_and_more_with_all_modalities(encoders) -> None:
    setting = TrainingSetting(batch_size=8, text_length=8, image_size=32, target="cpu")
    predictor = MemoryPredictor(encoders, classification(3), setting)
    both, text = (predict_probe(predictor, m, FEW).total for m in (("text", "image"), ("text",)))
    assert text < both < predictor.predict("linear", {}).total


def test_many_rows_make_the_solver_the_larger_phase(encoders) -> None:
    setting = TrainingSetting(batch_size=8, text_length=8, image_size=32, target="cpu")
    predictor = MemoryPredictor(encoders, classification(3), setting)
    few = predict_probe(predictor, ("text", "image"), FEW)
    many = predict_probe(predictor, ("text", "image"), {**FEW, "train": 10**6})
    width = sum(encoder.width for encoder in encoders.values())
    assert many.total == sum(solver_memory(10**6, 5, width, classification(3))) > few.total
    assert (many.checkpoint, many.trainable_parameters) == (few.checkpoint, few.trainable_parameters)


def test_on_a_gpu_only_the_forward_pass_counts_and_the_context(encoders) -> None:
    setting = TrainingSetting(batch_size=8, text_length=8, image_size=32, context_bytes=300 * MIB)
    predictor = MemoryPredictor(encoders, classification(3), setting)
    found = predict_probe(predictor, ("text", "image"), {**FEW, "train": 10**6})
    assert found == predict_probe(predictor, ("text", "image"), FEW)
    assert found.memory == found.reserved + 300 * MIB


def _peak_of(call: Callable[[], object]) -> int:
    """Return the peak of traced bytes: the smaller of two, because other threads may allocate, too."""
    peaks = []
    for _ in range(2):
        tracemalloc.start()
        call()
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    return min(peaks)


@pytest.mark.parametrize(("rows", "width", "outputs"), [(5000, 50, 12), (300, 800, 5), (20000, 50, 2)])
@pytest.mark.parametrize(
    ("name", "share"), [("classification", 0.8), ("multilabel", 0.7), ("regression", 0.7)]
)
def test_the_solver_keeps_to_its_formula(name, share, rows, width, outputs) -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(rows, width, generator=generator)
    task = get_task(name).of_size(outputs)
    labels = task.example_labels(rows)
    solve_linear(task, (features[:20], labels[:20]), (features[:20], labels[:20]), [1.0])
    peak = _peak_of(lambda: solve_linear(task, (features, labels), (features, labels), [1.0, 0.01]))
    weights, held, rest = solver_memory(rows, rows, width, task)
    given = 4 * 2 * rows * width  # by the caller
    assert share * (weights + held + rest - given) <= peak <= weights + held + rest - given + _OTHERS


@pytest.mark.parametrize(("rows", "width", "size"), [(2000, 300, 200), (5000, 50, 12), (300, 800, 64)])
def test_the_solver_for_a_query_keeps_to_its_formula(rows, width, size) -> None:
    generator = torch.Generator().manual_seed(0)
    features, queries = (torch.randn(rows, n, generator=generator) for n in (width, size))
    task = Retrieval("text", size)
    labels = task.example_labels(rows)
    few = features[:20], labels[:20]
    solve_linear(task, few, few, [1.0], queries=(queries[:20], queries[:20]))
    known = (queries, queries[:20])
    peak = _peak_of(lambda: solve_linear(task, (features, labels), few, [1.0, 0.01], queries=known))
    weights, held, rest = ridge_memory(rows, 20, width, size)
    given = 4 * (rows + 20) * (width + size)  # by the caller
    assert 0.7 * (weights + held + rest - given) <= peak <= weights + held + rest - given + _OTHERS


def test_a_query_is_read_beside_the_documents(tiny_encoders) -> None:
    names = {"text": "bert", "image": "vit", "caption": "distilbert"}
    encoders = {m: resolve_encoder(m, str(tiny_encoders[family])) for m, family in names.items()}
    setting = TrainingSetting(batch_size=8, text_length=8, image_size=32, target="cpu")
    with_query = MemoryPredictor(encoders, Retrieval("caption", 8), setting)
    images = predict_probe(with_query, ("image",), FEW)
    assert images.total < predict_probe(with_query, ("text", "image"), FEW).total
    # From each picture's vector to the caption's
    assert images.trainable_parameters == encoders["caption"].width * (encoders["image"].width + 1)
    alone = MemoryPredictor({"image": encoders["image"]}, classification(8), setting)
    assert images.total > predict_probe(alone, ("image",), FEW).total
