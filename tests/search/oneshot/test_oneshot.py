"""One-shot searches: whole ones on a real local Ray, killed ones, and what is refused."""

from __future__ import annotations

import io
import json
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from unittest import mock

import pytest
import torch
from mlflow.tracking import MlflowClient
from rich.console import Console

from search import SearchConfig, resume_search, run_search
from search.backends.training import PreparedTraining
from search.engine import racing
from search.engine.gate import Gate
from search.nodes import Node, find_nodes
from search.oneshot import strategy, subnets
from search.oneshot.ordering import SupernetOrder, order_supernet
from search.oneshot.pool import Answer, EvaluationJob, SubnetPool
from search.oneshot.strategy import OneShot
from search.oneshot.subnets import SubnetSearch
from search.oneshot.supernet import train_supernet
from search.placement import place as place_trials
from search.records.history import TrialRecord
from search.records.store import SearchStore
from search.setup import look_up, set_up
from spaces import SPACES, get_space, register_space
from tests.search.on_ray import kill_family, ray_in
from trainables.elastic import SupernetWeights
from trainables.errors import UserError
from trainables.memory import MemoryReport
from trainables.supernet.run import SupernetRun


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"strategy": "two"}, "unknown strategy 'two'; known: oneshot, trials"),
        ({"scheduler": "pareto_asha"}, "--scheduler: is not for --strategy oneshot"),
        ({"min_epochs": 9}, "--min-epochs: is not for --strategy oneshot"),
        ({"reduction_factor": 3.0}, "--reduction-factor: is not for --strategy oneshot"),
        ({"warm_start": "other"}, "--warm-start: is not for --strategy oneshot"),
        ({"strategy": "trials", "workers": 2}, "--workers: is not for --strategy trials"),
        ({"strategy": "trials", "learning_rate": 0.1}, "--learning-rate: is not for --strategy trials"),
        ({"sampler": "ehvi"}, "--sampler ehvi: proposes no subnets; must be one of evolution, nsga2"),
        ({"objectives": ("memory", "step_time")}, "step_time: is not known of subnets"),
        ({"workers": 3}, "--workers 3: must divide --batch-size, 32"),
        (
            {"workers": 4, "gradient_accumulation": 16},
            "^--workers 4 times --gradient-accumulation 16: must divide --batch-size, 32$",
        ),
        ({"paths": "both"}, "unknown paths 'both'; known: sandwich, uniform"),
        ({"distill": True}, "--distill: needs --paths sandwich"),
        ({"subnet_precision": "fp8"}, "unknown subnet precision 'fp8'"),
        ({"learning_rate": 0.0}, "--learning-rate 0.0: must be more than 0"),
        ({"supernet_epochs": 0}, "--supernet-epochs 0: must be at least 1"),
        ({"gradient_checkpointing": "search"}, "--gradient-checkpointing search: is not for"),
    ],
    ids=str,
)
def test_refuses_what_does_not_go_together(changes, message) -> None:
    with pytest.raises(UserError, match=message):
        SearchConfig(**{"space": "pmf_nas", "strategy": "oneshot", **changes}).check()


@pytest.mark.parametrize("space", ["all_methods", "linear", "sf_op"])
def test_refuses_spaces_that_share_no_weights(space) -> None:
    config = SearchConfig(space=space, strategy="oneshot")
    with pytest.raises(UserError, match=f"members of space '{space}' cannot share weights; must be one of"):
        set_up(look_up(config).in_precision("fp32"), Console(quiet=True))


def test_each_strategy_has_its_defaults() -> None:
    trials, oneshot = SearchConfig(space="pmf_nas"), SearchConfig(space="pmf_nas", strategy="oneshot")
    assert (trials.search.sampler, trials.search.num_samples, trials.trial.epochs) == ("ehvi", 20, 5)
    assert (oneshot.search.sampler, oneshot.search.num_samples, oneshot.trial.epochs) == ("evolution", 500, 3)
    assert SearchConfig.from_json(oneshot.to_json()).to_json() == oneshot.to_json()


@pytest.fixture
def settings(workplace, tiny_encoders, squares) -> dict[str, Any]:
    """Settings of a search that takes seconds."""
    return {
        "space": "pmf_nas",
        "strategy": "oneshot",
        "dataset": str(squares),
        "text_encoder": str(tiny_encoders["bert"]),
        "image_encoder": str(tiny_encoders["vit"]),
        "supernet_epochs": 2,
        "num_samples": 40,
        "finalists": 3,
        "tau_samples": 3,
        "epochs": 1,
        "batch_size": 16,
        "image_size": 32,
        "target": "cpu",
        "subnet_precision": "fp32",
        "probe": False,
        # Starting a second worker takes longer than all that it would do.
        "max_concurrent": 1,
        "storage_path": str(workplace / "runs"),
        "tracking_uri": f"sqlite:///{workplace}/mlflow.db",
    }


class FakePool:
    """Answers as a supernet might, at once."""

    def __init__(self, setup: Any) -> None:
        self.setup = setup
        self.asked: list[dict[str, Any]] = []

    def evaluate(self, configs: list[dict[str, Any]]) -> Iterator[tuple[int, Answer]]:
        for index, config in reversed(list(enumerate(configs))):
            self.asked.append(config)
            layers, width = config.get("n_fusion_layers", 1), config.get("translator_width", 8)
            memory = MemoryReport(10**6 * layers, 0, 0, 0, 0, 0, 100 * layers, 400)
            bad = layers == 3 and width == 6
            accuracy = float("nan") if bad else 0.3 + 0.1 * layers + 0.001 * width
            yield index, Answer(memory, {}, {"accuracy": accuracy, "loss": 1 - 0.1 * layers})


def searched(settings: dict[str, Any], folder: Path, pool: Callable[[Any], Any] = FakePool) -> Any:
    setup = set_up(look_up(SearchConfig(**settings)).in_precision("fp32"), Console(quiet=True))
    there = (folder / "search.sqlite").exists()
    store = SearchStore.open(folder) if there else SearchStore.create(folder, {})
    search, answering = SubnetSearch(setup, store), pool(setup)
    try:
        search.run(answering, lambda count: None)
    finally:
        store.close()
    return search, answering


def numbers(search: SubnetSearch) -> list[Any]:
    return [(s.number, s.values, s.metrics, s.sampled) for s in search.evaluated]


def test_no_subnet_is_evaluated_twice_and_diverged_ones_do_not_count(settings, tmp_path) -> None:
    search, pool = searched({**settings, "num_samples": 120}, tmp_path / "subnets")
    asked = [json.dumps(config, sort_keys=True) for config in pool.asked]
    assert len(asked) == len(set(asked))
    assert len(search.evaluated) == 120
    assert all(subnet.metrics["accuracy"] > 0 for subnet in search.evaluated)
    assert len(search.sample) <= 3
    front = {subnet.config["n_fusion_layers"] for subnet in search.front()}
    assert front == {1, 2, 3}
    chosen = search.finalists(3)
    assert {subnet.config["n_fusion_layers"] for subnet in chosen} == {1, 2, 3}


def test_an_extended_search_repeats_nothing(settings, tmp_path) -> None:
    whole, _ = searched({**settings, "num_samples": 75}, tmp_path / "whole")
    searched({**settings, "num_samples": 50}, tmp_path / "pieces")
    pieces, pool = searched({**settings, "num_samples": 75}, tmp_path / "pieces")
    assert numbers(pieces) == numbers(whole)
    assert len(pool.asked) < 30  # 25, and what diverged among them


def test_a_generation_that_is_cut_off_is_done_again(settings, tmp_path) -> None:
    class Dying(FakePool):
        def evaluate(self, configs: list[dict[str, Any]]) -> Iterator[tuple[int, Answer]]:
            for number, answer in enumerate(super().evaluate(configs)):
                if len(self.asked) > 27 and number == 3:
                    raise KeyboardInterrupt
                yield answer

    whole, _ = searched(settings, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        searched(settings, tmp_path / "pieces", Dying)
    pieces, pool = searched(settings, tmp_path / "pieces")
    assert numbers(pieces) == numbers(whole)
    assert len(pool.asked) == len(whole.evaluated) - 25


def test_a_space_that_is_exhausted_ends_the_search(settings, tmp_path) -> None:
    small = {**settings, "space": "vpt", "num_samples": 500, "sampler": "random"}
    search, pool = searched(small, tmp_path / "subnets")
    assert search.exhausted
    assert len(pool.asked) == len(search.evaluated) == 32


@pytest.mark.ray
class TestOnRay:
    """Whole searches."""

    @pytest.fixture(scope="class")
    @classmethod
    def place(
        cls, tmp_path_factory: pytest.TempPathFactory, ray_address: str, empty_store: Path
    ) -> Iterator[Path]:
        folder = tmp_path_factory.mktemp("oneshot")
        with ray_in(folder, ray_address, empty_store):
            yield folder

    @pytest.fixture
    def on_ray(self, place, settings) -> dict[str, Any]:
        where = {"storage_path": str(place / "runs"), "tracking_uri": f"sqlite:///{place}/mlflow.db"}
        return {**settings, **where}

    @pytest.mark.full
    def test_two_workers_train_the_same_weights_as_one(self, on_ray) -> None:
        options = {**on_ray, "encoder_dropout": False, "workers": 2, "supernet_epochs": 1, "name": "workers"}
        setup = set_up(look_up(SearchConfig(**options)).in_precision("fp32"), Console(quiet=True))
        prepared = setup.backend.prepare(setup.space, Console(quiet=True))
        assert isinstance(prepared, PreparedTraining)
        placement = place_trials(find_nodes(), 40)
        gate = Gate.of((), placement, setup.predictor, cached=True)
        order = order_supernet(setup, prepared, placement, gate, print)
        single = replace(setup, config=setup.config.replace(workers=1))
        half = replace(prepared, spec=replace(prepared.spec, setting=replace(setup.setting, batch_size=8)))
        one = order_supernet(single, half, placement, gate, print).memory
        assert order.memory.total == one.total + one.checkpoint  # gradients are shared in buckets
        heard: list[dict[str, float]] = []
        checkpoint = train_supernet(order, setup.config, heard.append, print)
        assert [result["epoch"] for result in heard] == [1]
        two = SupernetWeights.load(setup.config.place.folder / checkpoint).state
        alone = SupernetRun(prepared.spec, order.job.plan(), torch.device("cpu"))
        alone.epoch()
        assert all(
            (weight - two[name]).abs().max() < 1e-4 for name, weight in alone.supernet.weights.state.items()
        )
        # Started once more for two epochs, it goes on from its last checkpoint.
        longer = replace(order, job=replace(order.job, epochs=2))
        train_supernet(longer, setup.config, heard.append, print)
        assert [result["epoch"] for result in heard] == [1, 2]


#: The command line, to which every place on the front is unsure.
DOUBTING = """
import sys
from search.cli import main
from search.engine import racing

racing.DOUBT = -1
sys.argv[0] = "search"
main()
"""
#: A third of what the largest subnet takes.
BUDGET = 20 * 10**6


@pytest.fixture
def phased(settings) -> dict[str, Any]:
    """Settings of a search that is cut off in each of its phases; all of them matter at its end."""
    more = {"num_samples": 30, "finalists": 2, "tau_samples": 2, "seeds": 2, "max_memory": BUDGET}
    # Of the loss, little of which is learnt in an epoch, it is luck which subnet has the least.
    more["objectives"] = ("memory", "loss")
    return {**settings, **more}


@pytest.mark.ray
@pytest.mark.full
def test_interrupted_it_goes_on_where_it_was(
    phased, workplace, ray_address, empty_store, monkeypatch
) -> None:
    """In the middle of evaluation; the supernet's training and trials are interrupted in other tests."""
    monkeypatch.setattr(racing, "DOUBT", -1)  # every place is unsure
    monkeypatch.setattr(subnets, "GENERATION", 6)
    phased |= {"num_samples": 10}
    evaluate = SubnetPool.evaluate
    generations: list[int] = []

    def interrupted(pool: SubnetPool, configs: Sequence[dict[str, Any]]) -> Iterator[tuple[int, Answer]]:
        generations.append(len(configs))
        for answer in evaluate(pool, configs):
            if len(generations) == 2:  # as Ctrl-C does, after the first generation was stored
                raise KeyboardInterrupt
            yield answer

    folder, storage = Path(phased["storage_path"]) / "interrupted", phased["storage_path"]
    heard = io.StringIO()
    console = Console(file=heard, width=200)
    with ray_in(workplace, ray_address, empty_store):
        with monkeypatch.context() as patch:
            patch.setattr(SubnetPool, "evaluate", interrupted)
            cut = run_search(SearchConfig(**phased, name="interrupted"), console=console)
        assert cut.interrupted
        assert "the supernet's steps run in 4 parts, to keep to memory<=20MB" in heard.getvalue()
        now = on_disk(folder)
        # Gone on with, it is extended, too
        ended = resume_search("interrupted", storage_path=storage, num_samples="+3", console=console)
    assert not ended.interrupted
    assert kept(now, on_disk(folder))
    check_ended(folder, json.loads(json.dumps(ended.to_dict())), phased["tracking_uri"], evaluated=13)


def test_a_supernet_that_breaks_the_budget_in_any_case_is_refused(settings) -> None:
    setup = set_up(
        look_up(SearchConfig(**settings | {"batch_size": 4}, max_memory=4_000_000)).in_precision("fp32"),
        Console(quiet=True),
    )
    prepared = setup.backend.prepare(setup.space, Console(quiet=True))
    placement = place_trials([Node(cpus=2)], 40)
    gate = Gate.of(setup.history.constraints, placement, setup.predictor, cached=True)
    with pytest.raises(UserError, match=r"supernet of space 'pmf_nas' takes .* breaks memory<=4MB"):
        order_supernet(setup, prepared, placement, gate, print)


@pytest.mark.parametrize(
    ("changes", "pairs"),
    [({}, ""), ({"task": "retrieval", "query": "text"}, "; wrong pairs are those within a part")],
    ids=["classification", "retrieval"],
)
def test_what_more_parts_do_to_the_loss_is_said(settings, changes, pairs) -> None:
    told: list[str] = []
    options = {**settings, "space": "vpt", **changes}
    most = ordered(options).memory.total
    assert ordered({**options, "max_memory": most - 1}, told.append).memory.total < most
    assert told == [f"the supernet's steps run in 2 parts, to keep to memory<={most - 1}B{pairs}"]


#: Settings that a space may state in addition to its method's options.
STATED = {
    "batch_size": 8,
    "weight_decay": 0.05,
    "clip_norm": 2.0,
    "optimizer": "sgd",
    "schedule": "constant",
    "head_start": "random",
    "modality_dropout": 0.2,
}


@pytest.fixture
def stating() -> Iterator[Callable[..., str]]:
    """Registers a space like pmf_nas that states some settings, and returns its name."""

    def register(**stated: Any) -> str:
        plain = get_space("pmf_nas")

        def stated_by(draw: Any) -> Any:
            return lambda trial, context: {**draw(trial, context), **stated}

        draws = {"sample": stated_by(plain.sample), "subnets": stated_by(plain.subnets)}
        return register_space(replace(plain, name="stating", **draws)).name

    with mock.patch.dict(SPACES):
        yield register


def ordered(settings: dict[str, Any], say: Callable[[str], None] = print) -> SupernetOrder:
    setup = set_up(look_up(SearchConfig(**settings)).in_precision("fp32"), Console(quiet=True))
    prepared = setup.backend.prepare(setup.space, Console(quiet=True))
    placement = place_trials([Node(cpus=2)], 40)
    gate = Gate.of(setup.history.constraints, placement, setup.predictor, cached=True)
    return order_supernet(setup, cast(PreparedTraining, prepared), placement, gate, say)


def test_a_supernet_trains_with_what_the_spaces_first_point_states(settings, stating) -> None:
    stated, told = (
        ordered({**settings, "space": stating(**STATED)}),
        ordered({**settings, **STATED}),
    )
    assert stated.memory == told.memory
    assert stated.expected == told.expected
    assert stated.job.spec.setting == told.job.spec.setting
    assert stated.job.spec.recipe == told.job.spec.recipe
    assert told.memory.total < ordered(settings).memory.total


def test_what_a_space_states_must_be_divided_among_workers(settings, stating) -> None:
    message = "--workers 2 times --gradient-accumulation 4: must divide the batch_size of the first point of "
    divided = {"workers": 2, "gradient_accumulation": 4}
    with pytest.raises(UserError, match=f"^{message}space 'stating', 12$"):
        ordered({**settings, **divided, "space": stating(batch_size=12)})


def test_subnets_are_evaluated_on_as_many_rows_as_a_part_of_the_stated_batch(
    settings, stating, tmp_path, monkeypatch
) -> None:
    given: list[EvaluationJob] = []

    def cut_off(job: EvaluationJob, *_: Any) -> None:
        given.append(job)
        raise KeyboardInterrupt

    config = SearchConfig(**{**settings, "space": stating(batch_size=8), "gradient_accumulation": 2})
    setup = set_up(look_up(config).in_precision("fp32"), Console(quiet=True))
    prepared = setup.backend.prepare(setup.space, Console(quiet=True))
    monkeypatch.setattr(OneShot, "_train", lambda self: None)
    monkeypatch.setattr(strategy, "SubnetPool", cut_off)
    config.place.folder.mkdir(parents=True)
    store = SearchStore.create(tmp_path / "search", {})
    placement, unused = place_trials([Node(cpus=2)], 40), cast(Any, SimpleNamespace())
    assert not OneShot(setup, prepared, placement, store, unused, Console(quiet=True)).run()
    store.close()
    assert given[0].rows == 4


def test_an_interrupted_supernet_keeps_its_epochs(settings, tmp_path, monkeypatch) -> None:
    setup = set_up(look_up(SearchConfig(**settings)).in_precision("fp32"), Console(quiet=True))
    prepared = setup.backend.prepare(setup.space, Console(quiet=True))
    store = SearchStore.create(tmp_path / "search", {})
    placement = place_trials([Node(cpus=2)], 40)
    tracker: Any = SimpleNamespace(update=lambda record: None)
    for epoch in (1, 2):

        def train(order: Any, config: Any, heard: Callable[[dict[str, float]], None], say: Any) -> None:
            heard({"epoch": epoch, "train_loss": 1 / epoch, "loss": 1.0, "accuracy": 0.5})  # noqa: B023
            raise KeyboardInterrupt

        monkeypatch.setattr(strategy, "train_supernet", train)
        search = OneShot(setup, prepared, placement, store, tracker, Console(quiet=True))
        assert search.run() is False
        epochs = store.fact("supernet")["epochs"]
        assert [(known["epoch"], known["train_loss"]) for known in epochs] == [(1, 1.0), (2, 0.5)][:epoch]
    store.close()


@pytest.mark.parametrize(("accuracy", "heard"), [(0.3, True), (0.9, False)])
def test_a_supernet_that_has_learnt_nothing_is_told(settings, tmp_path, monkeypatch, accuracy, heard) -> None:
    class Pool(FakePool):
        """Its subnets all have one accuracy."""

        size = 1

        def evaluate(self, configs: list[dict[str, Any]]) -> Iterator[tuple[int, Answer]]:
            for index, answer in super().evaluate(configs):
                yield index, replace(answer, metrics={"accuracy": accuracy, "loss": 1.0})

        def precision(self) -> str:
            return "fp32"

        def shared(self) -> float:
            return 0.0

        def close(self) -> None:
            pass

    told = io.StringIO()
    config = SearchConfig(**settings, name="guessing")
    setup = set_up(look_up(config).in_precision("fp32"), Console(quiet=True))
    prepared = setup.backend.prepare(setup.space, Console(quiet=True))
    monkeypatch.setattr(OneShot, "_train", lambda self: None)
    monkeypatch.setattr(strategy, "SubnetPool", lambda *_: Pool(setup))
    config.place.folder.mkdir(parents=True)
    store, unused = SearchStore.create(tmp_path / "search", {}), SimpleNamespace()
    placement, console = place_trials([Node(cpus=2)], 40), Console(file=told, width=400)
    assert OneShot(setup, prepared, placement, store, cast(Any, unused), console).run()
    store.close()
    guess = f"{setup.backend.guess['accuracy']:.3f}"
    line = f"no subnet is better than guessing (accuracy {guess}) by more than luck: after"
    assert (line in told.getvalue()) is heard


def test_a_supernet_whose_weights_are_damaged_is_trained_again(settings, monkeypatch) -> None:
    heard = io.StringIO()
    config = SearchConfig(**settings, name="damaged")
    setup = set_up(look_up(config).in_precision("fp32"), Console(quiet=True))
    prepared = setup.backend.prepare(setup.space, Console(quiet=True))
    assert isinstance(prepared, PreparedTraining)
    spec = prepared.spec
    store = SearchStore.create(config.place.folder, {})
    tracker: Any = SimpleNamespace(update=lambda record: None)
    trained: list[str] = []

    def train(order: Any, config: Any, heard: Callable[[dict[str, float]], None], say: Any) -> str:
        trained.append(f"supernet/checkpoint_{len(trained)}")
        run = SupernetRun(spec, order.job.plan(), torch.device("cpu"))
        heard({**run.epoch(), "time": 0.0})
        folder = config.place.folder / trained[-1]
        folder.mkdir(parents=True)
        run.save(folder)
        return trained[-1]

    def begin() -> set[str]:
        """Start the search, or resume it; it is cut off after the supernet. Return the supernet's files."""
        console = Console(file=heard, width=200)
        search = OneShot(setup, prepared, place_trials([Node(cpus=2)], 40), store, tracker, console)
        assert search.run() is False
        assert search.weights is not None
        return {str(path.relative_to(supernet)) for path in supernet.rglob("*.*")}

    def cut_off(self: OneShot, weights: SupernetWeights) -> None:
        raise KeyboardInterrupt

    supernet = config.place.folder / "supernet"
    monkeypatch.setattr(strategy, "train_supernet", train)
    monkeypatch.setattr(OneShot, "_search", cut_off)
    kept = {f"checkpoint_0/{name}" for name in ("weights.safetensors", "supernet.json", "files.json")}
    assert begin() == begin() == kept, "without the state of the optimizer"
    assert len(trained) == 1
    weights = supernet / "checkpoint_0" / "weights.safetensors"
    weights.write_bytes(bytes(weights.stat().st_size))
    assert {Path(path).parent.name for path in begin()} == {"checkpoint_1"}
    assert len(trained) == 2
    said = "the supernet is trained again: its checkpoint is damaged (weights.safetensors has other content"
    assert said in heard.getvalue()
    assert [epoch["epoch"] for epoch in store.fact("supernet")["epochs"]] == [1]
    store.close()


@pytest.mark.ray
@pytest.mark.full
def test_killed_it_goes_on_where_it_was(phased, workplace) -> None:
    """As when it is interrupted, with all of Ray killed, and by the command line."""
    command = [sys.executable, "-c", DOUBTING]
    options = {**phased, "objectives": ",".join(phased["objectives"])}
    given = [f"--{k.replace('_', '-')}={v}" for k, v in options.items() if k != "probe"]
    start = [*command, *given, "--no-probe", "--name=killed"]
    again = [*command, "--resume", "killed", "--json", f"--storage-path={phased['storage_path']}"]
    folder = Path(phased["storage_path"]) / "killed"

    now: dict[str, Any] = {"epochs": [], "subnets": {}, "trials": {}}
    for run, phase in ((start, "epochs"), (again, "subnets")):
        with (workplace / "log").open("w") as log:
            driver = subprocess.Popen(run, stdout=subprocess.DEVNULL, stderr=log, text=True)
        deadline = time.monotonic() + 150
        while not reached(folder, phase):
            assert driver.poll() is None, (workplace / "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert kill_family(driver) == []
        before, now = now, on_disk(folder)
        assert kept(before, now)
    more = [*again, "--num-samples", "+5"]
    done = subprocess.run(more, capture_output=True, text=True, check=True, timeout=300)
    assert kept(now, on_disk(folder))
    check_ended(folder, json.loads(done.stdout), phased["tracking_uri"], evaluated=35)


def check_ended(folder: Path, document: dict[str, Any], uri: str, *, evaluated: int) -> None:
    """What a search of ``phased`` has found, however often it was cut off."""
    now = on_disk(folder)
    assert [epoch["epoch"] for epoch in now["epochs"]] == [1, 2]
    assert document["evaluated"] == evaluated
    assert document["trials"] == len(now["trials"])
    assert document["kendall_tau"] is None or -1 <= document["kendall_tau"] <= 1
    assert document["failed"] == document["out_of_memory"] == document["infeasible"] == 0
    for member in document["front"]:
        assert 0 <= member["inherited_accuracy"] <= 1
        assert 0 <= member["test_accuracy"] <= 1
        assert member["memory"] <= BUDGET / 2**30
        assert set(member["config"]["n_query_prompts"]) == {"text", "image"}
    assert all(row["error"] == 0 for row in document["memory"])
    check_mlflow(uri, document)
    trials = {name: TrialRecord.from_dict(name, *rest) for name, *rest in SearchStore.read(folder).trials()}
    repeats = [record for record in trials.values() if record.repeat_of]
    assert repeats
    # In bfloat16, two trainings that begin alike may end with equal results, however they went.
    pairs = [(record.values, trials[record.repeat_of].values) for record in repeats]
    assert all(one["train_loss"] != other["train_loss"] for one, other in pairs)


def on_disk(folder: Path) -> dict[str, Any]:
    """What a search has on disk, read from a copy that SQLite recovers."""
    found: dict[str, Any] = {"epochs": [], "subnets": {}, "trials": {}}
    with copied(folder) as store:
        fact = store.execute("SELECT value FROM facts WHERE name = 'supernet'").fetchone()
        found["epochs"] = json.loads(fact[0])["epochs"] if fact else []
        trials = store.execute("SELECT trial_id, document FROM trials").fetchall()
        ended = {trial: json.loads(d) for trial, d in trials if json.loads(d)["status"] == "finished"}
        found["trials"] = {trial: document["config"] for trial, document in ended.items()}
    if (folder / "subnets" / "search.sqlite").exists():
        with copied(folder / "subnets") as store:
            rows = store.execute("SELECT number, document FROM asked").fetchall()
            found["subnets"] = {n: d for n, d in rows if json.loads(d)["state"] == "COMPLETE"}
    return found


@contextmanager
def copied(folder: Path) -> Iterator[sqlite3.Connection]:
    with tempfile.TemporaryDirectory() as scratch:
        for file in folder.glob("search.sqlite*"):
            (Path(scratch) / file.name).write_bytes(file.read_bytes())
        with closing(sqlite3.connect(Path(scratch) / "search.sqlite")) as connection:
            yield connection


def reached(folder: Path, phase: str) -> bool:
    """Whether a running search is in the middle of a phase."""
    try:
        now = on_disk(folder)
    except (OSError, sqlite3.Error):
        return False
    return len(now[phase]) >= {"epochs": 1, "subnets": 20}[phase]


def kept(before: dict[str, Any], now: dict[str, Any]) -> bool:
    """Whether all that was on disk is there as it was."""
    return (
        now["epochs"][: len(before["epochs"])] == before["epochs"]
        and before["subnets"].items() <= now["subnets"].items()
        and before["trials"].items() <= now["trials"].items()
    )


def check_mlflow(uri: str, document: dict[str, Any]) -> None:
    """Parent, supernet, trials and the table of subnets, each once, however often the search was killed."""
    client = MlflowClient(uri)
    parent = client.get_run(document["parent_run_id"])
    assert parent.data.params["strategy"] == "oneshot"
    table = json.loads(Path(client.download_artifacts(parent.info.run_id, "subnets.json")).read_text())
    assert len(table["data"]) == document["evaluated"]
    assert {"memory", "inherited_accuracy", "random_sample", "n_fusion_layers"} <= set(table["columns"])
    mine = f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'"
    children = client.search_runs([parent.info.experiment_id], mine)
    kinds = sorted(child.data.tags["kind"] for child in children)
    assert kinds == ["supernet"] + ["trial"] * document["trials"]
    for child in children:
        if child.data.tags["kind"] == "trial":
            assert "inherited_accuracy" in child.data.metrics
        else:
            assert len(client.get_metric_history(child.info.run_id, "train_loss")) == 2
