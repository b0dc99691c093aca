"""The memory columns of the PMF paper's Tables 2 and 4, predicted without a GPU.

Li et al., CVPR 2023, report the peak memory of training each method on UPMC Food-101. The paper does not
state the attention kernel, precision and text length. Predictions are for batch 32, 512 text tokens, 224
pixels, 101 classes, fp32, eager attention, active dropout and SGD with momentum (batch and optimizer: Sec.
4.3). Only the order and the ratios can be compared: the paper's figures include the memory of CUDA and its
allocator, while predictions count tensors only.

    python benchmarks/paper_memory.py [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from scipy.stats import spearmanr

from trainables.memory.predictor import MemoryPredictor
from trainables.step.setting import TrainingSetting
from trainables.tasks import DEFAULT_TASK, get_task
from trainables.towers import resolve_encoder

SETTING = TrainingSetting(batch_size=32, text_length=512, image_size=224, optimizer="sgd")
CLASSES = 101
BASE = ("bert-base", "vit-base")
LARGE = ("bert-large", "vit-large")

#: (row, method, text and image encoder, the paper's GB) for Table 2 and two further rows of Table 4.
ROWS = [
    ("Linear", "linear", BASE, 3.76),
    ("ViT", "image_only", BASE, 9.36),
    ("BERT", "text_only", BASE, 30.82),
    ("LateConcat", "late_concat", BASE, 38.54),
    ("MMBT", "mmbt", BASE, 37.87),
    ("MBT", "mbt", BASE, 38.00),
    ("VPT", "vpt", BASE, 6.12),
    ("P-BERT", "p_bert", BASE, 28.13),
    ("PromptFuse", "prompt_fuse", BASE, 29.57),
    ("BlindPrompt", "blind_prompt", BASE, 29.57),
    ("P-LateConcat", "p_late_concat", BASE, 30.82),
    ("P-MMBT", "p_mmbt", BASE, 30.90),
    ("PMF", "pmf", BASE, 12.84),
    ("PMF-large", "pmf", LARGE, 18.44),
    ("PMF, ViT-large", "pmf", ("bert-base", "vit-large"), 14.16),
    ("PMF, BERT-large", "pmf", ("bert-large", "vit-base"), 17.17),
]
REFERENCE = "LateConcat"


def predict(names: Collection[str]) -> list[dict[str, Any]]:
    """Return the predictions of rows, in GiB and as a share of LateConcat's, which is one of them."""
    predictors: dict[tuple[str, str], MemoryPredictor] = {}
    rows = []
    for name, method, pair, paper in (row for row in ROWS if row[0] in names):
        if pair not in predictors:
            encoders = {
                m: resolve_encoder(m, f"arch:{e}") for m, e in zip(("text", "image"), pair, strict=True)
            }
            predictors[pair] = MemoryPredictor(encoders, get_task(DEFAULT_TASK).of_size(CLASSES), SETTING)
        report = predictors[pair].predict(method, {})
        rows.append(
            {
                "row": name,
                "method": method,
                "encoders": list(pair),
                "predicted_gib": report.total / 2**30,
                "paper_gb": paper,
                "parts": report.to_dict(),
                "trainable_parameters": report.trainable_parameters,
            }
        )
    whole = next(row for row in rows if row["row"] == REFERENCE)
    for row in rows:
        row["predicted_ratio"] = row["predicted_gib"] / whole["predicted_gib"]
        row["paper_ratio"] = row["paper_gb"] / whole["paper_gb"]
    return rows


def agreement(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Return the rank correlation, the errors after an affine fit, and the errors of the ratios."""
    predicted = np.array([row["predicted_gib"] for row in rows])
    paper = np.array([row["paper_gb"] for row in rows])
    slope, offset = np.polyfit(predicted, paper, 1)
    for row, fitted in zip(rows, slope * predicted + offset, strict=True):
        row["fitted_gb"] = float(fitted)
        row["relative_error"] = float(fitted / row["paper_gb"] - 1)
    errors = [abs(row["relative_error"]) for row in rows]
    ratio_errors = [abs(row["predicted_ratio"] / row["paper_ratio"] - 1) for row in rows]
    return {
        "spearman": float(spearmanr(predicted, paper).statistic),
        "slope": float(slope),
        "offset_gb": float(offset),
        "median_relative_error": statistics.median(errors),
        "worst_relative_error": max(errors),
        "median_ratio_error": statistics.median(ratio_errors),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    default = Path(__file__).parent / "results" / "paper_memory.json"
    parser.add_argument(
        "--rows", default=";".join(row[0] for row in ROWS), help=f"with ';' between; {REFERENCE} among them"
    )
    parser.add_argument("--json", type=Path, default=default, help="file to write (default: %(default)s)")
    arguments = parser.parse_args()
    started = time.perf_counter()
    rows = predict(arguments.rows.split(";"))
    measures = agreement(rows)
    seconds = time.perf_counter() - started

    table = Table(title="training memory, PMF paper's Tables 2 and 4", title_justify="left")
    table.add_column("row", no_wrap=True)
    share = f"share of\n{REFERENCE}"
    for heading in ("predicted\nGiB", "paper\nGB", share, "paper's\nshare", "fitted\nGB", "error"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            row["row"],
            f"{row['predicted_gib']:.2f}",
            f"{row['paper_gb']:.2f}",
            f"{row['predicted_ratio']:.3f}",
            f"{row['paper_ratio']:.3f}",
            f"{row['fitted_gb']:.2f}",
            f"{row['relative_error']:+.1%}",
        )
    console = Console()
    console.print(table)
    console.print(
        f"Spearman's rank correlation {measures['spearman']:.3f}; one fit for all rows, paper = "
        f"{measures['slope']:.3f} x predicted + {measures['offset_gb']:.2f} GB: median relative error "
        f"{measures['median_relative_error']:.1%}, worst {measures['worst_relative_error']:.1%}; "
        f"{len(rows)} predictions in {seconds:.0f} s",
        highlight=False,
    )
    arguments.json.parent.mkdir(exist_ok=True)
    document = {
        "setting": SETTING.to_dict(),
        "classes": CLASSES,
        "seconds": seconds,
        "torch": torch.__version__,
        "machine": platform.machine(),
        "agreement": measures,
        "rows": rows,
    }
    arguments.json.write_text(json.dumps(document, indent=1) + "\n")
    print(f"written: {arguments.json}")


if __name__ == "__main__":
    main()
