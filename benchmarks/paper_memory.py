"""The memory columns of the PMF paper's Tables 2 and 4 (training / inference), predicted without a GPU.

Li et al., CVPR 2023, report the largest memory usage in training and in evaluating each method on UPMC
Food-101. The paper does not state the GPU, the version of PyTorch, the attention kernel, precision and text
length, nor whether its figures are those of the allocator or of the whole process. Predictions are for batch
32, 512 text tokens, 224 pixels, 101 classes, fp32, eager attention, active dropout and SGD with momentum
(batch and optimizer: Sec. 4.3). GB are 10^9 bytes here and are taken to be so in the paper.

Training is predicted in three stages: tensors with a CPU's kernels, tensors with a GPU's kernels, and what
the GPU's allocator reserves for the latter. Each stage is compared with the paper with one constant for all
rows, as a CUDA context would be, and with a line, which may also scale the predictions. Both are found by
least squares from the rows with base encoders, and then applied to those with large encoders.

    python benchmarks/paper_memory.py [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Collection, Mapping, Sequence
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

#: (row, method, text and image encoder, the paper's GB in training and inference): Table 2, and two further
#: rows of Table 4.
ROWS = [
    ("Linear", "linear", BASE, 3.76, 3.23),
    ("ViT", "image_only", BASE, 9.36, 1.99),
    ("BERT", "text_only", BASE, 30.82, 2.79),
    ("LateConcat", "late_concat", BASE, 38.54, 3.36),
    ("MMBT", "mmbt", BASE, 37.87, 3.48),
    ("MBT", "mbt", BASE, 38.00, 4.06),
    ("VPT", "vpt", BASE, 6.12, 2.01),
    ("P-BERT", "p_bert", BASE, 28.13, 2.99),
    ("PromptFuse", "prompt_fuse", BASE, 29.57, 3.55),
    ("BlindPrompt", "blind_prompt", BASE, 29.57, 3.65),
    ("P-LateConcat", "p_late_concat", BASE, 30.82, 3.43),
    ("P-MMBT", "p_mmbt", BASE, 30.90, 3.48),
    ("PMF", "pmf", BASE, 12.84, 4.08),
    ("PMF-large", "pmf", LARGE, 18.44, 6.42),
    ("PMF, ViT-large", "pmf", ("bert-base", "vit-large"), 14.16, 4.89),
    ("PMF, BERT-large", "pmf", ("bert-large", "vit-base"), 17.17, 5.53),
]

#: The stages in which each column of the paper is predicted.
ALLOCATOR = "and allocator"
STAGES = {"training": ("CPU kernels", "CUDA kernels", ALLOCATOR), "inference": (ALLOCATOR,)}


def predict(names: Collection[str]) -> list[dict[str, Any]]:
    """Return the paper's figures and the predictions of rows, in GB."""
    predictors: dict[tuple[str, str], MemoryPredictor] = {}
    rows = []
    for name, method, pair, training, inference in (row for row in ROWS if row[0] in names):
        if pair not in predictors:
            encoders = {
                m: resolve_encoder(m, f"arch:{e}") for m, e in zip(("text", "image"), pair, strict=True)
            }
            predictors[pair] = MemoryPredictor(encoders, get_task(DEFAULT_TASK).of_size(CLASSES), SETTING)
        on_gpu = predictors[pair].predict(method, {})
        on_cpu = predictors[pair].changed(target="cpu").predict(method, {})
        assert on_gpu.reserved is not None
        sizes = {
            "training": (on_cpu.total, on_gpu.total, on_gpu.reserved),
            "inference": (predictors[pair].predict_inference(method, {}),),
        }
        rows.append(
            {
                "row": name,
                "method": method,
                "encoders": list(pair),
                "paper": {"training": training, "inference": inference},
                "predicted": {
                    column: {stage: size / 1e9 for stage, size in zip(STAGES[column], found, strict=True)}
                    for column, found in sizes.items()
                },
                "parts": on_gpu.to_dict(),
                "trainable_parameters": on_gpu.trainable_parameters,
            }
        )
    return rows


def is_base(row: Mapping[str, Any]) -> bool:
    """Return whether a row is of base encoders, from which constants and lines are found."""
    return tuple(row["encoders"]) == BASE


def _of(rows: Sequence[Mapping[str, Any]], column: str, stage: str) -> tuple[Any, Any]:
    """Return the predictions and the paper's figures of a column as arrays."""
    predicted = np.array([row["predicted"][column][stage] for row in rows])
    return predicted, np.array([row["paper"][column] for row in rows])


def judged(
    rows: Sequence[Mapping[str, Any]], column: str, stage: str, slope: float, offset: float
) -> dict[str, Any]:
    """Return the relative errors of ``slope`` x predicted + ``offset`` GB, and summaries of their sizes.

    Args:
        rows: The rows.
        column: ``training`` or ``inference``.
        stage: One of the column's stages.
        slope: Factor of the predictions.
        offset: What is added to them, in GB.
    """
    predicted, paper = _of(rows, column, stage)
    errors = {
        row["row"]: float(e) for row, e in zip(rows, (slope * predicted + offset) / paper - 1, strict=True)
    }
    found: dict[str, Any] = {"slope": slope, "offset_gb": offset, "errors": errors}
    for group, wanted in (("base", True), ("large", False)):
        sizes = [abs(errors[row["row"]]) for row in rows if is_base(row) is wanted]
        found[group] = {"median": statistics.median(sizes), "worst": max(sizes)} if sizes else None
    return found


def compared(rows: Sequence[Mapping[str, Any]], column: str, stage: str) -> dict[str, Any]:
    """Return how a stage's predictions compare with a column of the paper: as ranks, and see ``judged``.

    Args:
        rows: The rows, of which two or more are of base encoders.
        column: ``training`` or ``inference``.
        stage: One of the column's stages.
    """
    predicted, paper = _of([row for row in rows if is_base(row)], column, stage)
    slope, offset = np.polyfit(predicted, paper, 1)
    return {
        "spearman": float(spearmanr(*_of(rows, column, stage)).statistic),
        "constant": judged(rows, column, stage, 1.0, float(np.mean(paper - predicted))),
        "line": judged(rows, column, stage, float(slope), float(offset)),
    }


def table(rows: Sequence[Mapping[str, Any]], column: str, agreement: Mapping[str, Any]) -> Table:
    """Return the predictions and the errors of a column; rows with large encoders come last."""
    shown = Table(title=f"{column}, PMF paper's Tables 2 and 4, in GB", title_justify="left")
    shown.add_column("row", no_wrap=True)
    headings = ["paper"]
    for stage in STAGES[column]:
        headings += [stage, "const.", "line"]
    for heading in headings:
        shown.add_column(heading, justify="right", no_wrap=True)
    for group in (True, False):
        for row in (row for row in rows if is_base(row) is group):
            cells = [row["row"], f"{row['paper'][column]:.2f}"]
            for stage in STAGES[column]:
                errors = [agreement[stage][kind]["errors"][row["row"]] for kind in ("constant", "line")]
                cells += [f"{row['predicted'][column][stage]:.2f}", *(f"{error:+.1%}" for error in errors)]
            shown.add_row(*cells)
        shown.add_section()
    return shown


def in_words(found: Mapping[str, Any]) -> str:
    """Return the size of errors in words; see ``judged``."""
    formula = "predicted" if found["slope"] == 1 else f"{found['slope']:.3f} x predicted"
    base, large = found["base"], found["large"]
    text = f"{formula} + {found['offset_gb']:.2f} GB: median {base['median']:.1%}, worst {base['worst']:.1%}"
    return text if large is None else f"{text}, large encoders {large['worst']:.1%}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    default = Path(__file__).parent / "results" / "paper_memory.json"
    parser.add_argument("--rows", default=";".join(row[0] for row in ROWS), help="rows, with ';' between")
    parser.add_argument("--json", type=Path, default=default, help="file to write (default: %(default)s)")
    arguments = parser.parse_args()
    started = time.perf_counter()
    rows = predict(arguments.rows.split(";"))
    seconds = time.perf_counter() - started
    agreement: dict[str, dict[str, Any]] = {
        column: {stage: compared(rows, column, stage) for stage in stages}
        for column, stages in STAGES.items()
    }
    # A process has the same context in training and in evaluation
    context = agreement["inference"][ALLOCATOR]["constant"]["offset_gb"]
    agreement["training"][ALLOCATOR]["inference"] = judged(rows, "training", ALLOCATOR, 1.0, context)

    console = Console(highlight=False)
    for column, stages in agreement.items():
        console.print(table(rows, column, stages))
        for stage, found in stages.items():
            console.print(f"{stage} (rank correlation {found['spearman']:.3f})")
            console.print(f"  {in_words(found['constant'])}\n  {in_words(found['line'])}")
    same = in_words(agreement["training"][ALLOCATOR]["inference"])
    console.print(f"training, {ALLOCATOR}, with the constant of inference\n  {same}")
    console.print(f"{len(rows)} rows in {seconds:.0f} s")
    arguments.json.parent.mkdir(exist_ok=True)
    document = {
        "setting": SETTING.to_dict(),
        "classes": CLASSES,
        "seconds": seconds,
        "torch": torch.__version__,
        "machine": platform.machine(),
        "agreement": agreement,
        "rows": rows,
    }
    arguments.json.write_text(json.dumps(document, indent=1) + "\n")
    print(f"written: {arguments.json}")


if __name__ == "__main__":
    main()
