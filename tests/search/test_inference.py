"""Inference memory is an objective like any other, and predicted for the searches that read it."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from search import SearchConfig
from search.engine.gate import Gate
from search.goals.constraints import parse_constraints
from search.goals.objectives import get_objectives, known_values
from search.nodes import Node
from search.oneshot import pool
from search.oneshot.ordering import order_supernet
from search.oneshot.pool import EvaluationJob, SubnetActor
from search.placement import place
from search.records.history import History, TrialRecord
from search.records.status import Status
from search.setup import Setup, look_up, set_up
from tests.search.test_resume import _write_table
from trainables.errors import UserError
from trainables.memory import MemoryReport
from trainables.supernet.run import SupernetRun
from trainables.units import GIB

QUIET = Console(quiet=True)
CPU = Node(cpus=2, memory=8 * GIB)


@pytest.fixture
def config(workplace, tiny_encoders, squares) -> SearchConfig:
    return SearchConfig(
        space="all_methods",
        dataset=str(squares),
        text_encoder=str(tiny_encoders["bert"]),
        image_encoder=str(tiny_encoders["vit"]),
        image_size=32,
        batch_size=8,
        feature_cache=False,
        target="cpu",  # a GPU's allocator reserves the same for all methods over encoders this small
    )


def ready(config: SearchConfig, **changes: Any) -> Setup:
    return set_up(look_up(config.replace(space="pmf_nas", **changes)).in_precision("fp32"), QUIET)


@pytest.mark.parametrize(
    ("changes", "read"),
    [
        ({"objectives": ("inference_memory", "accuracy")}, True),
        ({"constraints": ("inference_memory<=2GiB",)}, True),
        ({"constraints": ("memory<=2GiB",)}, False),
    ],
)
def test_it_is_predicted_if_an_objective_or_a_constraint_reads_it(config, changes, read) -> None:
    setup = ready(config, **changes)
    member = setup.space.largest(setup.context)[0]
    report = setup.predictor.predict_configuration(member)
    assert (report.inference is not None) is read
    assert ("inference_memory" in known_values(report)) is read
    assert replace(report, inference=None) == ready(config).predictor.predict_configuration(member)
    assert ("inference_memory" in setup.history.reference) is ("objectives" in changes)
    probing = setup.backend.prepare(setup.space, QUIET).probing("cpu")
    assert probing is not None
    assert all(("inference_memory" in known_values(each)) is read for each in probing.memory.values())


def test_the_front_is_another_one(config) -> None:
    """To train both encoders takes more memory than to fuse them, and to run them takes less."""
    predictor = look_up(config.replace(objectives=("inference_memory", "accuracy"))).backend.predictor
    fronts = {}
    for name in ("memory", "inference_memory"):
        history = History(get_objectives((name, "accuracy")), {name: 100.0, "accuracy": 0.0})
        for method in ("late_concat", "wander"):
            configuration = {"method": method, "learning_rate": 1e-3}
            record = TrialRecord(method, configuration, predictor.predict_configuration(configuration))
            history.add(record)
            history.note(record, {"epoch": 1, "accuracy": 0.5})
            history.settle(record, Status.FINISHED)
        fronts[name] = [record.trial_id for record in history.front()]
    assert fronts == {"memory": ["wander"], "inference_memory": ["late_concat"]}


def test_a_bound_keeps_candidates_from_being_started(config) -> None:
    setup = ready(config, constraints=("inference_memory<=2GiB",))
    member = setup.space.largest(setup.context)[0]
    needed = setup.predictor.predict_configuration(member).inference_memory
    assert needed is not None
    for spare, feasible in ((0, True), (-1, False)):
        constraints = parse_constraints([f"inference_memory<={needed + spare}B"])
        gate = Gate.of(constraints, place([CPU], 4), setup.predictor, cached=False)
        assert gate.assess(member, setup.predictor).feasible is feasible
    with pytest.raises(
        UserError, match=r"inference_memory<=100KiB: nothing in space 'pmf_nas' fits; its small"
    ):
        ready(config, constraints=("inference_memory<=100KiB",))


def test_a_supernet_and_its_subnets_have_theirs(config, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(pool, "notes_folder", lambda name: Path(tmp_path, name))
    constraints = ("inference_memory<=2GiB",)
    setup = ready(config, strategy="oneshot", sampler="random", constraints=constraints)
    prepared: Any = setup.backend.prepare(setup.space, QUIET)
    placement = place([CPU], 4)
    gate = Gate.of(setup.history.constraints, placement, setup.predictor, cached=False)
    order = order_supernet(setup, prepared, placement, gate, print)
    largest, smallest = (ends(setup.context)[0] for ends in (setup.space.largest, setup.space.smallest))
    predicted = [setup.predictor.predict_configuration(member).inference for member in (largest, smallest)]
    assert order.memory.inference == predicted[0] > predicted[1]
    weights = SupernetRun(prepared.spec, order.job.plan(), torch.device("cpu")).supernet.weights
    job = EvaluationJob(prepared.spec, 8, gate, placement.of(0), "fp32", inference=True)
    actor = SubnetActor(job, weights, "notes")
    answers = actor.evaluate([largest, smallest])
    assert [answer.memory.inference for answer in answers] == predicted
    assert all(answer.violations[constraints[0]] < 0 for answer in answers)


def test_records_of_earlier_searches_lack_it() -> None:
    record = TrialRecord("trial-000", {"method": "pmf"}, MemoryReport(8, 8, 0, 0, 0, 0, 1, 4, 12, 5, 6))
    document = record.to_dict()
    again = TrialRecord.from_dict("trial-000", document, [])
    assert again.values["inference_memory"] == 11 / GIB
    del document["memory"]["inference"]
    earlier = TrialRecord.from_dict("trial-000", document, [])
    assert set(earlier.values) == set(again.values) - {"inference_memory"}
    assert asdict(earlier.memory) == {**asdict(again.memory), "inference": None}


def test_recorded_tables_answer_for_it_if_they_hold_it(tmp_path) -> None:
    settings = {"space": "pmf_nas", "target": "cpu", "epochs": 2}
    old = _write_table(tmp_path / "old.parquet")
    for changes in (
        {"objectives": ("inference_memory", "accuracy")},
        {"constraints": ("inference_memory<=1GiB",)},
    ):
        with pytest.raises(UserError, match="does not hold the objective 'inference_memory'"):
            look_up(SearchConfig(**settings, **changes, replay=str(old)))
