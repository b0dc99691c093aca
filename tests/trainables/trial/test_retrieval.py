"""Trials that learn to find: their labels, their start and their checkpoints."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch

from tests.pairs import ROWS, VIEWS, encoders_of_pairs, write_pairs
from tests.trials import Saved
from trainables.data import open_dataset, prepare
from trainables.errors import UserError
from trainables.memory import MemoryPredictor
from trainables.methods import Queried
from trainables.methods.heads import head_inputs, query_inputs
from trainables.probe import solve_linear
from trainables.step import Recipe, TrainingSetting
from trainables.task_settings import TaskSettings
from trainables.towers import InputSizes, load_tower, resolve_encoder, resolve_encoders
from trainables.trial.assignment import Assignment
from trainables.trial.export import export_encoders
from trainables.trial.probing import run_probes
from trainables.trial.run import TrialRun
from trainables.trial.workbench import TrialSpec
from trainables.units import GIB

LINEAR = Assignment(config={"method": "linear", "learning_rate": 3e-3})
TASK = TaskSettings(task="retrieval", query="slant", embedding_size=32)


@pytest.fixture
def spec(workplace) -> TrialSpec:
    folder = write_pairs(workplace / "pairs")
    dataset = open_dataset(str(folder), TASK)
    kinds = dict.fromkeys(dataset.modalities, "features")
    encoders = resolve_encoders(encoders_of_pairs(), {}, kinds)
    sizes = InputSizes(feature_length=1)
    return TrialSpec(
        dataset=str(folder),
        prepared=prepare(dataset, encoders, sizes).key,
        task=dataset.task.to_dict(),
        encoders=encoders_of_pairs(),
        pooling={modality: encoder.pooling for modality, encoder in encoders.items()},
        kinds=kinds,
        fingerprints={modality: encoder.fingerprint() for modality, encoder in encoders.items()},
        setting=TrainingSetting(batch_size=32, target="cpu", **asdict(sizes)),
        recipe=Recipe(warm_up=0, head_start="random", keep="last"),
        epochs=10,
    )


def test_it_learns_to_find_and_its_memory_is_the_predicted(spec) -> None:
    run = TrialRun(spec, LINEAR)
    results = [run.epoch() for _ in range(10)]
    chance = run.bench.task.guess(run.bench.data.split("validation").labels)
    assert results[-1]["r_at_10"] > 1.5 * chance["r_at_10"]
    assert results[-1]["reverse_mean_rank"] < chance["reverse_mean_rank"] / 1.5
    assert run.outputs is not None
    assert run.outputs.shape == (ROWS["validation"], 2)
    assert (run.outputs[:, 0] <= 10).mean() == results[-1]["r_at_10"]
    encoders = resolve_encoders(spec.encoders, spec.pooling, spec.kinds)
    predictor = MemoryPredictor(encoders, run.bench.task, run.setting)
    assert results[-1]["measured_memory"] == predictor.predict("linear", {}).total / GIB


def test_the_untrained_method_is_the_probe(spec) -> None:
    run = TrialRun(replace(spec, recipe=Recipe(head_start="probe")), LINEAR)
    assert isinstance(run.method, Queried)
    seen = {}
    for split in ("train", "validation"):
        with head_inputs(run.method) as fused, query_inputs(run.method) as asked:
            _, labels = run.trainer.outputs(run.loader(split))
        seen[split] = torch.cat(fused), torch.cat(asked), labels
    (features, queries, labels), (held_out, held_queries, truth) = seen.values()
    solution = solve_linear(
        run.bench.task, (features, labels), (held_out, truth), queries=(queries, held_queries)
    )
    started = run.start()
    assert started is not None
    outputs, _ = run.trainer.outputs(run.validation)
    of_method, of_probe = (o.chunk(2, dim=1) for o in (outputs, solution.outputs(held_out, held_queries)))
    # Vectors of 32 numbers have room for the 16 features: the rotation keeps all angles
    angles, expected = (queries @ documents.T for documents, queries in (of_method, of_probe))
    torch.testing.assert_close(angles / of_method[0].norm(dim=1), expected, atol=1e-4, rtol=0)
    assert started.metrics["mean_rank"] == pytest.approx(solution.metrics["mean_rank"], rel=0.02)


def test_the_probe_predicts_the_query(spec) -> None:
    probes = run_probes(spec)
    assert set(probes.joint.poolings) == set(probes.single) == {"shape", "stroke"}
    dataset = open_dataset(spec.dataset, TASK)
    chance = dataset.task.guess(dataset.labels("test"))
    assert probes.joint.metrics["test"]["r_at_10"] > 2 * chance["r_at_10"]
    assert probes.joint.outputs["test"].shape == (ROWS["test"], 2)


def test_a_checkpoint_gives_the_same_ranks(spec, tmp_path) -> None:
    run = TrialRun(spec, LINEAR)
    run.epoch()
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    run.save(folder)
    again = TrialRun(spec, LINEAR)
    again.load_weights(folder)
    assert again.evaluate("test").metrics == run.evaluate("test").metrics
    folders = export_encoders(spec, replace(LINEAR, checkpoint=Saved(folder)), tmp_path / "encoders")
    assert set(folders) == set(VIEWS)  # new encoders train, and so does the query's
    exported = load_tower(resolve_encoder("slant", str(folders["slant"]), kind="features")).state_dict()
    trained = run.method.tower("slant").state_dict()
    assert all(torch.equal(exported[name], weight) for name, weight in trained.items())


def test_equal_contents_are_one_query_and_one_document(workplace) -> None:
    folder = write_pairs(workplace / "pairs")
    table = pq.read_table(folder / "train.parquet")
    rows = [0, 1, 2, 0]
    repeated = table.take(rows)
    slant = repeated["slant"].take([0, 1, 0, 3])
    repeated = repeated.set_column(repeated.schema.get_field_index("slant"), "slant", slant)
    pq.write_table(repeated, folder / "validation.parquet")
    dataset = open_dataset(str(folder), TASK)
    expected = [[0, 0], [1, 1], [0, 2], [0, 0]]
    assert dataset.labels("validation").tolist() == expected
    kinds = dict.fromkeys(dataset.modalities, "features")
    sources = resolve_encoders(encoders_of_pairs(), {}, kinds)
    data = prepare(dataset, sources, InputSizes(feature_length=1))
    assert data.split("validation").labels.tolist() == expected
    two = {modality: sources[modality] for modality in ("slant", "stroke")}
    assert prepare(dataset, two, InputSizes(feature_length=1)).split("validation").labels.tolist() == expected


def test_a_loss_of_another_kind_needs_no_new_data(spec) -> None:
    settings = replace(TASK, retrieval_loss="margin", embedding_size=8)
    dataset = open_dataset(spec.dataset, settings)
    sources = resolve_encoders(spec.encoders, spec.pooling, spec.kinds)
    assert prepare(dataset, sources, spec.setting.sizes).key == spec.prepared


def test_the_dataset_may_name_the_query(workplace) -> None:
    folder = write_pairs(workplace / "pairs", {"paretofuse.task": "retrieval", "paretofuse.query": "shape"})
    task: Any = open_dataset(str(folder)).task
    assert task.query.modality == "shape"
    assert open_dataset(str(folder), TaskSettings(query="stroke")).task.query.modality == "stroke"


def test_a_retrieval_without_a_query_is_refused(workplace) -> None:
    folder = write_pairs(workplace / "pairs")
    with pytest.raises(UserError, match="--task retrieval: needs --query MODALITY"):
        _ = open_dataset(str(folder), TaskSettings(task="retrieval")).task
    with pytest.raises(UserError, match="has no column 'label'"):
        open_dataset(str(folder))
