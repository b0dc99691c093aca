"""Searches whose trials run out of memory, die, hang or diverge, on a real local Ray."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import ray
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from search import SearchConfig, SearchResult, resume_search, run_search
from search.execution.survival import diagnose
from search.nodes import NodeError
from search.records.status import Status
from spaces import SPACES
from tests.search.on_ray import ray_in
from trainables.methods import METHODS

pytestmark = pytest.mark.ray

#: A linear classifier to which things happen, but never where its memory is predicted.
PLUGIN = """
import ctypes, math, os, signal
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch._subclasses.fake_tensor import FakeTensor

from spaces import Space, register_space
from trainables.methods import MethodConfig, option, register_method
from trainables.errors import UserError
from trainables.methods.linear import Linear

FOLDER = Path({folder!r})
STAGES = ("building", "training", "validation", "checkpoint")
EVERY = ("none", *STAGES, "diverges", "killed once", "hangs once", "always killed", "building killed once")
CROWDED = ("building", "starved")
UNFIT = "unfit until mended"


@dataclass(frozen=True)
class MishapsConfig(MethodConfig):
    mishap: str = option("none", "what happens", other="validation", choices=(*EVERY, *CROWDED, UNFIT))


@register_method("mishaps", description="things happen", source="nowhere")
class Mishaps(Linear):
    config_class = MishapsConfig

    def __init__(self, context, config):
        super().__init__(context, config)
        self.epochs = 0
        self.real = not isinstance(self.head.weight, FakeTensor)
        if self.real:
            with (FOLDER / "processes").open("a") as file:
                print(os.getpid(), config.mishap, file=file)
        self.run_out("building")
        if self.real and config.mishap == UNFIT and not (FOLDER / "mended").exists():
            raise UserError("--dataset /data/memes: no such folder")
        if self.real and config.mishap == "building killed once":
            self.die()

    def train(self, mode=True):
        self.epochs += mode
        return super().train(mode)

    def forward(self, batch):
        self.run_out("training" if self.training else "validation")
        if self.real and self.training and self.epochs == 2 and not self.config.mishap.startswith("building"):
            self.die()
        output = super().forward(batch)
        diverges = self.real and self.training and self.config.mishap == "diverges"
        return replace(output, outputs=output.outputs * math.inf) if diverges else output

    def trainable_state_dict(self):
        self.run_out("checkpoint")
        return super().trainable_state_dict()

    def run_out(self, stage):
        if self.real and self.config.mishap == stage:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    def die(self):
        mishap = self.config.mishap
        first = mishap.endswith("once") and not (FOLDER / mishap).exists()
        if first:
            (FOLDER / mishap).touch()
        if first and mishap == "hangs once":
            ctypes.PyDLL(None).sleep(60)  # and keeps the GIL
        if first or mishap == "always killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if mishap == "starved":
            # As if the kernel's count had risen since it was written down.
            Path("oom_kills.txt").write_text("-1")
            os.kill(os.getpid(), signal.SIGKILL)


def space(name, mishaps):
    def sample(trial, context):
        mishap = trial.suggest_categorical("mishap", mishaps)
        return {{"method": "mishaps", "mishap": mishap, "learning_rate": 1e-2}}

    register_space(Space(name, "", sample, lambda context: [{{"mishap": m}} for m in mishaps]))


space("every", EVERY)
space("crowded", CROWDED)


def unfit(trial, context):
    rate = trial.suggest_categorical("learning_rate", (1e-2, 1e-3))
    return {{"method": "mishaps", "mishap": UNFIT, "learning_rate": rate}}


register_space(Space("unfit", "", unfit, lambda context: []))
"""


@pytest.fixture(scope="module")
def settings(
    tmp_path_factory: pytest.TempPathFactory,
    tiny_encoders: dict[str, Path],
    squares: Path,
    ray_address: str,
    empty_store: Path,
) -> Iterator[dict[str, Any]]:
    """Settings that both searches share."""
    folder = tmp_path_factory.mktemp("survival")
    plugin = folder / "mishaps.py"
    plugin.write_text(PLUGIN.format(folder=str(folder)))
    with (
        ray_in(folder, ray_address, empty_store),
        mock.patch.dict(METHODS),  # what the plugin registers is for this module only
        mock.patch.dict(SPACES),
    ):
        yield {
            "dataset": str(squares),
            "text_encoder": str(tiny_encoders["bert"]),
            "image_encoder": str(tiny_encoders["vit"]),
            "epochs": 3,
            # So that the first evaluation follows an epoch, and only checkpoints read the weights
            "head_start": "random",
            "keep": "last",
            "probe": False,
            "batch_size": 8,
            "image_size": 32,
            "storage_path": str(folder / "runs"),
            "tracking_uri": f"sqlite:///{folder}/mlflow.db",
            "plugins": (str(plugin),),
        }


def _children(result: SearchResult, settings: dict[str, Any]) -> list[Run]:
    client = MlflowClient(settings["tracking_uri"])
    mine = f"tags.`mlflow.parentRunId` = '{result.parent_run_id}'"
    return list(client.search_runs(["1"], mine, order_by=["attributes.start_time"]))


def _series(child: Run, metric: str, settings: dict[str, Any]) -> list[float]:
    """A metric's values in the order they were written."""
    history = MlflowClient(settings["tracking_uri"]).get_metric_history(child.info.run_id, metric)
    return [entry.value for entry in history]


@pytest.fixture(scope="module")
def searched(settings: dict[str, Any]) -> tuple[SearchResult, dict[str, Run]]:
    """A search in which everything happens to one trial after the other, and its trials by mishap."""
    limits = {"max_failures": 1, "hang_timeout": 40, "max_concurrent": 1}
    result = run_search(SearchConfig(**settings, **limits, space="every", num_samples=10, name="every"))
    children = _children(result, settings)
    assert len(children) == 10
    return result, {child.data.params["mishap"]: child for child in children}


def test_the_search_goes_on(searched) -> None:
    result, children = searched
    assert (result.trials, result.out_of_memory, result.diverged, result.failed) == (4, 4, 1, 1)
    assert not result.interrupted
    finished = {"none", "killed once", "hangs once", "building killed once"}
    assert {member["config"]["mishap"] for member in result.front} == finished
    assert all(member["test_accuracy"] is not None for member in result.front)
    for mishap, child in children.items():
        assert child.info.status == ("FINISHED" if mishap in finished else "FAILED")
        assert child.data.tags["front"] == str(mishap in finished).lower()


def test_out_of_memory_is_an_answer(searched) -> None:
    _, children = searched
    for stage in ("building", "training", "validation", "checkpoint"):
        tags = children[stage].data.tags
        assert (tags["status"], tags["infeasible"], tags["stage"]) == ("out_of_memory", "true", stage)
        assert "Tried to allocate 2.00 GiB" in tags["message"]
        assert tags["failures"] == "0"
    assert "infeasible" not in children["none"].data.tags
    models = [line.split(maxsplit=1) for line in Path("processes").read_text().splitlines()]
    assert len({process for process, _ in models[:5]}) == 1, "the worker went on with the next trial"


def test_a_trial_that_diverges_says_where(searched) -> None:
    _, children = searched
    tags = children["diverges"].data.tags
    assert (tags["status"], tags["stage"]) == ("diverged", "training")
    assert "loss became" in tags["message"]
    assert "infeasible" not in tags


def test_a_dead_or_hung_worker_is_replaced_and_no_epoch_lost(searched, settings) -> None:
    _, children = searched
    for mishap, message in (
        ("killed once", "its worker died"),
        ("hangs once", "hung at File"),
        ("building killed once", "its worker died"),
    ):
        tags = children[mishap].data.tags
        assert (tags["status"], tags["failures"]) == ("finished", "1")
        assert message in tags["message"]
        for metric in ("epoch", "train_loss", "loss"):
            undisturbed = _series(children["none"], metric, settings)
            assert len(undisturbed) == 3
            assert _series(children[mishap], metric, settings) == undisturbed, "and none told twice"


def test_what_explains_an_error_is_kept_in_the_searchs_folder(searched) -> None:
    """Ray's own folder may be gone."""
    result, children = searched
    details = Path(result.folder) / "errors"
    texts = {
        mishap: (details / f"{children[mishap].data.tags['trial_id']}.txt").read_text()
        for mishap in ("hangs once", "always killed")
    }
    assert "Thread 0x" in texts["hangs once"], "the stacks"
    assert all("The actor died" in text for text in texts.values())


def test_a_trial_that_always_dies_is_given_up(searched) -> None:
    result, children = searched
    tags = children["always killed"].data.tags
    assert (tags["status"], tags["failures"]) == ("failed", "1")
    assert "infeasible" not in tags
    assert [error[:15] for error in result.errors] == ["its worker died"]


@pytest.mark.full
def test_out_of_memory_beside_others_is_tried_again_alone(settings) -> None:
    result = run_search(SearchConfig(**settings, space="crowded", num_samples=2, name="crowded"))
    assert (result.trials, result.out_of_memory, result.failed) == (0, 2, 0)
    children: dict[str, list[Run]] = {}
    for child in _children(result, settings):
        children.setdefault(child.data.params["mishap"], []).append(child)
    for mishap, message in (("building", "CUDA out of memory"), ("starved", "the kernel killed its worker")):
        first, again = (child.data.tags for child in children[mishap])
        assert (first["status"], again["status"]) == ("retried", "out_of_memory")
        assert message in first["message"]
        assert ("infeasible" in first, again["infeasible"]) == (False, "true")
        ids = [child.data.params["trial_id"] for child in children[mishap]]
        assert [again["retry_of"], first["retried_as"]] == ids


@pytest.mark.full
def test_what_a_users_mistake_keeps_from_running_is_given_back(settings, capsys) -> None:
    small = {**settings, "epochs": 1, "max_concurrent": 1}
    config = SearchConfig(**small, space="unfit", num_samples=2, name="unfit")
    with pytest.raises(NodeError) as raised:
        run_search(config)
    began, _, rest = str(raised.value).partition(": ")
    assert began.startswith("no trial can run on ")
    assert rest.startswith("--dataset /data/memes: no such folder; mend that; then go on by `")
    assert "--resume unfit" in rest
    said = capsys.readouterr().err
    assert said.count("no such folder") == 1, "equal causes are said once"
    assert "goes on after epoch" not in said, "nothing is tried again"
    Path("mended").touch()
    result = resume_search("unfit", storage_path=settings["storage_path"])
    assert (result.trials, result.failed, result.set_aside) == (2, 0, 0)
    children = _children(result, settings)
    assert len(children) == 2
    for child in children:
        tags = child.data.tags
        assert (tags["status"], tags["legs"], tags["failures"]) == ("finished", "2", "0")
        assert (tags["hostname"], tags["device"]) == (socket.gethostname(), "cpu")
        assert tags["node_ip"] == ray.util.get_node_ip_address()
    assert result.front[0]["node"]["hostname"] == socket.gethostname()
    table = MlflowClient(settings["tracking_uri"]).load_table("1", "nodes.json", [result.parent_run_id])
    (node,) = table.to_dict("records")
    assert (node["torch"], node["kept_out"]) == (version("torch"), False)


#: As Ray 2.60 says it, without its advice at the end.
KILLED_BY_RAY = (
    "1 worker(s) were killed due to the node running low on memory. Memory on the node (IP: 192.0.2.2) was "
    "2.39GB used / 23.54GB limit (0.101475)\n"
    "OOM kill reason: Memory usage 2535985152B exceeded threshold of 2527651072B (10.0% of 25276510208B)"
)
DIED = (
    "The actor died unexpectedly before finishing this task.\n\tclass_name: FusionTrial\n\tpid: 11837\n"
    "\tip: 192.0.2.2\nThe actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR "
    "Worker exit detail: Worker unexpectedly exits with a connection error code 2. End of file. Some common "
    "causes include: (1) the process was killed by the OOM killer due to high memory usage, (2) ray stop "
    "--force was called, or (3) the worker crashed unexpectedly due to SIGSEGV or another unexpected error."
)
RAISED = """\
ray::FusionTrial.train() (pid=11837, ip=192.0.2.2, actor_id=5e78, repr=FusionTrial)
  File "trial.py", line 1, in step
ValueError: the labels are wrong"""


UNFIT = """\
ray::FusionTrial.train() (pid=11837, ip=192.0.2.2, actor_id=5e78, repr=FusionTrial)
  File "guard.py", line 1, in step
search.execution.readiness.guard.UnfitNodeError: 192.0.2.2 0a1b has torch 2.1.0, not 2.13.0"""
NOT_IMPORTED = """\
ray::FusionTrial.train() (pid=11837, ip=192.0.2.2, actor_id=5e78, repr=FusionTrial)
RuntimeError: The actor with name FusionTrial failed to import on the worker. This may be because needed \
library dependencies are not installed in the worker environment:

Traceback (most recent call last):
  File "function_manager.py", line 691, in _load_actor_class_from_gcs
ModuleNotFoundError: No module named 'search'
"""


@pytest.mark.parametrize(
    ("error", "message", "node_id"),
    [
        (UNFIT, "has torch 2.1.0, not 2.13.0", "0a1b"),
        (
            NOT_IMPORTED,
            "its node cannot import this program (ModuleNotFoundError: No module named 'search')",
            None,
        ),
    ],
    ids=["unfit", "not imported"],
)
def test_a_node_that_is_not_fit(error: str, message: str, node_id: str | None) -> None:
    failure = diagnose(error, "/nowhere")

    assert (failure.message, failure.node, failure.node_id) == (message, "192.0.2.2", node_id)
    assert failure.ending is not None
    assert failure.ending.status is Status.SET_ASIDE


@pytest.mark.parametrize(
    ("error", "out_of_memory", "message"),
    [
        (KILLED_BY_RAY, True, "Ray killed its worker: 1 worker(s) were killed due to the node running low"),
        (DIED, False, "its worker died: The actor is dead because its worker process has died."),
        (RAISED, False, "ValueError: the labels are wrong"),
        ("", False, "unknown error"),
    ],
    ids=["monitor", "died", "raised", "nothing"],
)
def test_diagnosis(settings, error, out_of_memory, message) -> None:
    failure = diagnose(error, "/nowhere")
    assert failure.out_of_memory is out_of_memory
    assert failure.message.startswith(message)
    assert "common causes" not in failure.message
