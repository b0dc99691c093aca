"""The front as a table and as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from search.history import History, TrialRecord
from search.objectives import OBJECTIVES
from search.units import GIB

_COLOURS = {"front": "#0b6e4f", "trial": "#9aa5b1", "limit": "#b23a48"}

#: Short headings of long parameter names.
_HEADINGS = {
    "n_fusion_layers": "L_f",
    "n_query_prompts": "QP",
    "n_query_context_prompts": "QCP",
    "n_fusion_context_prompts": "FCP",
    "translator_width": "trans.\nwidth",
    "learning_rate": "lr",
}


def front_rows(history: History) -> list[dict[str, Any]]:
    """Return the front as the rows of the JSON document, see ``SearchResult.to_dict``."""
    return [_row(record, history) for record in history.front()]


def _row(record: TrialRecord, history: History) -> dict[str, Any]:
    values = record.values
    named = {o.name: values[o.name] for o in history.objectives}
    return {
        "trial_id": record.trial_id,
        "run_id": record.run_id,
        "memory": values["memory"],
        "accuracy": values["accuracy"],
        "test_accuracy": record.test.get("accuracy"),
        **named,
        "trainable_parameters": record.memory.trainable_parameters,
        "config": dict(record.config),
    }


def front_table(rows: Sequence[Mapping[str, Any]], depths: Mapping[str, int], title: str) -> Table:
    """Return the front as a table for the terminal.

    Args:
        rows: As ``front_rows`` returns them.
        depths: Layers of each encoder, to show L_f for each.
        title: Above the table.
    """
    table = Table(title=title, title_justify="left", header_style="bold", box=None, padding=(0, 2, 0, 0))
    keys = list(dict.fromkeys(key for row in rows for key in row["config"]))
    methods = {row["config"]["method"] for row in rows}
    keys = [key for key in keys if key != "method" or len(methods) > 1]
    extra = [name for name in OBJECTIVES if name not in ("memory", "accuracy", "params")]
    extra = [name for name in extra if any(name in row for row in rows)]
    for heading in ("memory\nGiB", "val\nacc", "test\nacc", *extra, "trained\nparams"):
        table.add_column(heading, justify="right", no_wrap=True)
    for key in keys:
        table.add_column(_HEADINGS.get(key, key), justify="right", no_wrap=True)
    table.add_column("MLflow\nrun id", no_wrap=True)
    if "n_fusion_layers" in keys:
        table.caption = f"L_f: first fused layer of {'/'.join(depths)}; QP, QCP, FCP: prompt lengths"
        table.caption_justify = "left"
    for row in rows:
        test = row["test_accuracy"]
        table.add_row(
            f"{row['memory']:.3f}",
            f"{row['accuracy']:.3f}",
            "-" if test is None else f"{test:.3f}",
            *(f"{row[name]:.3f}" for name in extra),
            f"{row['trainable_parameters'] / 1e6:.2f} M",
            *(_cell(key, row["config"].get(key), depths) for key in keys),
            (row["run_id"] or "-")[:8],
        )
    return table


def plot_front(history: History, path: Path, title: str, max_memory: int | None = None) -> None:
    """Draw all finished trials over the first two objectives, the front joined by steps.

    Args:
        history: The search's trials.
        path: PNG (or SVG, PDF) file to write.
        title: Above the axes.
        max_memory: Budget in bytes, drawn as a line where memory is an axis.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    x, y = (*history.objectives, *history.objectives)[:2]
    figure, axes = plt.subplots(figsize=(6.4, 4.0), dpi=160)
    finished = history.by_status("finished")
    front = history.front()
    rest = [record for record in finished if record not in front]
    axes.scatter(
        [r.values[x.name] for r in rest],
        [r.values[y.name] for r in rest],
        s=26,
        color=_COLOURS["trial"],
        label="dominated trials",
        zorder=2,
    )
    if len(history.objectives) == 2:
        where = "post" if x.direction == "minimize" else "pre"
        ordered = sorted(front, key=lambda r: r.values[x.name])
        axes.step(
            [r.values[x.name] for r in ordered],
            [r.values[y.name] for r in ordered],
            where=where,
            color=_COLOURS["front"],
            linewidth=1.2,
            zorder=2,
        )
    axes.scatter(
        [r.values[x.name] for r in front],
        [r.values[y.name] for r in front],
        s=46,
        color=_COLOURS["front"],
        label="front (validation)",
        zorder=3,
    )
    tested = [r for r in front if y.name in r.test]
    if tested:
        axes.scatter(
            [r.values[x.name] for r in tested],
            [r.test[y.name] for r in tested],
            s=40,
            facecolors="none",
            edgecolors=_COLOURS["front"],
            label="front (test)",
            zorder=3,
        )
    if max_memory is not None and x.name == "memory":
        axes.axvline(max_memory / GIB, color=_COLOURS["limit"], linestyle="--", linewidth=1, label="budget")
    units = {"memory": "predicted training memory (GiB)"}
    axes.set_xlabel(units.get(x.name, x.name))
    axes.set_ylabel(units.get(y.name, y.name))
    axes.set_title(title, fontsize=10)
    axes.grid(alpha=0.25)
    axes.legend(fontsize=8, loc="best")
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)


def _cell(key: str, value: Any, depths: Mapping[str, int]) -> str:
    if value is None:
        return "-"
    if key == "n_fusion_layers":
        return "/".join(str(depth - value) for depth in depths.values())
    return f"{value:g}" if isinstance(value, float) else str(value)
