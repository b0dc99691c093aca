"""Comparison of predicted memory with that of a real GPU, for every method x precision x attention kernel.

On a GPU, ``--measure`` runs a few steps and a few forward passes of each method, with default options over
bert-base and vit-base without pretrained weights, and writes what PyTorch's allocator held at the peak:

    python benchmarks/device_memory.py --measure [--json FILE]

Everywhere, without ``--measure``, the same steps are predicted for that kind of GPU and compared with the
file:

    python benchmarks/device_memory.py [--json FILE]
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from rich import box
from rich.console import Console
from rich.table import Table

from trainables.memory.comparing import measure_configuration, measure_inference
from trainables.memory.kernels import CudaDevice, library_workspaces
from trainables.memory.predictor import MemoryPredictor
from trainables.methods import METHODS
from trainables.step.precision import PRECISIONS
from trainables.step.setting import TrainingSetting
from trainables.tasks import DEFAULT_TASK, get_task
from trainables.towers import ATTENTION, resolve_encoder
from trainables.units import MIB

ENCODERS = {"text": "arch:bert-base", "image": "arch:vit-base"}
SETTING = TrainingSetting(batch_size=32, text_length=128, image_size=224)
CLASSES = 101
#: The fields of the setting that are varied.
VARIED = ("precision", "attention")


def predictor(encoders: Mapping[str, str], setting: TrainingSetting) -> MemoryPredictor:
    """Return the predictor for encoders by modality and a setting."""
    found = {modality: resolve_encoder(modality, name) for modality, name in encoders.items()}
    return MemoryPredictor(found, get_task(DEFAULT_TASK).of_size(CLASSES), setting)


def measured(base: MemoryPredictor, methods: Sequence[str], device: torch.device) -> Iterator[dict[str, Any]]:
    """Yield the bytes that a device held at the peak of steps and forward passes, by method and setting."""
    for attention, precision, method in itertools.product(ATTENTION, PRECISIONS, methods):
        at = base.changed(attention=attention, precision=precision)
        found = measure_configuration(at, method, {}, device)
        inference = measure_inference(at, method, {}, device)
        yield {
            "method": method,
            "precision": precision,
            "attention": attention,
            "allocated": found.allocated,
            "reserved": found.reserved,
            "inference_allocated": inference.allocated,
            "inference_reserved": inference.reserved,
        }


def compared(base: MemoryPredictor, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return measured rows with the predicted bytes of what ``errors`` compares."""
    found = []
    device = CudaDevice(base.setting.compute_capability)
    kept = sum(library_workspaces(device)) if base.setting.target == "cuda" else 0
    for row in rows:
        at = base.changed(**{name: row[name] for name in VARIED})
        report = at.predict(row["method"], {})
        found.append(
            {
                **row,
                "predicted_allocated": report.total + kept,
                "predicted_reserved": report.reserved,
                "inference": row["inference_reserved"] or row["inference_allocated"],
                "predicted_inference": at.predict_inference(row["method"], {}),
            }
        )
    return found


def errors(rows: Sequence[Mapping[str, Any]], what: str, context: int = 0) -> list[float]:
    """Return the relative errors of a prediction, each with the context.

    Args:
        rows: The rows; see ``compared``.
        what: ``allocated`` or ``reserved`` in steps, or ``inference``: reserved in forward passes, on a CPU
            allocated.
        context: Bytes to add to both.
    """
    return [(row[f"predicted_{what}"] + context) / (row[what] + context) - 1 for row in rows]


def table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Return, in Markdown, the measured MiB reserved and the prediction's error, by method and setting."""
    settings = list(dict.fromkeys(tuple(row[name] for name in VARIED) for row in rows))
    shown = Table(box=box.MARKDOWN)
    shown.add_column("method", no_wrap=True)
    for setting in settings:
        shown.add_column(" ".join(setting), justify="right", no_wrap=True)
    for method in dict.fromkeys(row["method"] for row in rows):
        cells = []
        for setting in settings:
            here = [r for r in rows if r["method"] == method and tuple(r[n] for n in VARIED) == setting]
            cells.append(
                f"{here[0]['reserved'] / MIB:,.0f} {errors(here, 'reserved')[0]:+.1%}" if here else ""
            )
        shown.add_row(method, *cells)
    return shown


def main() -> None:
    """Measure, or compare with what was measured."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    default = Path(__file__).parent / "results" / "device_memory.json"
    parser.add_argument("--measure", action="store_true", help="measure on this machine's GPU")
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--json", type=Path, default=default, help="file (default: %(default)s)")
    options = parser.parse_args()
    methods = options.methods.split(",")
    if options.measure:
        if not torch.cuda.is_available():
            sys.exit("--measure needs a GPU")
        rows = []
        for row in measured(predictor(ENCODERS, SETTING), methods, torch.device("cuda")):
            rows.append(row)
            print(f"{len(rows):4} {row['method']}, {row['precision']}, {row['attention']}", flush=True)
        major, minor = torch.cuda.get_device_capability()
        document = {
            "gpu": torch.cuda.get_device_name(),
            "compute_capability": float(f"{major}.{minor}"),
            "torch": torch.__version__,
            "rows": rows,
        }
        options.json.write_text(json.dumps(document, indent=1) + "\n")
        print(f"written: {options.json}")
        return
    document = json.loads(options.json.read_text())
    base = predictor(ENCODERS, SETTING).changed(compute_capability=document["compute_capability"])
    rows = compared(base, [row for row in document["rows"] if row["method"] in methods])
    console = Console(highlight=False, width=160)
    console.print(table(rows))
    console.print(f"{len(rows)} steps on {document['gpu']}, torch {document['torch']}; relative errors:")
    context = base.setting.context_bytes
    lines = (
        ("tensors and workspaces", "allocated", 0),
        ("reserved", "reserved", 0),
        ("memory", "reserved", context),
        ("reserved in inference", "inference", 0),
        ("inference memory", "inference", context),
    )
    for name, what, constant in lines:
        off = [abs(error) for error in errors(rows, what, constant)]
        console.print(f"{name}: median {statistics.median(off):.1%}, worst {max(off):.1%}")


if __name__ == "__main__":
    main()
