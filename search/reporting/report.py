"""The front as a table and as a picture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from rich.console import Console, JustifyMethod
from rich.measure import Measurement
from rich.table import Table

from search.goals.objectives import KNOWN, OBJECTIVES
from search.oneshot.agreement import RankAgreement
from search.pictures import new_figure
from search.records.history import History, TrialRecord
from search.records.status import Status
from search.units import GIB

_COLOURS = {"front": "#0b6e4f", "trial": "#9aa5b1", "limit": "#b23a48"}

#: Headings of figures and parameters, where they are not their names.
_HEADINGS = {
    "memory": "memory\nGiB",
    "inherited_accuracy": "inher.\nacc",
    "accuracy": "val\nacc",
    "test_accuracy": "test\nacc",
    "n_fusion_layers": "L_f",
    "n_query_prompts": "QP",
    "n_query_context_prompts": "QCP",
    "n_fusion_context_prompts": "FCP",
    "translator_width": "trans.\nwidth",
    "learning_rate": "lr",
    "gradient_checkpointing": "grad.\nckpt.",
}


def front_rows(history: History) -> list[dict[str, Any]]:
    """Return the front as the rows of the JSON document, see ``SearchResult.to_dict``.

    Figures are means over the trials of a configuration, ``seeds`` their number, and with several of them
    ``spread`` holds standard deviations.
    """
    return [_row(record, history) for record in history.front()]


def method_rows(history: History) -> list[dict[str, Any]]:
    """Return the best finished trial of each method, best first, as rows like the front's.

    Best is by the first objective that training decides (accuracy, unless others were chosen); each row also
    has ``trials``, how many of the method's trials finished, and ``on_front``.
    """
    front = {record.trial_id for record in history.front()}
    trials = Counter(record.config["method"] for record in history.by_status(Status.FINISHED))
    return [
        {
            **_row(record, history),
            "trials": trials[record.config["method"]],
            "on_front": record.trial_id in front,
        }
        for record in history.best_of_methods()
    ]


def memory_rows(history: History) -> list[dict[str, Any]]:
    """Return predicted and measured memory of every trial that was measured, in GiB."""
    return [
        {
            "trial_id": record.trial_id,
            "run_id": record.run_id,
            "memory": record.values["memory"],
            "expected": record.epochs[-1]["expected_memory"],
            "measured": record.epochs[-1]["measured_memory"],
            "reserved": record.epochs[-1].get("reserved_memory"),
            "error": record.memory_error,
            "config": dict(record.config),
        }
        for record in history.trials.values()
        if record.memory_error is not None
    ]


def memory_line(rows: Sequence[Mapping[str, Any]]) -> str:
    """Say how far measured memory was from the expected, over the rows of ``memory_rows``."""
    errors = sorted(abs(row["error"]) for row in rows)
    if not errors:
        return "memory was not measured: no trial came as far as its second full batch"
    median, tenth = errors[len(errors) // 2], errors[-1 - len(errors) // 10]
    return (
        f"memory, measured against predicted in {len(errors)} trials: off by {median:.1%} in the median, "
        f"{tenth:.1%} at the 90th percentile, {errors[-1]:.1%} at most"
    )


def tau_line(agreement: RankAgreement) -> str:
    """Say how well inherited results rank subnets, and whether there is anything to rank."""
    name, tau = agreement.objective, agreement.tau
    if tau is None:
        return (
            f"Kendall's tau of inherited against own {name} is unknown: it takes two trained random "
            "subnets that differ"
        )
    line = (
        f"Kendall's tau of inherited against own {name}, over {len(agreement.own)} random subnets: {tau:.2f} "
        "(1: the same ranking; 0: no relation)"
    )
    uncertainty = agreement.uncertainty
    if uncertainty is None or agreement.spread >= uncertainty:
        return line
    return (
        f"{line}. There is little to rank: their own {name} varies by {agreement.spread:.3f} (standard "
        f"deviation), and over {agreement.rows} rows each is uncertain by {uncertainty:.3f}"
    )


def _row(record: TrialRecord, history: History) -> dict[str, Any]:
    values = history.values(record)
    runs = history.finished(record)
    tests = [run.test["accuracy"] for run in runs if "accuracy" in run.test]
    row: dict[str, Any] = {
        "trial_id": record.trial_id,
        "run_id": record.run_id,
        "memory": values["memory"],
        "accuracy": values["accuracy"],
        "test_accuracy": _tested(record, history).get("accuracy"),
        **{o.name: values[o.name] for o in history.objectives},
        **({"inherited_accuracy": record.inherited["accuracy"]} if record.inherited else {}),
        "trainable_parameters": record.memory.trainable_parameters,
        "seeds": len(runs),
        "config": dict(record.config),
    }
    if len(runs) > 1:
        spreads = history.spreads(record)
        row["spread"] = {
            **{name: spreads[name] for name in row if name in spreads},
            "test_accuracy": stdev(tests) if len(tests) > 1 else None,
        }
    return row


def front_table(
    rows: Sequence[Mapping[str, Any]], depths: Mapping[str, int], title: str, width: int
) -> tuple[Table, list[str]]:
    """Return the front as a table for the terminal, and the lines that are to follow it.

    Settings have columns. Where these say too little or do not fit, lines have the settings of each member.

    Args:
        rows: As ``front_rows`` returns them.
        depths: Layers of each encoder, to show L_f for each.
        title: Above the table.
        width: Columns of the terminal.
    """
    lines = [settings_line(row) for row in rows]
    if len({row["config"]["method"] for row in rows}) > 1:
        return _front_table(rows, depths, title, ["method"]), lines
    # A supernet has one learning rate, which all that is trained from it shares
    inherited = any("inherited_accuracy" in row for row in rows)
    left_out = ("method", "learning_rate") if inherited else ("method",)
    keys = list(dict.fromkeys(key for row in rows for key in row["config"] if key not in left_out))
    table = _front_table(rows, depths, title, keys)
    endless = Console(width=10_000)
    if Measurement.get(endless, endless.options, table).maximum > width:
        return _front_table(rows, depths, title, []), lines
    by_layer = any(isinstance(value, Mapping) for row in rows for value in row["config"].values())
    return table, lines if by_layer else []


def _front_table(
    rows: Sequence[Mapping[str, Any]], depths: Mapping[str, int], title: str, keys: Sequence[str]
) -> Table:
    """Return the front with a column for each of some fields of the configuration."""
    figures = ["memory"]
    figures += ["inherited_accuracy"] if any("inherited_accuracy" in row for row in rows) else []
    figures += ["accuracy", "test_accuracy"]
    others = [name for name in OBJECTIVES if name not in ("memory", "accuracy", "params")]
    figures += [name for name in others if any(name in row for row in rows)]
    table = _table(title, [*(_heading(name) for name in figures), "trained\nparams"])
    for key in keys:
        justify: JustifyMethod = "left" if key == "method" else "right"
        table.add_column(_heading(key), justify=justify, no_wrap=True)
    table.add_column("MLflow\nrun id", no_wrap=True)
    if "n_fusion_layers" in keys:
        table.caption = f"L_f: first fused layer of {'/'.join(depths)}; QP, QCP, FCP: prompt lengths"
        table.caption_justify = "left"
    for row in rows:
        settings = [_cell(key, row["config"].get(key), depths) for key in keys]
        table.add_row(*(_figure(row, name) for name in figures), _millions(row), *settings, _run_id(row))
    return table


def _heading(name: str) -> str:
    return _HEADINGS.get(name, name.replace("_", "\n"))


def methods_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Return the best of each method as a table for the terminal.

    Args:
        rows: As ``method_rows`` returns them.
    """
    figures = ("accuracy", "test_accuracy", "memory")
    headings = [*(_heading(name) for name in figures), "trained\nparams", "trials"]
    table = _table("best of each method", headings)
    table.add_column("method", no_wrap=True)
    table.add_column("on the\nfront", no_wrap=True)
    table.add_column("MLflow\nrun id", no_wrap=True)
    for row in rows:
        table.add_row(
            *(_figure(row, name) for name in figures),
            _millions(row),
            str(row["trials"]),
            row["config"]["method"],
            "yes" if row["on_front"] else "",
            _run_id(row),
        )
    return table


def _table(title: str, headings: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left", header_style="bold", box=None, padding=(0, 2, 0, 0))
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _figure(row: Mapping[str, Any], name: str) -> str:
    """A value, with its standard deviation over seeds where there are several and it is not exact."""
    if row.get(name) is None:
        return "-"
    spread = None if name in KNOWN else row.get("spread", {}).get(name)
    return f"{row[name]:.3f}" if spread is None else f"{row[name]:.3f} ±{spread:.3f}"


def _millions(row: Mapping[str, Any]) -> str:
    return f"{row['trainable_parameters'] / 1e6:.2f} M"


def _run_id(row: Mapping[str, Any]) -> str:
    return (row["run_id"] or "-")[:8]


def settings_line(row: Mapping[str, Any]) -> str:
    """Return a trial's method and settings in one line, the learning rate last."""
    config = row["config"]
    named = {key: value for key, value in config.items() if key not in ("method", "learning_rate")}
    named["lr"] = config["learning_rate"]
    settings = ", ".join(f"{k}={_written(v)}" for k, v in named.items())
    return f"{_run_id(row)}  {config['method']}: {settings}"


def _written(value: Any) -> str:
    """Return a setting as text; one for each layer of each modality as ``text 4 2 1 image 8 8 2``."""
    if isinstance(value, Mapping):
        return " ".join(f"{modality} {' '.join(map(str, of))}" for modality, of in value.items())
    return f"{value:g}" if isinstance(value, float) else str(value)


def plot_front(history: History, path: Path, title: str, max_memory: int | None = None) -> None:
    """Draw all finished trials over the first two objectives, the front joined by steps.

    Args:
        history: The search's trials.
        path: PNG (or SVG, PDF) file to write.
        title: Above the axes.
        max_memory: Budget in bytes, drawn as a line where memory is an axis.
    """
    import matplotlib

    x, y = (*history.objectives, *history.objectives)[:2]
    figure, axes = new_figure(6.4, 4.0)
    front = history.front()
    finished = [record for record in history.by_status(Status.FINISHED) if record.repeat_of is None]
    rest = [record for record in finished if record not in front]
    methods = list(dict.fromkeys(r.config["method"] for r in (*front, *rest)))
    mixed = len(methods) > 1
    colours = {method: matplotlib.colormaps["tab20"](i % 20) for i, method in enumerate(methods)}

    def points(records: list[TrialRecord], values: str, label: str | None, **style: Any) -> None:
        shown = [_tested(r, history) if values == "test" else history.values(r) for r in records]
        axes.scatter(
            [history.values(r)[x.name] for r in records],
            [v[y.name] for v in shown],
            label=label,
            zorder=3,
            **style,
        )

    if mixed:
        for method in methods:
            shown = [r for r in rest if r.config["method"] == method]
            points(shown, "validation", None, s=22, color=[colours[method]] * len(shown))
            members = [r for r in front if r.config["method"] == method]
            points(
                members, "validation", None, s=52, color=[colours[method]] * len(members), edgecolors="black"
            )
            axes.scatter([], [], s=30, color=[colours[method]], label=method)
    else:
        points(rest, "validation", "dominated trials", s=26, color=_COLOURS["trial"])
        points(front, "validation", "front (validation)", s=46, color=_COLOURS["front"])
    if len(history.objectives) == 2:
        ordered = sorted(front, key=lambda r: history.values(r)[x.name])
        axes.step(
            [history.values(r)[x.name] for r in ordered],
            [history.values(r)[y.name] for r in ordered],
            where="post" if x.direction == "minimize" else "pre",
            color=_COLOURS["front"],
            linewidth=1.2,
            zorder=2,
            label="front (validation)" if mixed else None,
        )
    for record in front:
        spread = history.spreads(record).get(y.name)
        if spread is not None:
            centre = history.values(record)
            axes.errorbar(centre[x.name], centre[y.name], spread, color=_COLOURS["front"], capsize=2, lw=1)
    tested = [r for r in front if y.name in _tested(r, history)]
    if tested:
        points(tested, "test", "front (test)", s=40, facecolors="none", edgecolors=_COLOURS["front"])
    if max_memory is not None and x.name == "memory":
        axes.axvline(max_memory / GIB, color=_COLOURS["limit"], linestyle="--", linewidth=1, label="budget")
    units = {"memory": "predicted training memory (GiB)"}
    axes.set_xlabel(units.get(x.name, x.name))
    axes.set_ylabel(units.get(y.name, y.name))
    axes.set_title(title, fontsize=10)
    axes.grid(alpha=0.25)
    if mixed:
        axes.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0)
    else:
        axes.legend(fontsize=8, loc="best")
    figure.tight_layout()
    figure.savefig(path)


def _tested(record: TrialRecord, history: History) -> dict[str, float]:
    """A configuration's metrics on the test split: means over its trials."""
    tests = [run.test for run in history.finished(record) if run.test]
    return {name: fmean(test[name] for test in tests) for name in tests[0]} if tests else {}


def _cell(key: str, value: Any, depths: Mapping[str, int]) -> str:
    if value is None:
        return "-"
    if key == "n_fusion_layers":
        return "/".join(str(depth - value) for depth in depths.values())
    if isinstance(value, Mapping):  # one for each layer of each modality
        numbers = [number for of_layers in value.values() for number in of_layers]
        return f"{min(numbers)}" if min(numbers) == max(numbers) else f"{min(numbers)}-{max(numbers)}"
    return f"{value:g}" if isinstance(value, float) else str(value)
