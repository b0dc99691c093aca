"""A trial without Ray: resumable, shareable encoders, honest failures."""

from __future__ import annotations

import json
import math
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.tasks import classification
from tests.trials import PMF, Saved
from trainables.data import open_dataset, prepare
from trainables.errors import UserError
from trainables.memory.measuring import Measured
from trainables.memory.predictor import MemoryPredictor
from trainables.progress import no_tick
from trainables.seeds import MAX_SEED
from trainables.towers import PRESENCE, InputSizes, resolve_encoder
from trainables.trial.assignment import Assignment
from trainables.trial.run import TrialRun, evaluate_on_test
from trainables.trial.trainer import DivergedError
from trainables.trial.workbench import shared_tower


def _numbers(result: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in result.items() if not name.endswith(("seconds", "step_time"))}


def test_learns(trial_spec) -> None:
    run = TrialRun(trial_spec, PMF)
    results = [run.epoch() for _ in range(trial_spec.epochs)]
    assert results[-1]["train_loss"] < results[0]["train_loss"]
    assert results[-1]["accuracy"] > 0.8
    assert [result["epoch"] for result in results] == [1, 2, 3, 4]


def test_the_step_time_is_not_moved_by_a_step_that_stands_out(trial_spec) -> None:
    run, pauses = TrialRun(trial_spec, PMF), iter([0.1])
    result = run.trainer.train_epoch(lambda: time.sleep(next(pauses, 0)))
    assert 0 < result["step_time"] < result["epoch_seconds"] / len(run.trainer.train_loader)


def test_a_resumed_trial_is_the_uninterrupted_one(trial_spec, tmp_path) -> None:
    whole = TrialRun(trial_spec, PMF)
    expected = [_numbers(whole.epoch()) for _ in range(3)]
    first = TrialRun(trial_spec, PMF)
    first.epoch()
    first.save(tmp_path)
    resumed = TrialRun(trial_spec, PMF)
    resumed.load(tmp_path)
    assert [_numbers(resumed.epoch()) for _ in range(2)] == expected[1:]


def test_a_configuration_may_state_settings_and_recipe(trial_spec) -> None:
    stated = {"weight_decay": 0.5, "clip_norm": 0.1, "schedule": "linear", "head_start": "probe"}
    run = TrialRun(trial_spec, replace(PMF, config={**PMF.config, **stated}))
    shared = replace(trial_spec.setting, weight_decay=0.5, clip_norm=0.1)
    recipe = replace(trial_spec.recipe, schedule="linear", head_start="probe")
    alike = TrialRun(replace(trial_spec, setting=shared, recipe=recipe), PMF)
    assert _numbers(run.epoch()) == _numbers(alike.epoch()) != _numbers(TrialRun(trial_spec, PMF).epoch())


@pytest.mark.parametrize("seed", [4295, 20261126, MAX_SEED])
def test_any_seed_trains_and_decides_how(trial_spec, seed) -> None:
    def losses(seed: int) -> list[float]:
        run = TrialRun(trial_spec, replace(PMF, seed=seed))
        return [run.epoch()["train_loss"] for _ in range(2)]

    assert losses(seed) == losses(seed) != losses(seed - 1)


def test_checkpoint_holds_trained_weights_only(trial_spec, tmp_path) -> None:
    run = TrialRun(trial_spec, PMF)
    run.save(tmp_path)
    weights = (tmp_path / "weights.safetensors").stat().st_size
    assert weights < 4 * run.method.trainable_parameter_count() + 10_000
    run.epoch()
    run.save(tmp_path)
    found = evaluate_on_test(trial_spec, replace(PMF, checkpoint=Saved(tmp_path)), no_tick)
    expected = run.evaluate("test")
    assert found.metrics == expected.metrics
    assert (found.outputs == expected.outputs).all()
    assert found.robustness == {}
    robust = evaluate_on_test(
        replace(trial_spec, robustness=True), replace(PMF, checkpoint=Saved(tmp_path)), no_tick
    )
    assert robust.metrics == found.metrics
    assert robust.robustness == {m: run.evaluate("test", [m]).metrics for m in ("text", "image")}
    assert robust.robustness["image"] != found.metrics


def test_without_what_it_does_not_use_a_method_is_as_good(trial_spec) -> None:
    config = {"method": "image_only", "learning_rate": 5e-3}
    run = TrialRun(replace(trial_spec, robustness=True), replace(PMF, config=config))
    for _ in range(trial_spec.epochs):
        run.epoch()
    found = run.score()
    assert found.robustness["text"] == found.metrics
    assert found.robustness["image"]["loss"] > found.metrics["loss"]
    blind = run.evaluate("test", ["image"]).outputs
    assert (blind == blind[0]).all(), "all rows look the same"


@pytest.mark.parametrize("cache", [0, 2**30])
def test_modality_dropout_is_for_training_alone(trial_spec, cache: int) -> None:
    spec = replace(trial_spec, feature_cache=cache)
    plain, dropping = (
        TrialRun(replace(spec, recipe=replace(spec.recipe, modality_dropout=rate)), PMF) for rate in (0, 0.6)
    )
    before = [run.evaluate("validation").metrics for run in (plain, dropping)]
    assert before[0] == before[1]
    losses = [run.epoch()["train_loss"] for run in (plain, dropping)]
    assert losses[0] != losses[1]
    stated = replace(PMF, config={**PMF.config, "modality_dropout": 0.6})
    assert TrialRun(spec, stated).epoch()["train_loss"] == losses[1]


@pytest.mark.parametrize("cache", [0, 2**30])
def test_a_method_that_uses_presence_is_told_and_needs_the_predicted_memory(trial_spec, cache: int) -> None:
    gated = replace(PMF, config={"method": "gated_fusion", "learning_rate": 5e-3})
    recipe = replace(trial_spec.recipe, modality_dropout=0.5)
    run = TrialRun(replace(trial_spec, feature_cache=cache, recipe=recipe), gated)
    measured = run.epoch()["measured_memory"]
    predictor = MemoryPredictor(trial_spec.sources(), run.bench.task, trial_spec.setting)
    predicted = predictor.predict_as_run(gated.config, cached=cache > 0, target="cpu")
    assert measured == predicted.total / 2**30
    batch = next(run.loader("test").without(["text"]).in_order()).inputs
    with torch.inference_mode():
        outputs = run.method(batch).outputs
        gone = run.method({**batch, "text": run.loader("test").batch(torch.arange(8)).inputs["text"]}).outputs
        told = run.method({name: given for name, given in batch.items() if name != PRESENCE}).outputs
    assert not torch.equal(outputs, told)
    assert outputs.shape == gone.shape


def test_a_pooling_decides_what_is_learnt_from_the_same_features(trial_spec, tmp_path) -> None:
    read = {pooling: {**trial_spec.pooling, "text": pooling} for pooling in ("cls", "mean")}
    found, files = {}, {}
    for pooling, of_modality in read.items():
        run = TrialRun(replace(trial_spec, pooling=of_modality), PMF)
        found[pooling] = run.epoch()
        files[pooling] = sorted((tmp_path / "cache" / "features").glob("*.npy"))
        run.save(tmp_path)
        assert json.loads((tmp_path / "trial.json").read_text())["spec"]["pooling"] == of_modality
    assert files["cls"] == files["mean"] != []
    assert found["cls"]["loss"] != pytest.approx(found["mean"]["loss"], abs=1e-4)
    assert found["cls"]["measured_memory"] != found["mean"]["measured_memory"]
    plain = TrialRun(replace(trial_spec, pooling=read["mean"], feature_cache=0), PMF).epoch()
    assert plain["loss"] == pytest.approx(found["mean"]["loss"], abs=1e-4), "here texts are less padded"


def test_features_change_nothing_but_the_time(trial_spec) -> None:
    cached, plain = (TrialRun(replace(trial_spec, feature_cache=size), PMF) for size in (2**30, 0))
    assert cached.loader("train").features
    assert not plain.loader("train").features
    a, b = ({k: v for k, v in _numbers(run.epoch()).items() if "memory" not in k} for run in (cached, plain))
    assert a == pytest.approx(b, abs=1e-4)


def test_an_evaluation_takes_more_samples_at_once_where_the_frozen_layers_are_cached(trial_spec) -> None:
    setting = replace(trial_spec.setting, gradient_accumulation=4)  # parts of two samples
    metrics, batches = [], []
    for size in (2**30, 0):
        ticks: list[None] = []
        run = TrialRun(replace(trial_spec, setting=setting, feature_cache=size), PMF)
        evaluated = run.trainer.evaluate(run.validation, lambda ticks=ticks: ticks.append(None))
        metrics.append(evaluated.metrics)
        batches.append(len(ticks))
    rows = len(run.validation.split)
    assert batches == [-(-rows // 8), -(-rows // 2)]
    assert metrics[0] == pytest.approx(metrics[1], abs=1e-5)


@pytest.mark.parametrize(
    ("changes", "feature_cache"),
    [
        ({}, 2**30),
        ({}, 0),
        ({"prefix": "offloaded", "gradient_accumulation": 2}, 2**30),
        ({"precision": "bf16-frozen", "attention": "sdpa", "optimizer_kernel": "foreach"}, 2**30),
        ({"clip_norm": 1.0, "label_smoothing": 0.1, "optimizer": "sgd", "weight_decay": 0.0}, 2**30),
    ],
    ids=str,
)
@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_memory_of_a_real_step_is_the_expected(trial_spec, changes, feature_cache, checkpointing) -> None:
    config = {**PMF.config, "gradient_checkpointing": checkpointing}
    setting = replace(trial_spec.setting, **changes)
    run = TrialRun(
        replace(trial_spec, setting=setting, feature_cache=feature_cache), replace(PMF, config=config)
    )
    result = run.epoch()
    encoders = {modality: resolve_encoder(modality, name) for modality, name in trial_spec.encoders.items()}
    expected = MemoryPredictor(encoders, classification(3), setting).predict_as_run(
        config, cached=feature_cache > 0, target="cpu"
    )
    assert run.as_set
    assert run.measured == Measured(expected.total)
    assert result["measured_memory"] == expected.total / 2**30


def test_steps_with_shorter_texts_are_not_said_to_take_what_full_ones_do(trial_spec) -> None:
    encoders = {modality: resolve_encoder(modality, name) for modality, name in trial_spec.encoders.items()}
    data = prepare(open_dataset(trial_spec.dataset), encoders, InputSizes(text_length=24, image_size=32))
    setting = replace(trial_spec.setting, text_length=24)
    spec = replace(trial_spec, prepared=data.key, setting=setting, feature_cache=0)
    result = TrialRun(spec, PMF).epoch()
    expected = MemoryPredictor(encoders, classification(3), setting).predict_as_run(
        PMF.config, cached=False, target="cpu"
    )
    assert "measured_memory" not in result
    assert 0 < result["measured_shorter"] < expected.total / 2**30


def test_gradient_checkpointing_and_accumulation_change_nothing_but_memory(trial_spec) -> None:
    setting = replace(trial_spec.setting, encoder_dropout=False)
    results = []
    for changes in ({}, {"gradient_checkpointing": True}, {"gradient_accumulation": 4}):
        run = TrialRun(replace(trial_spec, setting=replace(setting, **changes)), PMF)
        results.append({k: v for k, v in _numbers(run.epoch()).items() if k != "measured_memory"})
    assert results[1] == pytest.approx(results[0], abs=1e-5)
    assert results[2] == pytest.approx(results[0], abs=1e-3)


def test_an_offloaded_prefix_needs_the_room_for_its_output(trial_spec) -> None:
    setting = replace(trial_spec.setting, prefix="offloaded")
    with pytest.raises(UserError, match="--prefix offloaded: the text features of the train split"):
        TrialRun(replace(trial_spec, setting=setting, feature_cache=1000), PMF)


def test_fine_tuning_leaves_the_shared_encoders_alone(trial_spec) -> None:
    towers = [
        shared_tower(m, name, "cls", trial_spec.kinds[m], "eager") for m, name in trial_spec.encoders.items()
    ]
    before = [p.clone() for tower in towers for p in tower.parameters()]
    TrialRun(trial_spec, Assignment(config={"method": "late_concat", "learning_rate": 1e-2})).epoch()
    after = [p for tower in towers for p in tower.parameters()]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert not any(p.requires_grad for p in after)


def test_a_diverged_loss_is_an_error_not_a_number(trial_spec) -> None:
    with pytest.raises(DivergedError, match="loss became"):
        TrialRun(trial_spec, Assignment(config={"method": "linear", "learning_rate": 1e30})).epoch()


@pytest.mark.parametrize("split", ["validation", "test"])
def test_a_metric_that_is_not_finite_is_named_with_its_split(trial_spec, split) -> None:
    run = TrialRun(trial_spec, Assignment(config={"method": "linear", "learning_rate": 1e-3}))
    torch.nn.init.constant_(run.method.head.bias, math.nan)
    with pytest.raises(DivergedError, match=rf"^the {split} \w+ became nan in epoch 0$"):
        run.evaluate(split)


def test_another_node_prepares_for_itself(trial_spec, monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("PARETOFUSE_CACHE", str(tmp_path / "other"))
    assert TrialRun(trial_spec, PMF).bench.data.folder == Path(
        tmp_path / "other" / "prepared" / trial_spec.prepared
    )
