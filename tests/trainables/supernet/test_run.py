"""A supernet on real data: training, resuming, evaluating subnets, starting trials from it."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from spaces import SpaceContext, get_space
from spaces.subnets import draw_member, subnet_space
from tests.tasks import classification
from tests.trials import DAMAGE, Saved
from trainables.configuration import split_config
from trainables.data import Batch, Loader, open_dataset, prepare
from trainables.elastic import SupernetWeights
from trainables.errors import UserError
from trainables.methods.heads import head_inputs
from trainables.probe import solve_linear
from trainables.seeds import MAX_SEED
from trainables.step import Recipe
from trainables.step.setting import TrainingSetting
from trainables.supernet.evaluation import SubnetEvaluator
from trainables.supernet.plan import SupernetPlan, Worker
from trainables.supernet.run import SupernetRun
from trainables.supernet.step import Curriculum
from trainables.towers import InputSizes, resolve_encoders
from trainables.trial.assignment import Assignment
from trainables.trial.checkpoint import load_whole
from trainables.trial.run import TrialRun
from trainables.trial.workbench import TrialSpec

CONTEXT = SpaceContext({"text": 3, "image": 4}, {"text": 32, "image": 48})
CPU = torch.device("cpu")


@pytest.fixture
def spec(workplace, tiny_encoders, squares) -> TrialSpec:
    names = {"text": str(tiny_encoders["bert"]), "image": str(tiny_encoders["vit"])}
    encoders = resolve_encoders(names)
    setting = TrainingSetting(batch_size=16, text_length=8, image_size=32)
    return TrialSpec(
        dataset=str(squares),
        prepared=prepare(open_dataset(str(squares)), encoders, InputSizes(text_length=8, image_size=32)).key,
        task=classification(3).to_dict(),
        encoders=names,
        pooling={modality: encoder.pooling for modality, encoder in encoders.items()},
        kinds={modality: encoder.kind for modality, encoder in encoders.items()},
        fingerprints={modality: encoder.fingerprint() for modality, encoder in encoders.items()},
        setting=setting,
        epochs=2,
    )


def drawn(name: str, count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Configurations of subnets, with their method and learning rate."""
    space, rng = subnet_space(get_space(name), CONTEXT), random.Random(seed)
    return [draw_member(space, CONTEXT, rng).config for _ in range(count)]


def fields(config: dict[str, Any]) -> dict[str, Any]:
    return split_config(config)[1]


def draw(name: str, rng: random.Random) -> dict[str, Any]:
    return fields(draw_member(subnet_space(get_space(name), CONTEXT), CONTEXT, rng).config)


def plan_of(name: str = "pmf_nas", paths: str = "uniform", epochs: int = 2) -> SupernetPlan:
    space = subnet_space(get_space(name), CONTEXT)
    largest, smallest = (fields(end(CONTEXT)[0]) for end in (space.largest, space.smallest))
    method = space.largest(CONTEXT)[0]["method"]
    curriculum = Curriculum(paths, False, largest, smallest, partial(draw, name))
    return SupernetPlan(method, 2e-3, epochs, curriculum, smallest, seed=3)


def weights(run: SupernetRun) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in run.supernet.weights.state.items()}


@pytest.mark.parametrize("paths", ["uniform", "sandwich"])
def test_an_interrupted_training_goes_on_as_it_would_have(spec, tmp_path, paths) -> None:
    whole = SupernetRun(spec, plan_of(paths=paths), CPU)
    results = [whole.epoch(), whole.epoch()]
    half = SupernetRun(spec, plan_of(paths=paths), CPU)
    first = half.epoch()
    half.save(tmp_path)
    resumed = SupernetRun(spec, plan_of(paths=paths), CPU)
    resumed.load(tmp_path)
    second = resumed.epoch()
    assert [first["train_loss"], second["train_loss"]] == [r["train_loss"] for r in results]
    assert second["epoch"] == 2
    assert all(torch.equal(value, weights(whole)[name]) for name, value in weights(resumed).items())


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_checkpoint_costs_an_epoch(spec, tmp_path, damage) -> None:
    run = SupernetRun(spec, plan_of(epochs=3), CPU)
    folders = [tmp_path / f"checkpoint_{epoch}" for epoch in (1, 2)]
    for folder in folders:
        run.epoch()
        folder.mkdir()
        run.save(folder)
    resumed = SupernetRun(spec, plan_of(epochs=3), CPU)
    for file in list(folders[1].iterdir()):
        content = file.read_bytes()
        DAMAGE[damage](file)
        said = load_whole([Saved(folder) for folder in reversed(folders)], resumed.load)
        assert f"checkpoint_2 is damaged ({file.name} " in said[0]
        assert resumed.trainer.epoch == 1
        file.write_bytes(content)
    assert load_whole([Saved(folders[1])], resumed.load) == []
    assert resumed.trainer.epoch == 2


def test_workers_draw_the_same_subnets_which_change_from_step_to_step() -> None:
    plans = [plan_of(), plan_of()]
    drawn = [[p.curriculum.subnets(0, epoch, step) for epoch in range(2) for step in range(5)] for p in plans]
    assert drawn[0] == drawn[1]
    assert len({str(subnets) for subnets in drawn[0]}) == 10
    assert plans[0].curriculum.subnets(1, 0, 0) != drawn[0][0]
    largest, smallest, _ = plan_of(paths="sandwich").curriculum.subnets(0, 0, 0)
    assert largest["n_fusion_layers"] == 3
    assert smallest["n_fusion_layers"] == 1


@pytest.mark.parametrize("seed", [20261126, MAX_SEED])
def test_any_seed_trains_a_supernet_and_decides_how(spec, seed) -> None:
    def loss(seed: int) -> float:
        return SupernetRun(spec, dataclasses.replace(plan_of(epochs=1), seed=seed), CPU).epoch()["train_loss"]

    assert loss(seed) == loss(seed) != loss(seed - 1)


def test_refuses_unknown_paths_and_distilling_from_nothing() -> None:
    curriculum = plan_of().curriculum
    with pytest.raises(UserError, match="unknown paths 'both'; known: sandwich, uniform"):
        dataclasses.replace(curriculum, paths="both")
    with pytest.raises(UserError, match="--distill: needs --paths sandwich"):
        dataclasses.replace(curriculum, distill=True)


@pytest.mark.parametrize(
    ("name", "pooling"),
    [("pmf_nas", "cls"), ("pmf_nas", "mean"), ("wander", "cls"), ("mope", "cls"), ("lora", "cls")],
)
def test_subnets_are_evaluated_as_the_trials_that_start_from_them(spec, tmp_path, name, pooling) -> None:
    spec = dataclasses.replace(spec, pooling={"text": pooling, "image": pooling})
    run = SupernetRun(spec, plan_of(name, epochs=1), CPU)
    run.epoch()
    run.save(tmp_path)
    inherited = SupernetWeights.load(tmp_path)
    evaluator = SubnetEvaluator(run.bench, run.setting, run.supernet)
    for config in drawn(name, 4):
        trial = TrialRun(spec, Assignment(config=config), inherited)
        found = evaluator.evaluate(fields(config))
        expected = trial.evaluate("validation").metrics
        assert found["accuracy"] == expected["accuracy"]
        assert found["loss"] == pytest.approx(expected["loss"], abs=1e-5)
        scratch = TrialRun(spec, Assignment(config=config))
        assert scratch.evaluate("validation").metrics["loss"] != pytest.approx(expected["loss"], abs=1e-5)


def test_what_subnets_share_is_computed_once_and_changes_nothing(spec) -> None:
    run = SupernetRun(spec, plan_of(epochs=1), CPU)
    run.epoch()
    base = fields(drawn("pmf_nas", 1, seed=5)[0]) | {"n_fusion_layers": 3}
    kinds = ("n_query_prompts", "n_query_context_prompts", "n_fusion_context_prompts")

    def lengths(*of_layers: int) -> dict[str, Any]:
        return {**base, **{kind: {"text": list(of_layers), "image": list(of_layers)} for kind in kinds}}

    configs = [lengths(1, 2, 3), lengths(1, 2, 4), lengths(1, 3, 4), lengths(2, 2, 3), lengths(1, 2, 3)]
    sharing = SubnetEvaluator(run.bench, run.setting, run.supernet)
    alone = SubnetEvaluator(run.bench, run.setting, run.supernet, states=0)
    assert [sharing.evaluate(c) for c in configs] == [alone.evaluate(c) for c in configs]
    # 3; two lower layers of the first one; its lowest; none; two
    assert (sharing.stages_run, sharing.stages_shared) == (15 - 2 - 1 - 0 - 2, 5)
    assert (alone.stages_run, alone.stages_shared) == (15, 0)


def test_kept_sequences_stay_below_their_limit(spec) -> None:
    run = SupernetRun(spec, plan_of(epochs=1), CPU)
    unlimited = SubnetEvaluator(run.bench, run.setting, run.supernet)
    configs = [fields(config) for config in drawn("pmf_nas", 12)]
    expected = [unlimited.evaluate(config) for config in configs]
    limited = SubnetEvaluator(run.bench, run.setting, run.supernet, states=200_000)
    assert [limited.evaluate(config) for config in configs] == expected
    assert 0 < limited._held <= 200_000 < unlimited._held


def test_a_supernets_checkpoint_is_one_of_its_largest_subnet(spec, tmp_path: Path) -> None:
    run = SupernetRun(spec, plan_of(epochs=1), CPU)
    run.epoch()
    run.save(tmp_path)
    found = SupernetWeights.load(tmp_path)
    assert found.method == "pmf"
    run.supernet.largest.load_trainable_state_dict(found.state)
    assert found.config["n_fusion_layers"] == 3


@pytest.mark.parametrize("name", ["pmf_nas", "wander", "mope", "lora"])
def test_the_head_starts_as_the_best_linear_model_for_the_subnet_that_is_followed(spec, name) -> None:
    plan = plan_of(name)
    run = SupernetRun(spec, plan, CPU)
    run.start()
    assignment = Assignment(config={"method": plan.method, **plan.followed, "learning_rate": 1e-3})
    trial = TrialRun(spec, assignment, run.supernet.weights)
    with head_inputs(trial.method) as found:
        (outputs, labels), (_, truth) = (
            trial.trainer.outputs(trial.loader(s)) for s in ("train", "validation")
        )
    fitted, held_out = torch.cat(found).split([len(labels), len(truth)])
    solution = solve_linear(trial.trainer.task, (fitted, labels), (held_out, truth))
    assert torch.allclose(outputs, solution.outputs(fitted), atol=1e-4)


def test_no_supernet_starts_so_if_its_recipe_says_random(spec) -> None:
    run = SupernetRun(dataclasses.replace(spec, recipe=Recipe(head_start="random")), plan_of(), CPU)
    before = weights(run)
    run.start()
    assert all(torch.equal(value, before[name]) for name, value in weights(run).items())


def test_a_worker_evaluates_as_many_rows_at_once_as_a_part_of_its_step_has(spec, monkeypatch) -> None:
    sizes: list[int] = []
    in_order = Loader.in_order

    def noting(loader: Loader, batch_size: int | None = None) -> Iterator[Batch]:
        for batch in in_order(loader, batch_size):
            sizes.append(len(batch.labels))
            yield batch

    monkeypatch.setattr(Loader, "in_order", noting)
    monkeypatch.setattr(torch.distributed, "broadcast", lambda *_: None)  # there is no other worker
    setting = dataclasses.replace(spec.setting, gradient_accumulation=2)
    run = SupernetRun(dataclasses.replace(spec, setting=setting), plan_of(epochs=1), CPU, worker=Worker(0, 2))
    run.start()
    assert max(sizes) == 16 // 2 // 2
    sizes.clear()
    run.epoch()
    assert max(sizes) == 16 // 2 // 2
