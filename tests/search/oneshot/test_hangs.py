"""Supernets, subnets and test scores that hang, or whose workers lack the dataset."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from search import SearchConfig
from search.backends.training import PreparedTraining
from search.engine.gate import Gate
from search.execution.scoring import score_on_test
from search.nodes import NodeError, find_nodes
from search.oneshot.ordering import SupernetOrder, order_supernet
from search.oneshot.pool import EvaluationJob, SubnetPool
from search.oneshot.supernet import train_supernet
from search.placement import place
from search.setup import Setup, look_up, set_up
from tests.search.on_ray import ray_in
from trainables.elastic import SupernetWeights
from trainables.errors import UserError
from trainables.methods.pmf import PMF
from trainables.supernet.run import SupernetRun
from trainables.trial.assignment import Assignment
from trainables.trial.run import TrialRun
from trainables.trial.workbench import TrialSpec

pytestmark = [pytest.mark.ray, pytest.mark.full]

#: PMF hangs as often as there are files of that name, in training or in evaluation.
PLUGIN = """
import time
from pathlib import Path

from torch._subclasses.fake_tensor import FakeTensor

from trainables.methods.pmf import PMF

conclude = PMF.conclude


def hanging(self, sequences):
    real = not any(isinstance(s.tokens, FakeTensor) for s in sequences.values())
    for file in Path({folder!r}).glob("training-*" if self.training else "evaluation-*"):
        if real:
            file.unlink()
            time.sleep(600)
    return conclude(self, sequences)


if PMF.conclude.__name__ != "hanging":
    PMF.conclude = hanging
"""


class Hanging:
    """A search whose methods hang as often as they are told."""

    def __init__(self, folder: Path, setup: Setup, prepared: PreparedTraining) -> None:
        self.folder = folder
        self.setup = setup
        self.prepared = prepared
        self.placement = place(find_nodes(), 4)
        self.gate = Gate.of((), self.placement, setup.predictor, cached=True)
        self.said: list[str] = []

    def hangs(self, what: str, times: int) -> None:
        for number in range(times):
            (self.folder / f"{what}-{number}").touch()

    def order(self) -> SupernetOrder:
        return order_supernet(self.setup, self.prepared, self.placement, self.gate, self.said.append)

    def needed(self) -> int:
        order = self.order()
        return self.gate.needed_for(order.config, order.expected)

    def train(self) -> list[dict[str, float]]:
        heard: list[dict[str, float]] = []
        train_supernet(self.order(), self.setup.config, heard.append, self.said.append)
        return heard

    def weights(self) -> SupernetWeights:
        run = SupernetRun(self.prepared.spec, self.order().job.plan(), torch.device("cpu"))
        return run.supernet.weights

    def pool(self, failures: int, spec: TrialSpec | None = None) -> SubnetPool:
        share = self.placement.of(self.needed())
        job = EvaluationJob(spec or self.prepared.spec, 4, self.gate, share, "fp32", inference=False)
        return SubnetPool(job, self.weights(), size=1, failures=failures, say=self.said.append)


@pytest.fixture
def hanging(
    workplace: Path,
    tiny_encoders: dict[str, Path],
    squares: Path,
    ray_address: str,
    empty_store: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Hanging]:
    monkeypatch.setattr(PMF, "conclude", PMF.conclude)  # what the plugin changes here is for one test
    plugin = workplace / "hanging.py"
    plugin.write_text(PLUGIN.format(folder=str(workplace)))
    config = SearchConfig(
        space="pmf_nas",
        strategy="oneshot",
        dataset=str(squares),
        text_encoder=str(tiny_encoders["bert"]),
        image_encoder=str(tiny_encoders["vit"]),
        supernet_epochs=2,
        epochs=1,
        batch_size=16,
        image_size=32,
        hang_timeout=10,
        max_failures=1,
        plugins=(str(plugin),),
        storage_path=str(workplace / "runs"),
    )
    with ray_in(workplace, ray_address, empty_store):
        setup = set_up(look_up(config).in_precision("fp32"), Console(quiet=True))
        prepared = setup.backend.prepare(setup.space, Console(quiet=True))
        assert isinstance(prepared, PreparedTraining)
        yield Hanging(workplace, setup, prepared)


def test_a_supernet_that_hangs_once_goes_on(hanging) -> None:
    hanging.hangs("training", 1)
    heard = hanging.train()
    assert [result["epoch"] for result in heard] == [1, 2]
    (said,) = hanging.said
    assert said.startswith("supernet goes on after epoch 0: hung at File ")
    assert said.endswith("in hanging")


def test_a_supernet_that_always_hangs_is_given_up(hanging) -> None:
    hanging.hangs("training", 2)
    with pytest.raises(UserError, match=r"supernet's training failed: hung at File .* in hanging, on "):
        hanging.train()


def test_an_actor_that_hangs_once_is_replaced(hanging) -> None:
    hanging.hangs("evaluation", 1)
    pool = hanging.pool(failures=1)
    smallest = hanging.setup.space.smallest(hanging.setup.context)[0]
    ((index, answer),) = pool.evaluate([smallest])
    pool.close()
    assert index == 0
    assert 0 <= answer.metrics["accuracy"] <= 1
    (said,) = hanging.said
    assert said.startswith("an actor that evaluates subnets is replaced: hung at File ")


def test_actors_that_always_hang_end_the_search(hanging) -> None:
    hanging.hangs("evaluation", 2)
    pool = hanging.pool(failures=1)
    smallest = hanging.setup.space.smallest(hanging.setup.context)[0]
    with pytest.raises(UserError, match=r"evaluating subnets failed: hung at File .* in hanging, on "):
        list(pool.evaluate([smallest]))
    pool.close()


def _lacking(spec: TrialSpec) -> TrialSpec:
    """What workers get whose node lacks the dataset."""
    return replace(spec, dataset="/data/memes", prepared="elsewhere")


def test_what_a_supernets_workers_lack_is_said_with_the_node_and_not_tried_again(hanging) -> None:
    order = hanging.order()
    order = replace(order, job=replace(order.job, spec=_lacking(order.job.spec)))
    heard: list[dict[str, Any]] = []
    with pytest.raises(NodeError, match=r"^the supernet's training failed: .*/data/memes.* \(on .*\)$"):
        train_supernet(order, hanging.setup.config, heard.append, hanging.said.append)
    assert (heard, hanging.said) == ([], [])


def test_what_actors_lack_is_said_with_the_node(hanging) -> None:
    pool = hanging.pool(failures=1, spec=_lacking(hanging.prepared.spec))
    smallest = hanging.setup.space.smallest(hanging.setup.context)[0]
    with pytest.raises(NodeError, match=r"^evaluating subnets failed: .*/data/memes.* \(on .*\)$"):
        list(pool.evaluate([smallest]))
    pool.close()
    assert hanging.said == []


@pytest.mark.parametrize("hangs", [1, 2])
def test_a_test_score_that_hangs_is_tried_again(hanging, hangs, tmp_path) -> None:
    config = {**hanging.setup.space.smallest(hanging.setup.context)[0], "learning_rate": 1e-2}
    run = TrialRun(hanging.prepared.spec, Assignment(config=config))
    run.save(tmp_path)
    from ray.tune import Checkpoint

    assigned = Assignment(config=config, checkpoint=Checkpoint(str(tmp_path)))
    share = hanging.placement.of(hanging.needed())
    hanging.hangs("evaluation", hangs)
    ((index, found),) = score_on_test(
        hanging.prepared.scorer, [(assigned, share)], Console(), hang_timeout=10, max_failures=1
    )
    assert index == 0
    if hangs == 1:
        assert not isinstance(found, str)
        assert found.metrics == run.evaluate("test").metrics
    else:
        assert isinstance(found, str)
        assert found.startswith("hung at File ")
