"""The description of a search's run in MLflow: what was found, and what can be done with it, in Markdown."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from search.config import SearchConfig
from search.exporting.commands import commands_of
from search.goals.objectives import Objective
from search.goals.quantities import quantity_of
from search.invocation import program
from search.records.place import Place
from search.records.status import Status
from search.reporting.origin import versions
from search.reporting.rows import method_rows, probe_row
from search.reporting.tables import Figure, chance, figures_of, probe_lines
from search.setup import Setup

#: What is between these lines is ours; MLflow's pages do not show them.
BEGIN, END = "<!-- paretofuse -->", "<!-- /paretofuse -->"
#: Characters of a note that servers of every version take, and those that MLflow now takes of a tag.
LONGEST, _LONGEST_TAG = 5000, 8000
#: Tables of the front and of methods are cut to these numbers of rows, until the note is short enough.
_ROWS = (40, 30, 20, 15, 10, 6, 3, 1)

#: What is between two cells: MLflow's pages put columns close together.
_GAP = "&nbsp; | "
_WIDTH = 100  # characters of a command in a line

#: Returns the address of a trial's run, as a page of MLflow links to it; None if there is no run.
Link = Callable[[str], str | None]


@dataclass(frozen=True)
class Note:
    """What the description of a search's run says.

    Attributes:
        verdict: What the front means, in a sentence, or None.
        standing: What was done, in a sentence.
        objectives: Objectives of the rows.
        front: Rows of the front, see ``front_rows``.
        methods: Rows of the best trial of each method, see ``method_rows``.
        probe: What the probes found, in lines.
        place: Where the search is.
        go_on: The command that goes on with the search.
        best: The member of the front that is best in what is learnt, or None.
        commands: What to type to use it, see ``commands_of``.
        facts: Dataset, task and versions, in lines.
    """

    verdict: str | None
    standing: str
    objectives: Sequence[Objective]
    front: Sequence[Mapping[str, Any]]
    methods: Sequence[Mapping[str, Any]]
    probe: Sequence[str]
    place: Place
    go_on: str
    best: Mapping[str, Any] | None
    commands: Mapping[str, str]
    facts: Sequence[str]

    @classmethod
    def of(
        cls, setup: Setup, front: Sequence[Mapping[str, Any]], verdict: str | None, *, interrupted: bool
    ) -> Note:
        """Return the note of a search that ends.

        Args:
            setup: The search's settings and history.
            front: Rows of the front.
            verdict: What the front means, or None.
            interrupted: Whether the search was interrupted.
        """
        history, place = setup.history, setup.config.place
        objective, probe = history.trained_objective, probe_row(history)
        best = min(front, key=lambda row: objective.loss(row[objective.name]), default=None)
        finished, infeasible = len(history.by_status(Status.FINISHED)), len(history.infeasible)
        counts = [f"{finished} trial{'s' * (finished != 1)} finished"]
        counts += [f"{infeasible} over budget, never started"] if infeasible else []
        counts += ["interrupted"] if interrupted else []
        seeds = setup.config.search.seeds
        more = "--num-samples +10" if setup.config.configuration.method is None else f"--seeds {seeds + 2}"
        return cls(
            verdict=verdict,
            standing=f"{'; '.join(counts)}; hypervolume {history.hypervolume():.3f}",
            objectives=history.shown,
            front=front,
            methods=method_rows(history),
            probe=probe_lines(probe, history.shown) if probe is not None else (),
            place=place,
            go_on=place.resume_command if interrupted else f"{place.resume_command} {more}",
            best=best,
            commands=_commands(best, setup.config) if best is not None else {},
            facts=tuple(_facts(setup)),
        )

    def render(self, link: Link) -> str:
        """Return the Markdown, of at most 5,000 characters; long tables are cut to fit."""
        texts = (self._text(link, rows) for rows in _ROWS)
        fitting = (text for text in texts if len(text) <= LONGEST)
        return next(fitting, f"{BEGIN}\n{self.verdict or self.standing}\n{END}")

    def merged(self, there: str, link: Link) -> str | None:
        """Return a run's description with this note in the place of an earlier one.

        What users have written before or after it stays.

        Args:
            there: The description that is there.
            link: Returns the address of a trial's run.

        Returns:
            The description; None if users have written so much that there is no room for the note.
        """
        before, begun, rest = there.partition(BEGIN)
        _, ended, after = rest.partition(END)
        if not (begun and ended):  # there was no note, or an earlier version's, which was the verdict alone
            before, after = ("", "") if there.strip() == self.verdict else (f"{there}\n\n" * bool(there), "")
        whole = f"{before}{self.render(link)}{after}"
        return whole if len(whole) <= _LONGEST_TAG else None

    def _text(self, link: Link, rows: int) -> str:
        parts = [BEGIN, *([f"**{self.verdict}**"] if self.verdict else []), self.standing]
        if self.front:
            figures = figures_of(self.front, self.objectives)
            parts += ["**Front**", _table(self.front, figures, link, rows, {"p front": _chance})]
        parts += ["**Go on**", _code(self.go_on), *self._usage()]
        if len(self.methods) > 1:
            ordered = sorted(self.objectives, key=lambda objective: objective.known)
            figures = figures_of(self.methods, ordered)
            columns = {"trials": _trials, "on the front": _on_front}
            parts += ["**Best of each method**", _table(self.methods, figures, link, rows, columns)]
        if self.probe:
            parts += ["**Probe**", "\n".join(f"- {line}" for line in self.probe)]
        parts += ["**Data and versions**", "\n".join(f"- {line}" for line in self.facts), END]
        return "\n\n".join(parts)

    def _usage(self) -> Iterator[str]:
        """Yield how to see the report, and how to use the best member."""
        yield "**Report**: `report.html` in the search's folder, made again by"
        yield _code(f"{program()} report {self.place.argument}")
        if self.best is None:
            return
        objective = next(o for o in self.objectives if not o.known)
        value = quantity_of(objective).cell(self.best[objective.name])
        yield f"**Use {self.best['config']['method']}**, the best in {objective.name} ({value})"
        for name, language in (("load", "python"), ("serve", "sh"), ("export", "sh"), ("train", "sh")):
            if name in self.commands:
                yield _code(self.commands[name], language)


def _commands(row: Mapping[str, Any], config: SearchConfig) -> dict[str, str]:
    try:
        return commands_of(row, config)
    except Exception:  # the rest of the note is of use without them, and the search has to end
        return {}


def _facts(setup: Setup) -> Iterator[str]:
    material = setup.backend.material
    rows = ", ".join(f"{count:,} {split}" for split, count in material.rows.items())
    yield f"dataset `{material.dataset}`, fingerprint `{material.fingerprint}`: {rows}"
    yield f"task: {setup.backend.task.in_words()}; space: {setup.config.search.space}"
    yield ", ".join(f"{name} {number}" for name, number in versions().items())


def _table(
    rows: Sequence[Mapping[str, Any]],
    figures: Sequence[Figure],
    link: Link,
    most: int,
    further: Mapping[str, Callable[[Mapping[str, Any]], str]],
) -> str:
    """Return rows as a table, with columns for figures and others, the method, and a link to the run."""
    columns: dict[str, Callable[[Mapping[str, Any]], str]] = {
        figure.heading.replace("\n", " "): figure.cell for figure in figures
    }
    columns |= further
    lines = [
        f"| {_GAP.join(columns)}{_GAP}method{_GAP}run |",
        f"|{'---:|' * len(columns)}:---|:---|",
        *(
            f"| {_GAP.join(cell(row) for cell in columns.values())}{_GAP}{row['config']['method']}{_GAP}"
            f"{_linked(row, link)} |"
            for row in rows[:most]
        ),
    ]
    if len(rows) > most:
        lines.append(f"\nand {len(rows) - most} more, see the artifacts")
    return "\n".join(lines)


def _linked(row: Mapping[str, Any], link: Link) -> str:
    address = link(row["trial_id"])
    return row["trial_id"] if address is None else f"[{row['trial_id']}]({address})"


def _chance(row: Mapping[str, Any]) -> str:
    return chance(row["p_front"])


def _trials(row: Mapping[str, Any]) -> str:
    return str(row["trials"])


def _on_front(row: Mapping[str, Any]) -> str:
    return "yes" if row["on_front"] else ""


def _code(text: str, language: str = "sh") -> str:
    text = _folded(text) if language == "sh" else text
    return f"```{language}\n{text}\n```"


def _folded(command: str) -> str:
    """Return a command in lines of a page's width; one long line would widen the whole description."""
    lines = [""]
    for word in map(shlex.quote, shlex.split(command)):
        if len(lines[-1]) + len(word) > _WIDTH:
            lines.append(" ")
        lines[-1] += f" {word}" if lines[-1] else word
    return " \\\n".join(lines)
