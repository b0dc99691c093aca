"""Small encoders and data that many tests share; random weights, real code paths."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from xdist.scheduler import LoadScopeScheduling

from trainables.plugin import Plugin

# Before Ray, MLflow or transformers are imported by any test.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_worker_niceness", "0")  # Ray's 15 lets any other test come first
# A thread that waits for others would keep a core from other tests, by default for longer than it computes.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
torch.set_num_threads(1)  # small tensors, and tests run side by side

ROOT = Path(__file__).parent.parent
CONFORMANCE = ROOT / "tests" / "conformance"
EXAMPLE_PLUGIN = ROOT / "examples" / "gated_fusion.py"


@cache
def _uses_ray(path: Path) -> bool:
    return "pytest.mark.ray" in path.read_text()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start with the files that have whole searches, and among them with the folder that has the most.

    Whole searches wait more than they compute, and those of a folder run one after the other.
    """
    searches = Counter(item.path.parent for item in items if _uses_ray(item.path))
    items.sort(key=lambda item: -searches[item.path.parent] if _uses_ray(item.path) else 0)


class _Together(LoadScopeScheduling):
    """Says which tests share a process, where tests run in several.

    A folder's files with whole searches share one, because the searches of a process share one Ray. The tests
    of any other file stay together for the sake of its fixtures, except for those of the conformance suites,
    which have none of their own and fill up the time that is left.
    """

    def _split_scope(self, nodeid: str) -> str:
        path = ROOT / nodeid.partition("::")[0]
        if _uses_ray(path):
            return f"ray in {path.parent}"
        return nodeid if CONFORMANCE in path.parents else str(path)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> _Together | None:
    """Distribute tests by ``_Together`` if several processes run them."""
    return _Together(config, log) if config.getvalue("dist") == "loadscope" else None


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--plugin", action="append", default=[], help="file with methods to test, too")


# So that a check's assertion that fails shows its values, as those of tests do.
pytest.register_assert_rewrite("trainables.testing", "spaces.testing", "search.testing")


def pytest_configure(config: pytest.Config) -> None:
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell that works in the background has it so
        signal.signal(signal.SIGINT, signal.default_int_handler)
    for path in (EXAMPLE_PLUGIN, *config.getoption("--plugin")):
        Plugin.read(path).load()


@pytest.fixture(scope="session")
def tiny_encoders() -> dict[str, Path]:
    """Folders with saved weights, by family; those of text hold a word-level tokeniser."""
    from trainables.testing.tiny import saved_encoders

    return saved_encoders()


@pytest.fixture(scope="session")
def squares(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset folder: noisy squares in three colours with a title, 48 + 12 + 12 rows."""
    import io

    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq
    from PIL import Image

    folder = tmp_path_factory.mktemp("squares")
    generator = np.random.default_rng(0)
    colours = {"red": (220, 40, 40), "green": (40, 200, 60), "blue": (40, 60, 220)}
    for split, rows in (("train", 48), ("validation", 12), ("test", 12)):
        columns: dict[str, list[object]] = {"text": [], "image": [], "label": []}
        for row in range(rows):
            name = list(colours)[row % 3]
            noise = generator.integers(-30, 30, (36, 40, 3))
            pixels = np.clip(np.array(colours[name]) + noise, 0, 255).astype(np.uint8)
            buffer = io.BytesIO()
            Image.fromarray(pixels).save(buffer, "PNG")
            columns["text"].append(f"a {name} square" if row % 2 else "the square")
            columns["image"].append(buffer.getvalue())
            columns["label"].append(name)
        pq.write_table(pa.table(columns), folder / f"{split}.parquet")
    return folder


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a disk of its own, with 2 MiB."""
    if os.name != "posix" or os.geteuid() != 0 or not shutil.which("mount"):
        pytest.skip("needs root, to mount a small disk")
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"needs to mount a small disk: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def small_cache(small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The small disk, with the cache on it."""
    monkeypatch.setenv("PARETOFUSE_CACHE", str(small_disk / "cache"))
    return small_disk


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder with an empty cache."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PARETOFUSE_CACHE", str(tmp_path / "cache"))
    return tmp_path


@pytest.fixture
def trial_spec(workplace, tiny_encoders, squares) -> Any:
    """What trials of a tiny search share. Training is plain: it starts at random and keeps the last epoch."""
    from trainables.data import open_dataset, prepare
    from trainables.step import Recipe, TrainingSetting
    from trainables.towers import InputSizes, resolve_encoders
    from trainables.trial.workbench import TrialSpec

    names = {"text": str(tiny_encoders["bert"]), "image": str(tiny_encoders["vit"])}
    encoders = resolve_encoders(names)
    dataset = open_dataset(str(squares))
    data = prepare(dataset, encoders, InputSizes(text_length=8, image_size=32))
    return TrialSpec(
        dataset=str(squares),
        prepared=data.key,
        task=dataset.task.to_dict(),
        encoders=names,
        pooling={modality: encoder.pooling for modality, encoder in encoders.items()},
        kinds={modality: encoder.kind for modality, encoder in encoders.items()},
        fingerprints={modality: encoder.fingerprint() for modality, encoder in encoders.items()},
        setting=TrainingSetting(batch_size=8, text_length=8, image_size=32, target="cpu"),
        recipe=Recipe(warm_up=0, head_start="random", keep="last"),
        epochs=4,
    )


@pytest.fixture(scope="session")
def ray_address() -> Iterator[str]:
    """The address of a Ray of two cores that runs until the tests end.

    Modules join it one after the other, each as a driver of its own (``on_ray.ray_in``), so that a test may
    leave it and start another one.
    """
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 2, "include_dashboard": False, "object_store_memory": 200 * 2**20}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    yield cluster.address
    cluster.shutdown()


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database with nothing in it: making one takes longer than all that is done with it."""
    from mlflow.tracking import MlflowClient

    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").create_experiment("paretofuse", str(path.parent / "artifacts"))
    return path
