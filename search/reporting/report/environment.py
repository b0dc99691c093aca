"""With what a search ran, and on which data."""

from __future__ import annotations

from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from search.records.stays import HOSTNAME, NODE_IP, machine
from search.reporting.report.source import Source
from trainables.data import SPLITS
from trainables.step.precision import AUTO

#: What versions are of, in the order of the report.
_VERSIONS = ("paretofuse", "python", "torch", "ray", "optuna", "transformers")


def environment_rows(source: Source) -> list[list[str]]:
    """Return versions, machines and devices, precision and target, as pairs of a name and a text."""
    then = source.store.fact("versions") or {}
    rows = [[name, then[name]] for name in _VERSIONS if name in then]
    with suppress(PackageNotFoundError):
        rows.append(["mlflow, at the time of this report", version("mlflow")])
    step, target = source.config.step, source.config.target
    if step.precision != AUTO:
        rows.append(["precision", step.precision])
    rows.append(["memory is for", step.target])
    if step.target == "cuda" and target.compute_capability is not None:
        rows.append(["compute capability", f"{target.compute_capability:g}"])
    devices = {stay.device for record in source.history.trials.values() for stay in record.stays}
    if devices := {device for device in devices if device}:
        rows.append(["devices of trials", ", ".join(sorted(devices))])
    return [*rows, *(_node(row) for row in source.store.fact("nodes") or ())]


def _node(row: dict[str, Any]) -> list[str]:
    parts = [f"Python {row['python']}" if row.get("python") else "", f"torch {row['torch']}"]
    gpus = row.get("gpus")
    if gpus:
        parts.append(f"{gpus} GPU{'s' if gpus > 1 else ''} {row.get('accelerator') or ''}".strip())
    if row.get("code"):
        parts.append(f"code {row['code']}")
    if row.get("kept_out"):
        parts.append("no trials are sent there")
    return [f"node {machine(row.get(HOSTNAME), row.get(NODE_IP))}", ", ".join(filter(None, parts))]


def data_rows(source: Source) -> list[list[str]]:
    """Return the dataset with its fingerprint, rows and labels, and the encoders, as pairs of texts."""
    facts, config = source.facts, source.config
    if config.backend.replay:
        table = [["recorded trials", config.backend.replay]]
        return [*table, ["fingerprint", str(facts.get("replay.fingerprint", "unknown"))]]
    rows = [["dataset", config.data.dataset]]
    if "dataset.fingerprint" in facts:
        rows.append(["fingerprint", facts["dataset.fingerprint"]])
    rows.append(["task", source.task.in_words()])
    counts = [f"{facts[f'dataset.{s}']:,} {s}" for s in SPLITS if f"dataset.{s}" in facts]
    rows.append(["rows", ", ".join(counts)])
    missing = {
        key.removeprefix("dataset.").removesuffix(".missing"): share
        for key, share in facts.items()
        if key.startswith("dataset.") and key.endswith(".missing")
    }
    rows += [[f"{modality} missing", f"{100 * share:.1f} %"] for modality, share in missing.items()]
    for modality in source.data.modalities:
        encoder = config.encoders.named.get(modality) or config.encoders.by_kind.get(modality, "new")
        pooling = facts.get(f"encoder.{modality}.pooling")
        fingerprint = facts.get(f"encoder.{modality}.fingerprint")
        rows.append([f"{modality} encoder", f"{encoder}, pooling {pooling}, fingerprint {fingerprint}"])
    sizes = {k.removeprefix("resolved."): v for k, v in facts.items() if k.startswith("resolved.")}
    return [*rows, *([name.replace("_", " "), str(value)] for name, value in sizes.items())]
