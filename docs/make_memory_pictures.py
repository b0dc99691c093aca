"""Make the pictures of memory.md: ``python docs/make_memory_pictures.py`` (a few minutes on one core)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib
import torch

matplotlib.use("Agg")
from matplotlib import pyplot as plt

from search.sizing.charts import PART_COLOURS, plot_breakdown, plot_grid
from search.sizing.extent import measure_grid
from spaces import SpaceContext, get_space
from trainables.memory.memo import PredictionMemo
from trainables.memory.predictor import MemoryPredictor
from trainables.methods import METHODS
from trainables.step.setting import TrainingSetting
from trainables.tasks import DEFAULT_TASK, get_task
from trainables.towers import resolve_encoder

FOLDER = Path(__file__).parent
NAMES = {"text": "arch:bert-base", "image": "arch:vit-base"}
LIMIT = 8 * 2**30
#: What ``benchmarks/device_memory.py --measure`` wrote.
MEASURED = FOLDER.parent / "benchmarks" / "results" / "device_memory.json"
#: Methods whose memory is drawn for each target.
ON_TARGETS = ("linear", "pmf", "wander", "lora", "mope", "late_concat")

#: What to change in the setting, and what to call it.
CHANGES: list[tuple[str, dict[str, Any]]] = [
    ("as it is: fp32, eager, AdamW", {}),
    ("--optimizer sgd", {"optimizer": "sgd"}),
    ("--optimizer-kernel foreach", {"optimizer_kernel": "foreach"}),
    ("--optimizer-kernel fused", {"optimizer_kernel": "fused"}),
    ("--no-encoder-dropout", {"encoder_dropout": False}),
    ("... and --attention sdpa", {"encoder_dropout": False, "attention": "sdpa"}),
    ("--precision bf16", {"precision": "bf16"}),
    ("--precision bf16-frozen", {"precision": "bf16-frozen"}),
    ("--gradient-accumulation 4", {"gradient_accumulation": 4}),
    ("--gradient-checkpointing", {"gradient_checkpointing": True}),
    ("--skip-unused", {"skip_unused": True}),
    ("--prefix cached", {"prefix": "cached"}),
    ("--prefix offloaded", {"prefix": "offloaded"}),
    (
        "bf16-frozen, checkpointing,\nskip unused, offloaded",
        {
            "precision": "bf16-frozen",
            "gradient_checkpointing": True,
            "skip_unused": True,
            "prefix": "offloaded",
        },
    ),
]


def plot_settings(predictor: MemoryPredictor, cases: list[tuple[str, dict[str, Any]]]) -> None:
    """Draw what each setting makes of some configurations, and print the same as a table."""
    figure, all_axes = plt.subplots(1, len(cases), figsize=(9.6, 4.8), dpi=160, sharey=True)
    print("| setting |", " | ".join(f"{method} {config or ''}" for method, config in cases), "|")
    reports = {
        label: [predictor.changed(**changes).predict(method, config) for method, config in cases]
        for label, changes in CHANGES
    }
    for label, of_label in reports.items():
        print(f"| {label} |", " | ".join(f"{report.memory / 2**30:.2f}" for report in of_label), "|")
    for number, (axes, (method, config)) in enumerate(zip(all_axes, cases, strict=True)):
        left = [0.0] * len(CHANGES)
        for part, colour in PART_COLOURS.items():
            sizes = [of_label[number].sizes()[part] / 2**30 for of_label in reports.values()]
            axes.barh(list(reports), sizes, left=left, color=colour, label=part, height=0.75)
            left = [start + size for start, size in zip(left, sizes, strict=True)]
        for row, total in enumerate(left):
            axes.text(total, row, f" {total:.2f}", va="center", fontsize=7)
        axes.set_xlim(0, 1.15 * max(left))
        axes.set_xlabel("GiB for one step")
        named = ", ".join(f"{key}={value}" for key, value in config.items())
        axes.set_title(f"{method} {named}".strip(), fontsize=10)
        axes.tick_params(axis="y", labelsize=8)
        axes.grid(axis="x", alpha=0.25)
    all_axes[0].invert_yaxis()
    handles, labels = all_axes[-1].get_legend_handles_labels()
    figure.legend(handles, labels, fontsize=8, loc="lower center", ncols=len(labels), frameon=False)
    figure.tight_layout(rect=(0, 0.05, 1, 1))
    figure.savefig(FOLDER / "memory_settings.png")


def plot_targets(predictor: MemoryPredictor) -> None:
    """Draw what is counted for which device, and predictions beside what a GPU was measured to take."""
    document = json.loads(MEASURED.read_text())
    on_gpu = predictor.changed(target="cuda", compute_capability=document["compute_capability"])
    figure, (bars, points) = plt.subplots(
        1, 2, figsize=(9.6, 4.2), dpi=160, gridspec_kw={"width_ratios": (3, 2)}
    )
    setting = {"precision": "bf16", "attention": "sdpa"}
    for row, method in enumerate(ON_TARGETS):
        gpu = on_gpu.changed(**setting).predict(method, {})
        cpu = predictor.changed(target="cpu", **setting).predict(method, {})
        assert gpu.reserved is not None
        stacked = {
            "tensors on a GPU": (gpu.total, "#1f77b4"),
            "libraries' workspaces and the allocator's reserve": (gpu.reserved - gpu.total, "#9ecae1"),
            "CUDA context": (gpu.context, "#fdae6b"),
        }
        left = 0.0
        for label, (size, colour) in stacked.items():
            known = None if row else label  # one entry of the legend for all rows
            bars.barh(row - 0.14, size / 2**30, left=left, height=0.26, color=colour, label=known)
            left += size / 2**30
        known = None if row else "tensors on a CPU"
        bars.barh(row + 0.14, cpu.total / 2**30, height=0.26, color="#8c8c8c", label=known)
    bars.set_yticks(range(len(ON_TARGETS)), ON_TARGETS)
    bars.invert_yaxis()
    bars.set_xlabel("GiB for one step")
    bars.set_title("what is counted (bf16, sdpa)", fontsize=10)
    bars.legend(fontsize=7, loc="upper right")
    bars.grid(axis="x", alpha=0.25)
    for precision, colour in (("fp32", "#d62728"), ("bf16", "#1f77b4"), ("bf16-frozen", "#2ca02c")):
        rows = [row for row in document["rows"] if row["precision"] == precision]
        reports = [
            on_gpu.changed(precision=precision, attention=row["attention"]).predict(row["method"], {})
            for row in rows
        ]
        measured = [row["reserved"] / 2**30 for row in rows]
        predicted = [(report.reserved or 0) / 2**30 for report in reports]
        points.plot(measured, predicted, "o", markersize=3.5, alpha=0.7, color=colour, label=precision)
    ends = [0.5, 20]
    points.plot(ends, ends, color="black", linewidth=0.7)
    points.set(xscale="log", yscale="log", xlim=ends, ylim=ends)
    points.set_xlabel(f"reserved on an {document['gpu']}, GiB")
    points.set_ylabel("predicted without a GPU, GiB")
    points.set_title(f"{len(document['rows'])} steps of {len(METHODS)} methods", fontsize=10)
    points.legend(fontsize=8)
    points.grid(alpha=0.25)
    figure.tight_layout()
    figure.savefig(FOLDER / "memory_targets.png")


def _memory(predictor: MemoryPredictor, config: Mapping[str, Any]) -> int:
    return predictor.predict_configuration(config).memory


def main() -> None:
    """Make all of them."""
    torch.set_num_threads(1)
    encoders = {modality: resolve_encoder(modality, name) for modality, name in NAMES.items()}
    predictor = MemoryPredictor(
        encoders, get_task(DEFAULT_TASK).of_size(101), TrainingSetting(), memo=PredictionMemo()
    )
    title = "pmf on bert-base + vit-base, batch 32, 128 tokens"
    pmf = {"n_fusion_layers": 2}
    parts, report = predictor.explain("pmf", pmf), predictor.predict("pmf", pmf)
    plot_breakdown(parts, report, FOLDER / "memory_parts.png", f"{title}, L_f = 10")
    plot_settings(predictor, [("pmf", {"n_fusion_layers": 6}), ("lora", {}), ("late_concat", {})])
    plot_targets(predictor)
    context = SpaceContext.of(encoders)
    at = {size: predictor.changed(batch_size=size) for size in (4, 8, 16, 32, 64, 128)}
    costs = {size: partial(_memory, predictor) for size, predictor in at.items()}
    grid = measure_grid(get_space("pmf_nas"), context, costs, "n_fusion_layers")
    plot_grid(grid, FOLDER / "memory_space.png", "pmf_nas on bert-base + vit-base", context.depths, LIMIT)


if __name__ == "__main__":
    main()
