"""What a prediction says, beside being right (tests/conformance)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.tasks import classification
from trainables.memory.kernels import CudaDevice, library_workspaces
from trainables.memory.optimizer import make_state
from trainables.memory.predictor import MemoryPredictor
from trainables.memory.replay import reserved_by
from trainables.memory.storage_log import StorageLog
from trainables.memory.tracking import track_step
from trainables.methods import build_method
from trainables.step.setting import TrainingSetting
from trainables.towers import resolve_encoder
from trainables.units import MIB


@pytest.fixture(scope="module")
def predictor() -> MemoryPredictor:
    names = {"text": "arch:bert-base", "image": "arch:vit-base"}
    encoders = {modality: resolve_encoder(modality, name) for modality, name in names.items()}
    return MemoryPredictor(encoders, classification(13), TrainingSetting(batch_size=8))


def test_reserved_is_what_a_step_that_runs_all_layers_reserves(predictor) -> None:
    """The frozen layers are not run for a prediction, nor is the update of most weights."""
    setting = predictor.setting
    for name in ("linear", "pmf"):
        with predictor.faking():
            method = build_method(name, {}, predictor.context()).train()
            inputs = {
                m: method.tower(m).example_inputs(setting.batch_size, setting.sizes)
                for m in method.modalities
            }
            labels = predictor.task.example_labels(setting.batch_size)
            optimizer = setting.make_optimizer(method, learning_rate=0.0)
            make_state(optimizer)
            log = StorageLog()
            track_step(method, inputs, labels, setting, optimizer, predictor.task, log)
        libraries = library_workspaces(CudaDevice(setting.compute_capability))
        assert predictor.predict(name, {}).reserved == reserved_by(log.allocations(), libraries)


def test_the_allocator_and_the_context_come_on_top_of_the_tensors(predictor) -> None:
    for report in (
        predictor.predict("pmf", {}),
        predictor.predict_configuration({"method": "pmf", "gradient_checkpointing": True}),
        predictor.changed(prefix="cached").predict("pmf", {}),
        predictor.changed(prefix="offloaded").predict("pmf", {}),
    ):
        assert report.total < report.reserved < 1.5 * report.total
        assert report.memory == report.reserved + 500 * MIB
    on_cpu = predictor.changed(target="cpu").predict("pmf", {})
    assert on_cpu.reserved is None
    assert on_cpu.memory == on_cpu.total


def test_inference_is_one_forward_pass_of_the_whole_batch(predictor) -> None:
    config = {"method": "pmf"}
    assert predictor.predict_configuration(config).inference is None
    report = replace(predictor, inference=True).predict_configuration(config)
    assert report.weights < report.inference < report.reserved
    assert report.inference_memory == report.inference + 500 * MIB
    for changes in (
        {"gradient_accumulation": 4},
        {"prefix": "offloaded", "skip_unused": True},
        {"gradient_checkpointing": True, "optimizer": "sgd", "weight_decay": 0.0},
    ):
        assert predictor.changed(**changes).predict_inference("pmf", {}) == report.inference
    frozen = predictor.changed(precision="bf16-frozen").predict_inference("pmf", {})
    assert frozen < 0.7 * report.inference  # half of the weights' bytes
    assert predictor.predict_inference("pmf", {"n_query_prompts": 64}) > report.inference
    linear, tuned = (predictor.predict_inference(name, {}) for name in ("linear", "late_concat"))
    assert linear == tuned  # they compute the same


def test_layers_below_the_first_fused_one_hold_their_weights_only(predictor) -> None:
    parts = predictor.explain("pmf", {"n_fusion_layers": 2})
    assert sum(sum(held.values()) for held in parts.values()) == predictor.predict("pmf", {}).total
    for modality in ("text", "image"):
        for index in range(12):
            held = parts[f"{modality} layer {index}"]
            assert held["weights"] > 25 * 2**20
            assert (held["activations"] > 0) is (index >= 10)
    assert parts["fusion_layers"]["optimizer"] > parts["head"]["optimizer"] > 0
    assert parts["inputs"]["activations"] >= 8 * 3 * 224 * 224 * 4


def test_settings_move_the_peak_as_they_should(predictor) -> None:
    def total(method: str = "pmf", **changes: object) -> int:
        return predictor.changed(**changes).predict(method, {}).total

    plain = total()
    for smaller in (
        {"gradient_accumulation": 4},
        {"gradient_checkpointing": True},
        {"precision": "bf16-frozen"},
        {"skip_unused": True},
        {"prefix": "offloaded"},
        {"encoder_dropout": False},
        {"optimizer": "sgd"},
    ):
        assert total(**smaller) < plain, smaller
    assert total(precision="bf16-frozen") < total(precision="bf16")
    # Only where most is trained do all gradients at once matter
    assert total("late_concat", batch_size=1, optimizer_kernel="foreach") > total("late_concat", batch_size=1)


def test_what_a_search_runs_takes_less_than_what_it_reports(predictor) -> None:
    config = {"method": "pmf", "n_fusion_layers": 2, "learning_rate": 1e-3}
    reported = predictor.predict_configuration(config).total
    as_run = [predictor.predict_as_run(config, cached=c, target="cuda") for c in (True, False)]
    assert all(report.total < reported for report in as_run)
    searched = {**config, "gradient_checkpointing": True}
    assert predictor.predict_configuration(searched).total < reported


def test_filling_the_cache_takes_an_encoder_and_little_more(predictor) -> None:
    weights = (109e6 + 86e6) * 4  # BERT-base and ViT-base, without their poolers
    assert weights < predictor.encoding_memory("cpu") < 1.5 * weights
    context = predictor.setting.context_bytes
    assert weights + context < predictor.encoding_memory("cuda") < 1.5 * weights + context


def test_expandable_segments_leave_fewer_gaps(predictor) -> None:
    expandable = predictor.changed(expandable_segments=True)
    for method in ("pmf", "late_concat"):
        usual, found = predictor.predict(method, {}), expandable.predict(method, {})
        assert found.total == usual.total
        assert found.total < found.reserved < usual.reserved
