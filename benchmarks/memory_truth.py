"""Comparison of predicted and tracked memory, for every method x precision x gradient checkpointing.

Each method, with default options over the included encoders, runs one real optimization step, whose tensors
are tracked. The prediction of the same step is made on tensors without content.

    python benchmarks/memory_truth.py [--json FILE]
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from trainables.memory.comparing import measure_configuration
from trainables.memory.predictor import MemoryPredictor
from trainables.methods import METHODS
from trainables.step.setting import TrainingSetting
from trainables.tasks import DEFAULT_TASK, get_task
from trainables.towers import resolve_encoder

SETTING = TrainingSetting(batch_size=2, text_length=16, image_size=98, target="cpu")
PRECISIONS = ("fp32", "bf16", "bf16-frozen")


def compare(methods: Sequence[str]) -> list[dict[str, Any]]:
    """Return the predicted and tracked bytes of methods in every setting."""
    encoders = {m: resolve_encoder(m, n) for m, n in (("text", "minilm"), ("image", "dinov2-small"))}
    predictor = MemoryPredictor(encoders, get_task(DEFAULT_TASK).of_size(13), SETTING)
    rows = []
    for method, precision, checkpointing in itertools.product(methods, PRECISIONS, (False, True)):
        at = predictor.changed(precision=precision, gradient_checkpointing=checkpointing)
        predicted = at.predict(method, {}).total
        tracked = measure_configuration(at, method, {}, torch.device("cpu")).allocated
        rows.append(
            {
                "method": method,
                "precision": precision,
                "gradient_checkpointing": checkpointing,
                "predicted": predicted,
                "tracked": tracked,
            }
        )
    return rows


def main() -> None:
    """Run the comparison, print it and write it to a file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--json", type=Path, default=Path(__file__).parent / "results" / "memory_truth.json")
    arguments = parser.parse_args()
    started = time.perf_counter()
    methods = arguments.methods.split(",")
    rows = compare(methods)
    table = Table(
        title=f"predicted memory in MiB, batch {SETTING.batch_size} (+: with gradient checkpointing)",
        title_justify="left",
        box=None,
    )
    table.add_column("method")
    settings = [(p, c) for p in PRECISIONS for c in (False, True)]
    for precision, checkpointing in settings:
        table.add_column(f"{precision}{' +' if checkpointing else ''}", justify="right")
    table.add_column("largest difference", justify="right")
    for method in methods:
        of_method = [row for row in rows if row["method"] == method]
        worst = max(abs(row["predicted"] - row["tracked"]) for row in of_method)
        table.add_row(method, *(f"{row['predicted'] / 2**20:.1f}" for row in of_method), f"{worst} bytes")
    console = Console(highlight=False)
    console.print(table)
    worst = max(rows, key=lambda row: abs(row["predicted"] - row["tracked"]))
    console.print(
        f"largest difference of {len(rows)}: {abs(worst['predicted'] - worst['tracked'])} bytes; "
        f"{time.perf_counter() - started:.0f} s"
    )
    arguments.json.parent.mkdir(exist_ok=True)
    arguments.json.write_text(json.dumps({"rows": rows, "torch": torch.__version__}, indent=1) + "\n")


if __name__ == "__main__":
    main()
