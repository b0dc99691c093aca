"""The front as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from search.goals.objectives import Objective
from search.goals.quantities import quantity_of
from search.pictures import new_figure
from search.records.history import PROBE, History, TrialRecord
from search.reporting.rows import standard_errors, test_values

_COLOURS = {"front": "#0b6e4f", "trial": "#9aa5b1", "limit": "#b23a48", "probe": "#c77700"}


def plot_front(history: History, path: Path, title: str) -> None:
    """Draw all finished trials and the probes over the first two objectives; steps join the front.

    Diamonds are probes, and those on the front are filled. A dotted line shows what the probe of all
    modalities reaches.

    Bars at the front's members are standard errors. The less likely a member is really on the front, the
    fainter it is. If the x axis has an upper bound that is checked before training, it is drawn as a line.

    Args:
        history: The search's trials.
        path: PNG (or SVG, PDF) file to write.
        title: Title above the axes.
    """
    import matplotlib

    x, y = (*history.objectives, *history.objectives)[:2]
    figure, axes = new_figure(6.4, 4.0)
    whole = history.front()
    front = [record for record in whole if record.kind != PROBE]
    rest = [record for record in history.configurations() if record not in front]
    methods = list(dict.fromkeys(r.config["method"] for r in (*front, *rest)))
    mixed = len(methods) > 1
    colours = {method: matplotlib.colormaps["tab20"](i % 20) for i, method in enumerate(methods)}

    def points(records: list[TrialRecord], values: str, label: str | None, **style: Any) -> None:
        shown = [test_values(r, history) if values == "test" else history.values(r) for r in records]
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
                members,
                "validation",
                None,
                s=52,
                color=[_faint(colours[method], member) for member in members],
                edgecolors=[_faint("black", member) for member in members],
            )
            axes.scatter([], [], s=30, color=[colours[method]], label=method)
    else:
        points(rest, "validation", "dominated trials", s=26, color=_COLOURS["trial"])
        faint = [_faint(_COLOURS["front"], member) for member in front]
        points(front, "validation", None, s=46, color=faint)
        axes.scatter([], [], s=46, color=_COLOURS["front"], label="front (validation)")
    if len(history.objectives) == 2:
        ordered = sorted(whole, key=lambda r: history.values(r)[x.name])
        axes.step(
            [history.values(r)[x.name] for r in ordered],
            [history.values(r)[y.name] for r in ordered],
            where="post" if x.direction == "minimize" else "pre",
            color=_COLOURS["front"],
            linewidth=1.2,
            zorder=2,
            label="front (validation)" if mixed else None,
        )
    for record in whole:
        error = standard_errors(record, history).get(y.name)
        if error is not None:
            centre = history.values(record)
            axes.errorbar(
                centre[x.name],
                centre[y.name],
                error,
                color=_faint(_COLOURS["front"], record),
                capsize=2,
                lw=1,
            )
    _draw_probes(axes, history, x, y)
    tested = [r for r in whole if y.name in test_values(r, history)]
    if tested:
        points(tested, "test", "front (test)", s=40, facecolors="none", edgecolors=_COLOURS["front"])
    budgets = [c.bound for c in history.constraints if c.is_budget and c.name == x.name]
    if budgets:
        axes.axvline(min(budgets), color=_COLOURS["limit"], linestyle="--", linewidth=1, label="budget")
    axes.set_xlabel(_axis(x))
    axes.set_ylabel(_axis(y))
    axes.set_title(title, fontsize=10)
    axes.grid(alpha=0.25)
    if mixed:
        axes.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0)
    else:
        axes.legend(fontsize=8, loc="best")
    figure.tight_layout()
    figure.savefig(path)


def _faint(colour: Any, member: TrialRecord) -> Any:
    """Return a colour as opaque as a member of the front is likely to be there, and never invisible."""
    from matplotlib.colors import to_rgba

    likely = None if member.luck is None else member.luck.p_front
    return to_rgba(colour, 1.0 if likely is None else 0.25 + 0.75 * likely)


def _draw_probes(axes: Any, history: History, x: Objective, y: Objective) -> None:
    """Draw the probes as diamonds with their names, and a line at the value of the one of all modalities."""
    front = history.front()
    colour = _COLOURS["probe"]
    for number, probe in enumerate(history.probes.values()):
        if not {x.name, y.name} <= probe.values.keys():
            continue
        at = probe.values[x.name], probe.values[y.name]
        inside = colour if probe in front else "none"
        axes.scatter(*at, s=48, marker="D", facecolors=inside, edgecolors=colour, zorder=4)
        beside = 5, (-9, 5)[number % 2]  # those of two modalities are often at one place
        axes.annotate(probe.trial_id, at, xytext=beside, textcoords="offset points", fontsize=7, color=colour)
        if probe.trial_id == PROBE and not y.known:
            axes.axhline(at[1], color=colour, linestyle=":", linewidth=1, zorder=1)


def _axis(objective: Objective) -> str:
    title, symbol = objective.title or objective.name, quantity_of(objective).symbol
    return f"{title} ({symbol})" if symbol else title
