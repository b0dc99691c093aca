"""A probe's network gives the outputs that the probe was scored with, in every task."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor

from trainables.data import SPLITS, Loader, open_dataset, prepare
from trainables.errors import UserError
from trainables.methods import FusionMethod
from trainables.probe import Probe, ProbeNetwork
from trainables.task_settings import TaskSettings
from trainables.tasks import read_task
from trainables.towers import resolve_encoders
from trainables.trial.probing import run_probes
from trainables.trial.workbench import TrialSpec, Workbench

CPU = torch.device("cpu")
#: What the labels of the squares are in each task.
LABELS: dict[str, dict[str, Any]] = {
    "classification": {"red": "red", "green": "green", "blue": "blue"},
    "multilabel": {"red": ["warm"], "green": [], "blue": ["cold", "dark"]},
    "regression": {"red": 10.5, "green": 20.0, "blue": 90.0},
    "retrieval": {"red": "red", "green": "green", "blue": "blue"},
}
SETTINGS = {
    "multilabel": TaskSettings(task="multilabel", thresholds="tuned"),
    "retrieval": TaskSettings(task="retrieval", query="text"),
}


def with_blanks(spec: TrialSpec, squares: Path, folder: Path, task: str, **setting: Any) -> TrialSpec:
    """The squares with a third modality that gets a new encoder, and with values that are missing."""
    folder.mkdir()
    generator = np.random.default_rng(0)
    for split in SPLITS:
        table = pq.read_table(squares / f"{split}.parquet")
        colours = table["label"].to_pylist()
        columns = {
            "text": [None if row % 12 == 4 else text for row, text in enumerate(table["text"].to_pylist())],
            "image": [
                None if row % 12 == 3 else image for row, image in enumerate(table["image"].to_pylist())
            ],
            "touch": [
                None if row % 12 == 1 else (generator.normal(size=(1 + row % 3, 4)) + len(colour)).tolist()
                for row, colour in enumerate(colours)
            ],
            "label": [LABELS[task][colour] for colour in colours],
        }
        metadata = {"paretofuse.modalities": json.dumps({m: m for m in ("text", "image", "touch")})}
        pq.write_table(pa.table(columns).replace_schema_metadata(metadata), folder / f"{split}.parquet")
    names = {**spec.encoders, "touch": "features:dim=4,width=8,depth=1,heads=2"}
    kinds = {**spec.kinds, "touch": "features"}
    encoders = resolve_encoders(names, {}, kinds)
    dataset = open_dataset(str(folder), SETTINGS.get(task, TaskSettings()))
    changed = replace(spec.setting, **setting)
    return replace(
        spec,
        dataset=str(folder),
        task=dataset.task.to_dict(),
        prepared=prepare(dataset, encoders, changed.sizes).key,
        encoders=names,
        kinds=kinds,
        pooling={modality: encoder.pooling for modality, encoder in encoders.items()},
        fingerprints={modality: encoder.fingerprint() for modality, encoder in encoders.items()},
        setting=changed,
        robustness=True,
    )


def loaded(spec: TrialSpec, probe: Probe) -> ProbeNetwork:
    """The network of a probe, by way of a file of its weights."""
    context = Workbench(spec, CPU).context(spec.setting)
    poolings = dict(reversed(probe.poolings.items()))  # the order is that of the towers
    network = ProbeNetwork(context, poolings, spec.setting)
    network.load_trainable_state_dict(load(save(probe.weights)))
    assert network.trainable_state_dict().keys() == probe.weights.keys()
    return network.eval()


def scored(
    spec: TrialSpec, network: ProbeNetwork, split: str, cached: bool = False, without: str | None = None
) -> tuple[Tensor, Tensor]:
    """Outputs on a split, from cached tokens or from the encoders' inputs, and the labels."""
    bench = Workbench(spec, CPU)
    loader = Loader(bench.data.split(split), network.modalities, 5, CPU)
    if cached:
        setting, method = replace(spec.setting, prefix="cached"), cast(FusionMethod, network)
        loader = bench.loader(split, method, setting)
        assert set(loader.features) == set(network.prefix_layers())
    found = []
    for batch in loader.without([] if without is None else [without]).in_order():
        with torch.no_grad(), spec.setting.autocast(CPU):
            found.append(network(batch.inputs).outputs)
    return torch.cat(found), loader.split.labels


@pytest.mark.parametrize(
    ("task", "precision", "tolerance"),
    [
        *((task, "fp32", 1e-5) for task in LABELS),
        ("classification", "bf16-frozen", 0.02),
        ("retrieval", "bf16", 0.02),
    ],
)
def test_its_outputs_are_those_of_the_probe(
    trial_spec, squares, tmp_path, task, precision, tolerance
) -> None:
    # Batches have less padding than the whole split
    spec = with_blanks(trial_spec, squares, tmp_path / task, task, precision=precision, text_length=32)
    probes = run_probes(spec)
    different = {tuple(p.poolings.items()): p for p in (probes.joint, *probes.single.values(), probes.best)}
    for probe in different.values():
        network, tuned = loaded(spec, probe), read_task(probe.task)
        # Other batches are rounded otherwise, which large weights magnify
        allowed = max(tolerance, 2e-7 * network.weight.abs().sum(dim=1).max().item())
        for split, cached in (("validation", False), ("test", True)):
            outputs, labels = scored(spec, network, split, cached)
            kept = tuned.kept(outputs, labels)
            assert outputs.dtype == torch.float32
            assert outputs.std(dim=0).max() > 1e-3
            torch.testing.assert_close(kept, probe.outputs[split], atol=allowed, rtol=allowed)
            assert tuned.score(kept, labels) == pytest.approx(probe.metrics[split], rel=allowed)
        if len(probe.poolings) == 1 or tuned.query is not None:
            continue  # the metrics of equal outputs, and the ranks of equal documents, are luck
        for modality in probe.robustness:
            outputs, labels = scored(spec, network, "test", without=modality)
            expected = pytest.approx(probe.robustness[modality], rel=allowed)
            assert tuned.score(tuned.kept(outputs, labels), labels) == expected


def test_answers_have_the_thresholds_of_the_probe(trial_spec, squares, tmp_path) -> None:
    spec = with_blanks(trial_spec, squares, tmp_path / "tags", "multilabel")
    probe = run_probes(spec).single["text"]
    assert read_task(spec.task) != read_task(probe.task)
    outputs, labels = scored(spec, loaded(spec, probe), "validation")
    answers = read_task(probe.task).answers(outputs, {})
    answered = read_task(spec.task).encode([answer["tags"] for answer in answers])
    accuracy = (answered == labels).double().mean().item()
    assert accuracy == probe.metrics["validation"]["tag_accuracy"]


def test_only_its_own_numbers_train(trial_spec) -> None:
    context = Workbench(trial_spec, CPU).context(trial_spec.setting)
    network = ProbeNetwork(context, {"image": "cls+mean"}, trial_spec.setting).train()
    assert network.modalities == ("image",)
    assert {name for name, p in network.named_parameters() if p.requires_grad} == {"weight", "bias"}
    assert network.weight.shape == (3, 2 * context.towers["image"].width)
    assert network.training
    assert not any(module.training for module in network.towers.modules())


def test_weights_of_another_probe_are_refused(trial_spec) -> None:
    context = Workbench(trial_spec, CPU).context(trial_spec.setting)
    one, two = (ProbeNetwork(context, {"text": p}, trial_spec.setting) for p in ("cls", "cls+mean"))
    with pytest.raises(UserError, match=r"the weights are of another probe: they differ in weight$"):
        one.load_trainable_state_dict(two.trainable_state_dict())
    with pytest.raises(UserError, match=r"they differ in bias$"):
        one.load_trainable_state_dict({"weight": one.weight})
