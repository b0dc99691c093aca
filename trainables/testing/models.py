"""Checks that the model of every method and probe, written as a folder, answers as in the search."""

from __future__ import annotations

import atexit
import functools
import io
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image
from torch import Tensor

from trainables.data import SPLITS, open_dataset, prepare
from trainables.model import Model, load_model
from trainables.plugin import Plugin
from trainables.step import Recipe, TrainingSetting
from trainables.tasks import read_task
from trainables.testing.checks import Check
from trainables.testing.tiny import saved_encoders
from trainables.towers import InputSizes, resolve_encoders
from trainables.trial.assignment import Assignment
from trainables.trial.export import export_model, export_probe
from trainables.trial.probing import run_probes
from trainables.trial.run import TrialRun
from trainables.trial.workbench import TrialSpec, Workbench

#: The tasks, with the label of a row of each color; a retrieval has none.
TASKS: dict[str, list[Any]] = {
    "classification": ["red", "green", "blue"],
    "multilabel": [["warm"], [], ["cold", "dark"]],
    "regression": [10.5, 20.0, 90.0],
    "retrieval": [],
}
#: Precisions, with the largest difference of outputs in parts of the largest output.
#:
#: A batch with other rows or less padding adds up the same numbers in another order. In fp32, that changes
#: the last digits. In bf16, it may turn a number into the next one, which is 2^-8 of it away; later layers
#: pass that on, so that four such steps are allowed.
TOLERANCES = {"fp32": 1e-5, "bf16-frozen": 2**-6}
#: Tasks and precisions, and whether the search has cached the output of frozen layers.
CASES = [
    ("classification", "fp32", "cached"),
    ("classification", "bf16-frozen", "cached"),
    ("multilabel", "fp32", "computed"),
    ("regression", "fp32", "cached"),
    ("retrieval", "fp32", "cached"),
]

_COLORS = {"red": (220, 40, 40), "green": (40, 200, 60), "blue": (40, 60, 220)}
_ROWS = {"train": 12, "validation": 6, "test": 9}
_SIZES = InputSizes(text_length=12, image_size=32, feature_length=3)
_QUERY = "features:dim=5,width=16,depth=2,heads=2,max_length=3"


@dataclass(frozen=True)
class Saved:
    """A checkpoint in a local folder."""

    folder: Path

    @property
    def path(self) -> str:
        """Path of the folder."""
        return str(self.folder)

    @contextmanager
    def as_directory(self) -> Iterator[str]:
        """Yield the path of the folder."""
        yield str(self.folder)


def model_checks(name: str) -> Iterator[Check]:
    """Yield the checks of a method's models.

    Args:
        name: Name of a registered method.
    """
    for task, precision, prefix in CASES:
        slow = (task, precision) != ("classification", "fp32")
        yield Check(check_it_answers_as_in_the_search, (name, task, precision, prefix), slow=slow)


def check_it_answers_as_in_the_search(name: str, task: str, precision: str, prefix: str) -> None:
    """Check that a model's outputs for raw rows are those that a search gets for its prepared ones.

    Some rows lack a text or a picture. The trained weights are random, so that all of them matter.
    """
    with own_cache():
        spec = small_spec(task, precision)
        spec = spec if prefix == "cached" else replace(spec, feature_cache=0)
        with tempfile.TemporaryDirectory() as temporary:
            run = random_model(spec, name, Path(temporary) / "model")
            expected, _ = run.trainer.outputs(run.loader("test"))
            model = load_model(Path(temporary) / "model", "cpu", batch_size=4)
            check_answers(model, expected, raw_rows(spec), precision)


def probe_checks() -> Iterator[Check]:
    """Yield the checks of models that are probes."""
    for task in TASKS:
        for precision in TOLERANCES:
            slow = (task, precision) != ("classification", "fp32")
            yield Check(check_probes_answer_as_in_the_search, (task, precision), slow=slow)


def check_probes_answer_as_in_the_search(task: str, precision: str) -> None:
    """Check that probes of all modalities and of each answer as they were scored."""
    with own_cache(), tempfile.TemporaryDirectory() as temporary:
        spec = small_spec(task, precision)
        labels = Workbench(spec, torch.device("cpu")).data.split("test").labels
        probes = run_probes(spec)
        single = {f"probe:{modality}": probe for modality, probe in probes.single.items()}
        if read_task(spec.task).query is not None:
            single = {}  # documents without what it reads are equal, and their ranks are luck
        for name, probe in {"probe": probes.joint, **single, "probe of other poolings": probes.best}.items():
            folder = Path(temporary) / name.replace(":", "-")
            export_probe(spec, probe, name, folder, about={}, card="")
            model = load_model(folder, "cpu", batch_size=4)
            assert model.task.to_dict() == probe.task
            found = model.task.kept(model.outputs(raw_rows(spec)), labels)
            # Weights of features that hardly vary are large, and magnify rounding
            magnified = 2e-7 * float(probe.weights["weight"].abs().sum(dim=1).max())
            assert close(found, probe.outputs["test"], precision, at_least=magnified), name
            assert len(model.predict(raw_rows(spec))) == len(labels)


def random_model(spec: TrialSpec, name: str, folder: Path) -> TrialRun:
    """Write the model of a method with random trained weights, and return the trial that has them.

    Args:
        spec: Settings that all trials share.
        name: Name of the method.
        folder: The model's folder.
    """
    assignment = Assignment(config={"method": name, "learning_rate": 1e-3})
    run = TrialRun(spec, assignment)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in run.method.trainable_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.add_(noise.to(parameter), alpha=0.05)
    with tempfile.TemporaryDirectory() as temporary:
        run.save(Path(temporary))
        saved = replace(assignment, checkpoint=Saved(Path(temporary)))
        export_model(spec, saved, folder, about={}, card="")
    return run


def close(found: Tensor, expected: Tensor, precision: str, at_least: float = 0) -> bool:
    """Return whether outputs (N, D) are those of the search, as exactly as the precision allows.

    Args:
        found: Outputs of a model.
        expected: Those of the search.
        precision: The precision.
        at_least: A difference that is allowed in any case.
    """
    scale = max(1.0, float(expected.abs().max()))
    allowed = max(at_least, TOLERANCES[precision] * scale)
    return torch.allclose(found, expected, rtol=0, atol=allowed)


def check_answers(model: Model, expected: Tensor, rows: list[dict[str, Any]], precision: str) -> None:
    """Check a model's outputs for rows, and that it answers each of them."""
    found = model.outputs(rows)
    difference = float((found - expected).abs().max())
    assert close(found, expected, precision), f"outputs differ by {difference:g}"
    assert found.std(dim=0).max() > 10 * TOLERANCES["fp32"], "all rows have the same outputs"
    answers = model.predict(rows, top=2)
    assert len(answers) == len(rows)
    json.dumps(answers)


def raw_rows(spec: TrialSpec, split: str = "test") -> list[dict[str, Any]]:
    """Return the rows of a split as they are in the dataset, by modality."""
    table = pq.read_table(Path(spec.dataset) / f"{split}.parquet", columns=list(spec.encoders))
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


@contextmanager
def own_cache() -> Iterator[None]:
    """Let the cache be in a folder that is removed when the process ends, and not in the user's."""
    before = os.environ.get("PARETOFUSE_CACHE")
    os.environ["PARETOFUSE_CACHE"] = str(_root() / "cache")
    try:
        yield
    finally:
        del os.environ["PARETOFUSE_CACHE"]
        if before is not None:
            os.environ["PARETOFUSE_CACHE"] = before


@functools.cache
def _root() -> Path:
    root = Path(tempfile.mkdtemp(prefix="paretofuse-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    return root


@functools.cache
def small_spec(task: str, precision: str = "fp32", plugins: tuple[Plugin, ...] = ()) -> TrialSpec:
    """Return what trials of a small search share; it is called inside of ``own_cache``.

    Args:
        task: One of ``TASKS``.
        precision: The precision.
        plugins: Plugins that the search uses.
    """
    folder = _root() / task
    if not folder.exists():
        _write(folder, task)
    encoders = saved_encoders()
    names = {"text": str(encoders["bert"]), "image": str(encoders["vit"])}
    if task == "retrieval":
        names["slant"] = _QUERY
    dataset = open_dataset(str(folder))
    kinds = {modality: dataset.modalities[modality].kind for modality in names}
    sources = resolve_encoders(names, {}, kinds)
    return TrialSpec(
        dataset=str(folder),
        prepared=prepare(dataset, sources, _SIZES).key,
        task=dataset.task.to_dict(),
        encoders=names,
        pooling={modality: source.pooling for modality, source in sources.items()},
        kinds=kinds,
        fingerprints={modality: source.fingerprint() for modality, source in sources.items()},
        setting=TrainingSetting(
            batch_size=4, precision=precision, text_length=12, image_size=32, feature_length=3, target="cpu"
        ),
        recipe=Recipe(warm_up=0, head_start="random", keep="last"),
        epochs=1,
        plugins=plugins,
    )


def _write(folder: Path, task: str) -> None:
    """Write a dataset of colored squares with titles, some of which are missing, and vectors."""
    generator = np.random.default_rng(0)
    folder.mkdir()
    modalities = {"text": "text", "image": "image", "slant": {"column": "slant", "kind": "features"}}
    metadata = {"paretofuse.modalities": json.dumps(modalities), "paretofuse.task": task}
    if task == "retrieval":
        metadata["paretofuse.query"] = "slant"
    for split in SPLITS:
        columns: dict[str, list[Any]] = {"text": [], "image": [], "slant": []}
        for row in range(_ROWS[split]):
            color = list(_COLORS)[row % 3]
            noise = generator.integers(-30, 30, (36, 40, 3))
            pixels = np.clip(np.array(_COLORS[color]) + noise, 0, 255).astype(np.uint8)
            file = io.BytesIO()
            Image.fromarray(pixels).save(file, "PNG")
            text = f"a {color} square" + row * " word40"
            columns["text"].append(None if row % 4 == 1 else "the square" if row % 4 == 3 else text)
            columns["image"].append(None if row % 5 == 2 else file.getvalue())
            columns["slant"].append(generator.normal(size=(1 + row % 3, 5)).astype(np.float32).tolist())
        table = {name: pa.array(values) for name, values in columns.items()}
        if labels := TASKS[task]:
            table["label"] = pa.array([labels[row % 3] for row in range(_ROWS[split])])
        pq.write_table(pa.table(table).replace_schema_metadata(metadata), folder / f"{split}.parquet")
