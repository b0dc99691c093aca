"""Small encoders and data that many tests share; random weights, real code paths."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from trainables.plugin import Plugin

# Before Ray, MLflow or transformers are imported by any test.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
torch.set_num_threads(1)  # small tensors, and tests run side by side

CONFORMANCE = Path(__file__).parent / "conformance"
EXAMPLE_PLUGIN = Path(__file__).parent.parent / "examples" / "gated_fusion.py"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Say which tests share a process, where tests run in several, and start with whole searches.

    Whole searches share one Ray. They come first because they wait more than they compute, so that others run
    beside them. A file's tests stay together for the sake of its fixtures, but for those of the conformance
    suites, which have none of their own and fill up what time is left.
    """
    items.sort(key=lambda item: item.get_closest_marker("ray") is None)
    for item in items:
        if item.get_closest_marker("ray"):
            item.add_marker(pytest.mark.xdist_group("ray"))
        elif CONFORMANCE not in item.path.parents:
            item.add_marker(pytest.mark.xdist_group(item.path.stem))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--plugin", action="append", default=[], help="file with methods to test, too")


# So that a check's assertion that fails shows its values, as those of tests do.
pytest.register_assert_rewrite("trainables.testing", "spaces.testing", "search.testing")


def pytest_configure(config: pytest.Config) -> None:
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
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder with an empty cache."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PARETOFUSE_CACHE", str(tmp_path / "cache"))
    return tmp_path


@pytest.fixture
def trial_spec(workplace, tiny_encoders, squares) -> Any:
    """What trials of a tiny search share."""
    from trainables.data import open_dataset, prepare
    from trainables.step.setting import TrainingSetting
    from trainables.towers import resolve_encoder
    from trainables.trial.workbench import TrialSpec

    names = {"text": str(tiny_encoders["bert"]), "image": str(tiny_encoders["vit"])}
    encoders = {modality: resolve_encoder(modality, name) for modality, name in names.items()}
    data = prepare(open_dataset(str(squares)), encoders, text_length=8, image_size=32)
    return TrialSpec(
        dataset=str(squares),
        prepared=data.key,
        encoders=names,
        fingerprints={modality: encoder.fingerprint() for modality, encoder in encoders.items()},
        setting=TrainingSetting(batch_size=8, text_length=8, image_size=32),
        epochs=4,
    )
