"""What is said about a task arrives in the trials that learn it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from tests.trials import PMF, Saved
from trainables.data import SPLITS, open_dataset, prepare
from trainables.errors import UserError
from trainables.memory import MemoryPredictor
from trainables.progress import no_tick
from trainables.task_settings import TaskSettings
from trainables.tasks import Task, read_task
from trainables.towers import InputSizes, resolve_encoders
from trainables.trial.checkpoint import TRIAL
from trainables.trial.probing import run_probes
from trainables.trial.run import TrialRun, evaluate_on_test
from trainables.trial.workbench import TrialSpec

#: The tags of a colour, and a number.
COLOURS = {"red": (["warm"], 10.5), "green": ([], 20.0), "blue": (["cold", "dark"], 90.0)}
SIZES = InputSizes(text_length=8, image_size=32)


def labeled(spec: TrialSpec, squares: Path, folder: Path, kind: pa.DataType) -> TrialSpec:
    """Trials over the squares with tags or numbers as labels."""
    folder.mkdir()
    for split in SPLITS:
        table = pq.read_table(squares / f"{split}.parquet")
        stored = [COLOURS[colour][not pa.types.is_list(kind)] for colour in table["label"].to_pylist()]
        table = table.drop_columns("label").append_column("label", pa.array(stored, kind))
        pq.write_table(table, folder / f"{split}.parquet")
    return told(replace(spec, dataset=str(folder)))


def told(spec: TrialSpec, **settings: str) -> TrialSpec:
    """The same trials with settings of the task."""
    dataset = open_dataset(spec.dataset, TaskSettings(**settings))
    data = prepare(dataset, resolve_encoders(spec.encoders), SIZES)
    return replace(spec, prepared=data.key, task=dataset.task.to_dict())


@pytest.fixture
def tags(trial_spec, squares, tmp_path) -> TrialSpec:
    return labeled(trial_spec, squares, tmp_path / "tags", pa.list_(pa.string()))


@pytest.fixture
def numbers(trial_spec, squares, tmp_path) -> TrialSpec:
    return labeled(trial_spec, squares, tmp_path / "numbers", pa.float64())


def task_of(spec: TrialSpec, **settings: str) -> Task:
    return open_dataset(spec.dataset, TaskSettings(**settings)).task


def test_thresholds_are_tuned_on_validation_and_hold_on_test(tags) -> None:
    hardly_trained = replace(PMF, config={**PMF.config, "learning_rate": 1e-7})
    run = TrialRun(told(tags, thresholds="tuned"), hardly_trained)
    result = run.epoch()
    outputs, labels = run.trainer.outputs(run.validation)
    tuned = run.bench.task.tuned(outputs, labels)
    assert tuned != run.bench.task
    assert result["macro_f1"] == tuned.score(outputs, labels)["macro_f1"]
    outputs, labels = run.trainer.outputs(run.loader("test"))
    metrics = run.evaluate("test").metrics
    assert metrics == tuned.score(outputs, labels)
    assert metrics != run.bench.task.score(outputs, labels)
    assert TrialRun(tags, hardly_trained).epoch()["macro_f1"] < result["macro_f1"]


@pytest.mark.parametrize("keep", ["last", "average", "best"])
def test_a_checkpoint_has_the_thresholds_of_its_test_score(tags, tmp_path, keep) -> None:
    spec = told(replace(tags, recipe=replace(tags.recipe, keep=keep)), thresholds="tuned")
    run, tasks = TrialRun(spec, PMF), []
    for epoch in range(3):
        run.epoch()
        (folder := tmp_path / str(epoch)).mkdir()
        run.save(folder)
        tasks.append(read_task(json.loads((folder / TRIAL).read_text())["task"]))
    assert all(task.to_dict()["thresholds"] for task in tasks)
    assert tasks[0] != tasks[1] or keep == "best"
    tested = evaluate_on_test(spec, replace(PMF, checkpoint=Saved(folder)), no_tick)
    assert read_task(tested.task) == tasks[-1]
    with run.kept.in_place(run.method):
        outputs, labels = run.trainer.outputs(run.loader("test"))
    assert tested.metrics == tasks[-1].score(outputs, labels)
    # The answers are the tags that were scored
    answered = tasks[-1].encode([answer["tags"] for answer in tasks[-1].answers(outputs, {})])
    assert tested.metrics["tag_accuracy"] == (answered == labels).double().mean().item()
    assert torch.equal(answered.bool(), outputs >= torch.tensor(tasks[-1].to_dict()["thresholds"]))
    resumed = TrialRun(spec, PMF)
    resumed.load(folder)
    (again := tmp_path / "again").mkdir()
    resumed.save(again)
    assert (again / TRIAL).read_text() == (folder / TRIAL).read_text()
    for going_on in (run, resumed):
        going_on.epoch()
    assert resumed.tuned == run.tuned


def test_the_probe_tunes_its_own(tags) -> None:
    probe = run_probes(told(tags, thresholds="tuned")).joint
    labels = {split: open_dataset(tags.dataset).labels(split) for split in ("validation", "test")}
    tuned = task_of(tags, thresholds="tuned").tuned(probe.outputs["validation"], labels["validation"])
    for split in labels:
        assert probe.metrics[split] == tuned.score(probe.outputs[split], labels[split])


def test_settings_change_the_training_and_no_prepared_data(tags, numbers) -> None:
    for spec, settings in ((tags, {"class_weights": "inverse"}), (numbers, {"regression_loss": "l2"})):
        other = told(spec, **settings)
        assert other.prepared == spec.prepared
        assert TrialRun(other, PMF).epoch()["train_loss"] != TrialRun(spec, PMF).epoch()["train_loss"]


def test_numbers_are_learnt_in_standard_deviations_and_scored_in_their_unit(numbers) -> None:
    run = TrialRun(numbers, PMF)
    results = [run.epoch() for _ in range(4)]
    guess = run.bench.task.guess(run.validation.split.labels)
    assert results[0]["train_loss"] < 2
    assert results[-1]["mae"] < guess["mae"]
    assert 10 < guess["mae"] < 50
    assert run.measured is not None
    predictor = MemoryPredictor(resolve_encoders(numbers.encoders), run.bench.task, numbers.setting)
    expected = predictor.predict_as_run(dict(PMF.config), cached=True, target="cpu")
    assert run.measured.allocated == expected.total


def test_another_node_prepares_what_the_user_has_told(numbers, monkeypatch, tmp_path) -> None:
    whole = tmp_path / "whole"
    whole.mkdir()
    for split in SPLITS:  # whole numbers are classes unless the user says otherwise
        table = pq.read_table(Path(numbers.dataset) / f"{split}.parquet")
        label = pa.array([float(round(value)) for value in table["label"].to_pylist()])
        pq.write_table(table.drop_columns("label").append_column("label", label), whole / f"{split}.parquet")
    spec = told(replace(numbers, dataset=str(whole)), task="regression")
    classes = told(replace(numbers, dataset=str(whole)))
    assert classes.task["task"] == "classification"
    assert classes.prepared != spec.prepared
    monkeypatch.setenv("PARETOFUSE_CACHE", str(tmp_path / "elsewhere"))
    run = TrialRun(spec, PMF)
    assert run.bench.data.key == spec.prepared
    assert run.validation.split.labels.shape == (12, 1)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"regression_loss": "l2"}, "--regression-loss: is not for the task multilabel; leave it out"),
        ({"task": "parsing"}, "unknown task 'parsing'; known: classification"),
        ({"task": "regression"}, r"'label' is list<.*>; expected numbers or lists of numbers"),
        ({"task": "classification", "thresholds": "tuned"}, "expected class names"),
    ],
    ids=str,
)
def test_settings_that_are_refused(tags, settings, words) -> None:
    with pytest.raises(UserError, match=words):
        open_dataset(tags.dataset, TaskSettings(**settings))


def test_who_decides_is_said(tags) -> None:
    assert open_dataset(tags.dataset).decided == "by its labels, lists of string"
    assert open_dataset(tags.dataset, TaskSettings(task="multilabel")).decided == "as --task says"
    assert task_of(tags, class_weights="inverse", thresholds="tuned").in_words() == (
        "multilabel, 3 tags, samples with a tag weighed by the inverse of their share, "
        "thresholds tuned on validation"
    )
