"""Make the pictures of memory.md: ``python docs/make_memory_pictures.py`` (a few minutes on one core)."""

from __future__ import annotations

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
from trainables.step.setting import TrainingSetting
from trainables.tasks import DEFAULT_TASK, get_task
from trainables.towers import resolve_encoder

FOLDER = Path(__file__).parent
NAMES = {"text": "arch:bert-base", "image": "arch:vit-base"}
LIMIT = 8 * 2**30

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
    context = SpaceContext.of(encoders)
    at = {size: predictor.changed(batch_size=size) for size in (4, 8, 16, 32, 64, 128)}
    costs = {size: partial(_memory, predictor) for size, predictor in at.items()}
    grid = measure_grid(get_space("pmf_nas"), context, costs, "n_fusion_layers")
    plot_grid(grid, FOLDER / "memory_space.png", "pmf_nas on bert-base + vit-base", context.depths, LIMIT)


if __name__ == "__main__":
    main()
