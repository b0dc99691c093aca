"""The front and the best trial of each method as tables for the terminal, with lines of text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console, JustifyMethod
from rich.measure import Measurement
from rich.table import Table

from search.goals.agreement import RankAgreement
from search.goals.constraints import parse_constraint
from search.goals.objectives import PARAMS, Objective
from search.goals.quantities import quantity_of
from search.records.history import PROBE
from search.units import format_duration

#: Headings of parameters, if they differ from the names.
_HEADINGS = {
    "n_fusion_layers": "L_f",
    "n_query_prompts": "QP",
    "n_query_context_prompts": "QCP",
    "n_fusion_context_prompts": "FCP",
    "translator_width": "trans.\nwidth",
    "learning_rate": "lr",
    "gradient_checkpointing": "grad.\nckpt.",
    "weight_decay": "decay",
    "label_smoothing": "label\nsmooth.",
    "head_learning_rate": "head\nlr",
}

#: Spaces between two columns.
_GAP = 2
#: Prefix of the names of metrics with weights inherited from a supernet.
_INHERITED = "inherited_"


def memory_line(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return a line about the error of predicted memory, over the rows of ``memory_rows``."""
    errors = sorted(abs(row["error"]) for row in rows if row["error"] is not None)
    if not rows:
        return "memory was not measured: no trial came as far as its second full batch"
    if not errors:
        share = max(row["measured"] / row["expected"] for row in rows)
        return (
            f"memory, measured in {len(rows)} trials without a batch of the full text length: at most "
            f"{share:.1%} of the predicted"
        )
    line = f"memory, measured against predicted in {len(errors)} trials: off by {_spread(errors)}"
    reserved = sorted(abs(row["reserved_error"]) for row in rows if row["reserved_error"] is not None)
    return f"{line}; what the allocator reserves: by {_spread(reserved)}" if reserved else line


def _spread(errors: Sequence[float]) -> str:
    """Return in words how large errors are, which come smallest first."""
    median, tenth = errors[len(errors) // 2], errors[-1 - len(errors) // 10]
    return f"{median:.1%} in the median, {tenth:.1%} at the 90th percentile, {errors[-1]:.1%} at most"


def time_line(seconds: Mapping[str, float]) -> str:
    """Return a line about what the wall time was spent on; parts of less than half a second are left out."""
    parts = [f"{format_duration(spent)} {part}" for part, spent in seconds.items() if spent >= 0.5]
    return f"wall time {format_duration(sum(seconds.values()))}: {', '.join(parts)}"


def unmet_line(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return a line about constraints that no trial has met, over the rows of ``unmet_rows``."""
    missed = []
    for row in rows:
        quantity = quantity_of(parse_constraint(row["constraint"]).objective)
        by, value = quantity.rounded(row["missed_by"]), quantity.rounded(row["nearest"])
        missed.append(f"{row['constraint']} by {by} (it has {value})")
    nearest = rows[0]["trial_id"]
    return f"no trial met the constraints: the nearest, {nearest}, misses {' and '.join(missed)}"


def tau_line(agreement: RankAgreement) -> str:
    """Return a line about how well inherited results rank subnets, and whether their own results differ."""
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


def front_table(
    rows: Sequence[Mapping[str, Any]],
    objectives: Sequence[Objective],
    depths: Mapping[str, int],
    title: str,
    width: int,
) -> tuple[Table, list[str]]:
    """Return the front as a table for the terminal, and the lines to print after it.

    Each setting has a column. If the columns do not fit, even closer together, or cannot show every setting,
    a line for each member gives its settings.

    Args:
        rows: Rows of ``front_rows``.
        objectives: Objectives in the rows, see ``History.shown``.
        depths: Number of layers of each encoder, to show L_f for each.
        title: Title above the table.
        width: Columns of the terminal.
    """
    lines = [settings_line(row) for row in rows]
    figures = figures_of(rows, objectives)
    trials = [row for row in rows if not is_probe(row)]
    if len({row["config"]["method"] for row in trials}) > 1:
        return _front_table(rows, figures, depths, title, ["method"]), lines
    # All subnets of a supernet share its learning rate.
    inherited = any(figure.key.startswith(_INHERITED) for figure in figures)
    left_out = ("method", "learning_rate") if inherited else ("method",)
    keys = list(dict.fromkeys(key for row in trials for key in row["config"] if key not in left_out))
    named = ["method"] if len(trials) < len(rows) else []
    by_layer = any(isinstance(value, Mapping) for row in trials for value in row["config"].values())
    endless = Console(width=10_000)
    for gap in (_GAP, 1):
        table = _front_table(rows, figures, depths, title, [*named, *keys], gap)
        if Measurement.get(endless, endless.options, table).maximum <= width:
            return table, lines if by_layer else []
    return _front_table(rows, figures, depths, title, named), lines


def training_table(row: Mapping[str, Any], objectives: Sequence[Objective], title: str) -> Table:
    """Return the result of one configuration as a table, with a line for each objective.

    Args:
        row: The configuration's row of ``front_rows``.
        objectives: Objectives in the row, see ``History.shown``.
        title: Title above the table.
    """
    seeds = row["seeds"]
    table = Table(title=title, title_justify="left", caption_justify="left")
    table.caption = (
        f"mean ± standard deviation of {seeds} seeds" if seeds > 1 else "± standard error over the samples"
    )
    tested = any(row.get(f"test_{objective.name}") is not None for objective in objectives)
    splits = ("validation", "test") if tested else ("validation",)
    for heading in ("", *splits):
        table.add_column(heading, justify="right" if heading else "left")
    spreads = row["spread"] if seeds > 1 else row["standard_error"]

    def cell(objective: Objective, key: str) -> str:
        if row.get(key) is None:
            return ""
        write = quantity_of(objective).cell
        spread = None if objective.known else spreads.get(key)
        return write(row[key]) if spread is None else f"{write(row[key])} ± {write(spread)}"

    for objective in objectives:
        name, symbol = objective.name, quantity_of(objective).symbol
        words = f"{name.replace('_', ' ')} {symbol}".strip()
        keys = (name, f"test_{name}")[: len(splits)]
        table.add_row(words, *(cell(objective, key) for key in keys))
    table.add_row("trained parameters", f"{row['trainable_parameters']:,}")
    return table


def _front_table(
    rows: Sequence[Mapping[str, Any]],
    figures: Sequence[Figure],
    depths: Mapping[str, int],
    title: str,
    keys: Sequence[str],
    gap: int = _GAP,
) -> Table:
    """Return the front as a table, with a column for each of the configuration's fields in ``keys``."""
    unsure = any(row["p_front"] is not None for row in rows)
    headings = [*(figure.heading for figure in figures), *(["p\nfront"] if unsure else [])]
    table = _table(title, headings, gap)
    for key in keys:
        justify: JustifyMethod = "left" if key == "method" else "right"
        table.add_column(_heading(key), justify=justify, no_wrap=True)
    table.add_column("MLflow\nrun id", no_wrap=True)
    if "n_fusion_layers" in keys:
        table.caption = f"L_f: first fused layer of {'/'.join(depths)}; QP, QCP, FCP: prompt lengths"
        table.caption_justify = "left"
    for row in rows:
        settings = [_cell(key, row["config"].get(key), depths) for key in keys]
        chances = [chance(row["p_front"])] if unsure else []
        table.add_row(*(figure.cell(row) for figure in figures), *chances, *settings, _run_id(row))
    return table


def chance(probability: float | None) -> str:
    """Return a probability as text; a dash if it is not known."""
    return "-" if probability is None else f"{probability:.2f}"


def _heading(name: str) -> str:
    return _HEADINGS.get(name, name.replace("_", "\n"))


def is_probe(row: Mapping[str, Any]) -> bool:
    """Return whether a row is that of a probe."""
    return str(row["config"]["method"]).partition(":")[0] == PROBE


def probe_lines(row: Mapping[str, Any], objectives: Sequence[Objective]) -> list[str]:
    """Return two lines over the row of ``probe_row``: the probe, and the best reading of its encoders.

    Args:
        row: The row.
        objectives: Objectives in the row, see ``History.shown``.
    """
    lines = []
    for what, shown in (("probe", row), ("best over all readings", row["best_reading"])):
        figures = [figure for figure in figures_of([row], objectives) if shown.get(figure.key) is not None]
        values = [f"{figure.heading} {figure.cell(shown)}".replace("\n", " ") for figure in figures]
        config = shown["config"].items()
        read = [f"{key.partition('.')[2]} {name}" for key, name in config if key.startswith("pooling.")]
        lines.append(f"{what}: {', '.join(values)} ({', '.join(read)})")
    return lines


def methods_table(rows: Sequence[Mapping[str, Any]], objectives: Sequence[Objective]) -> Table:
    """Return the best trial of each method as a table; objectives that training decides come first.

    Args:
        rows: Rows of ``method_rows``.
        objectives: Objectives in the rows, see ``History.shown``.
    """
    in_order = sorted(objectives, key=lambda objective: objective.known)
    figures = [f for f in figures_of(rows, in_order) if not f.key.startswith(_INHERITED)]
    table = _table("best of each method", [*(figure.heading for figure in figures), "trials"])
    table.add_column("method", no_wrap=True)
    table.add_column("on the\nfront", no_wrap=True)
    table.add_column("MLflow\nrun id", no_wrap=True)
    for row in rows:
        table.add_row(
            *(figure.cell(row) for figure in figures),
            str(row["trials"]),
            row["config"]["method"],
            "yes" if row["on_front"] else "",
            _run_id(row),
        )
    return table


def robustness_table(rows: Sequence[Mapping[str, Any]], objectives: Sequence[Objective]) -> Table | None:
    """Return how the front does on the test split without each modality; None if that is not known.

    Args:
        rows: Rows of ``front_rows``.
        objectives: Objectives in the rows, see ``History.shown``. The first with a test value is shown.
    """
    objective = next((objective for objective in objectives if objective.tested), None)
    modalities = list(dict.fromkeys(modality for row in rows for modality in row["robustness"]))
    if objective is None or not modalities:
        return None
    name, write = objective.name, quantity_of(objective).cell
    table = _table(f"test {name} without a modality", ["all\npresent", *(f"no\n{m}" for m in modalities)])
    table.add_column("method", no_wrap=True)
    table.add_column("MLflow\nrun id", no_wrap=True)
    for row in rows:
        values = [row[f"test_{name}"], *(row["robustness"].get(m, {}).get(name) for m in modalities)]
        cells = ["-" if value is None else write(value) for value in values]
        table.add_row(*cells, row["config"]["method"], _run_id(row))
    return table


def _table(title: str, headings: Sequence[str], gap: int = _GAP) -> Table:
    table = Table(title=title, title_justify="left", header_style="bold", box=None, padding=(0, gap, 0, 0))
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


@dataclass(frozen=True)
class Figure:
    """A column with the values of an objective.

    Attributes:
        objective: The objective.
        key: Name of the value in a row.
        where: First line of the heading, which names the split or the weights; may be empty.
    """

    objective: Objective
    key: str
    where: str = ""

    @property
    def heading(self) -> str:
        """The heading: one short word in each line, and the unit in the last line."""
        name = self.objective.short or self.objective.name
        words = (self.where, *name.replace("_", " ").split(), quantity_of(self.objective).symbol)
        return "\n".join(word for word in words if word)

    def cell(self, row: Mapping[str, Any]) -> str:
        """Return a row's value as text, with its standard error if it has one.

        Those on the test split are left out, to save width: they are much the same.
        """
        if row.get(self.key) is None:
            return "-"
        write = quantity_of(self.objective).cell
        error = row["standard_error"].get(self.key) if self.key == self.objective.name else None
        shown = write(row[self.key])
        return shown if error is None else f"{shown} ±{write(error).removeprefix('0')}"


def figures_of(rows: Sequence[Mapping[str, Any]], objectives: Sequence[Objective]) -> list[Figure]:
    """Return the columns of the objectives; the number of trained parameters comes last."""
    figures = []
    for objective in objectives:
        name = objective.name
        if objective == PARAMS:
            continue
        if any(_INHERITED + name in row for row in rows):
            figures.append(Figure(objective, _INHERITED + name, "inher."))
        figures.append(Figure(objective, name, "val" if objective.tested else ""))
        if objective.tested and any(row.get(f"test_{name}") is not None for row in rows):
            figures.append(Figure(objective, f"test_{name}", "test"))
    return [*figures, Figure(PARAMS, "trainable_parameters")]


def _run_id(row: Mapping[str, Any]) -> str:
    return (row["run_id"] or "-")[:8]


def settings_line(row: Mapping[str, Any]) -> str:
    """Return a trial's method and settings in one line, the learning rate last."""
    config = row["config"]
    named = {key: value for key, value in config.items() if key not in ("method", "learning_rate")}
    if "learning_rate" in config:
        named["lr"] = config["learning_rate"]
    settings = ", ".join(f"{k}={_written(v)}" for k, v in named.items())
    return f"{_run_id(row)}  {config['method']}: {settings}"


def _written(value: Any) -> str:
    """Return a setting as text; values by layer and modality become ``text 4 2 1 image 8 8 2``."""
    if isinstance(value, Mapping):
        return " ".join(f"{modality} {' '.join(map(str, of))}" for modality, of in value.items())
    return f"{value:g}" if isinstance(value, float) else str(value)


def _cell(key: str, value: Any, depths: Mapping[str, int]) -> str:
    if value is None:
        return "-"
    if key == "n_fusion_layers":
        return "/".join(str(depth - value) for depth in depths.values())
    if isinstance(value, Mapping):  # a value for each layer of each modality
        numbers = [number for of_layers in value.values() for number in of_layers]
        return f"{min(numbers)}" if min(numbers) == max(numbers) else f"{min(numbers)}-{max(numbers)}"
    return f"{value:g}" if isinstance(value, float) else str(value)
