"""Say every table and figure of the papers as commands, beside the figures that the papers print.

    python benchmarks/paper_tables.py --list [PAPER …]
    python benchmarks/paper_tables.py --write

``--list`` prints them, with every command in full. ``--write`` writes them into docs/tasks.md, where words in
capitals stand for the options that recur. Nothing is trained.

Both come from the files of ``papers/``, one a paper. A file has ``title``, ``paper``, ``text``, a table of
``words``, and its ``experiments`` in the paper's order. An experiment has

- ``name`` and ``about``: the paper's name for it, and what it is about; ``also``: where else it is printed;
- ``command``: words, among them ROW, which stands for a row's options; without it, ``text`` says what there
  is instead;
- ``vary``: words of the command, with all that each of them stands for;
- ``columns`` and ``rows``: a row is its name, its options and the printed figures. Options may also be a
  reference that starts with "see"; such a row has no commands of its own. Options are empty if the command
  has no ROW, because it is about all rows.
"""

from __future__ import annotations

import argparse
import itertools
import textwrap
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "papers"
GUIDE = Path(__file__).parent.parent / "docs" / "tasks.md"
#: Heading in the guide below which everything is written by ``--write``.
HEADING = "## The papers' tables and figures\n"
PAPERS = ("pmf", "mope", "wander")

_INTRODUCTION = """
This section is written by `python benchmarks/paper_tables.py --write`. With `--list` it prints all commands
in full. Here, words in capitals stand for options. Each paper's first table says for which, and ROW stands
for what a table's row adds. The figures are the papers'. FOLDER is the path of a dataset in one of the
layouts in which it is published ([data.md](data.md#the-papers-datasets)).
"""


@dataclass(frozen=True)
class Row:
    """A row of a table, or a point or curve of a figure.

    Attributes:
        name: What the paper calls it.
        options: Its options, or a reference that starts with "see".
        printed: The paper's figures, one for each column.
    """

    name: str
    options: str
    printed: tuple[str, ...]

    @property
    def elsewhere(self) -> bool:
        """Whether another experiment has this row's commands."""
        return self.options.startswith("see ")


@dataclass(frozen=True)
class Experiment:
    """A table or a figure; the attributes are those of the files."""

    name: str
    about: str
    also: str = ""
    text: str = ""
    command: str = ""
    vary: Mapping[str, Sequence[str]] = field(default_factory=dict)
    columns: Sequence[str] = ()
    rows: Sequence[Row] = ()

    @property
    def by_row(self) -> bool:
        """Whether each row has commands of its own."""
        return "ROW" in self.command.split()

    @property
    def heading(self) -> str:
        """Name, subject and further places."""
        return f"{self.name}: {self.about}" + (f" (also {self.also})" if self.also else "")


@dataclass(frozen=True)
class Paper:
    """A paper with its experiments; the attributes are those of the files."""

    title: str
    paper: str
    text: str
    words: Mapping[str, str]
    experiments: Sequence[Experiment]

    def commands(self, experiment: Experiment, row: Row | None) -> Iterator[str]:
        """Yield commands in full, one for each combination of what varies.

        Args:
            experiment: One of the experiments.
            row: One of its rows; None yields the commands that are about all rows.
        """
        if not experiment.command or experiment.by_row is (row is None) or (row and row.elsewhere):
            return
        for chosen in itertools.product(*experiment.vary.values()):
            words = {**self.words, **dict(zip(experiment.vary, chosen, strict=True))}
            yield _in_full(experiment.command, {**words, "ROW": row.options} if row else words)


def read(name: str) -> Paper:
    """Return a paper, by the name of its file.

    Raises:
        ValueError: If a row has not one figure for each column.
    """
    document = tomllib.loads((FOLDER / f"{name}.toml").read_text())
    experiments = [_experiment(name, **each) for each in document.pop("experiments")]
    return Paper(experiments=experiments, **document)


def _experiment(paper: str, rows: Sequence[Sequence[str]] = (), **others: Any) -> Experiment:
    read = [Row(name, options, tuple(printed)) for name, options, *printed in rows]
    found = Experiment(rows=read, **others)
    for row in found.rows:
        if len(row.printed) != len(found.columns):
            raise ValueError(f"{paper}, {found.name}, {row.name}: {len(row.printed)} figures")
    return found


def _in_full(text: str, words: Mapping[str, str]) -> str:
    """Return a text with every word replaced by what it stands for."""
    return " ".join(_in_full(words[part], words) if part in words else part for part in text.split())


def listing(paper: Paper) -> str:
    """Return all of a paper's commands with the printed figures, as text."""
    lines = [paper.title, *_indented(paper.text)]
    for experiment in paper.experiments:
        lines += ["", f"{paper.title}, {experiment.heading}", *_indented(experiment.text)]
        lines += [f"    {command}" for command in paper.commands(experiment, None)]
        for row in experiment.rows:
            figures = zip(experiment.columns, row.printed, strict=True)
            lines.append(f"  {row.name}" + "".join(f"; {column} {figure}" for column, figure in figures))
            lines += [f"    {command}" for command in paper.commands(experiment, row)]
            lines += [f"    {row.options}"] if row.elsewhere else []
    return "\n".join(lines) + "\n"


def _indented(text: str) -> list[str]:
    return [textwrap.indent(_paragraph(text).rstrip(), "  ")] if text else []


def section(papers: Sequence[Paper]) -> str:
    """Return the guide's section about papers, from its heading on."""
    parts = [HEADING, "\n", _paragraph(_INTRODUCTION)]
    for paper in papers:
        parts.append(f"\n### {paper.title}\n\n{_paragraph(f'{paper.paper}. {paper.text}')}")
        parts += ["\n", *_table(["word", "stands for"], [(w, f"`{o}`") for w, o in paper.words.items()])]
        for experiment in paper.experiments:
            parts.append(f"\n#### {paper.title}, {experiment.heading}\n")
            parts.append(f"\n{_paragraph(experiment.text)}" if experiment.text else "")
            parts += ["\n", _command(experiment)] if experiment.command else []
            parts += ["\n", *_rows(experiment)] if experiment.rows else []
    return "".join(parts)


def _command(experiment: Experiment) -> str:
    varied = [f"{word}: {', '.join(values)}" for word, values in experiment.vary.items()]
    return "; ".join([f"`{experiment.command}`", *varied]) + "\n"


def _rows(experiment: Experiment) -> list[str]:
    """Return an experiment's rows as a table."""
    if not experiment.by_row:
        return _table(["", *experiment.columns], [(row.name, *row.printed) for row in experiment.rows])
    options = [row.options if row.elsewhere else f"`{row.options}`" for row in experiment.rows]
    cells = [(row.name, text, *row.printed) for row, text in zip(experiment.rows, options, strict=True)]
    return _table(["", "ROW", *experiment.columns], cells)


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [f"| {' | '.join(cells)} |\n" for cells in (columns, *rows)]
    return [lines[0], "|---" * len(columns) + "|\n", *lines[1:]]


def _paragraph(text: str) -> str:
    """Return a text in lines of the guides' length."""
    words = " ".join(text.split())
    return textwrap.fill(words, 120, break_long_words=False, break_on_hyphens=False) + "\n"


def write(guide: Path = GUIDE) -> None:
    """Write the section into the guide, in place of the one that is there."""
    before, _, _ = guide.read_text().partition(HEADING)
    guide.write_text(before + section([read(name) for name in PAPERS]))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--list", nargs="*", choices=PAPERS, metavar="PAPER", help=f"of {', '.join(PAPERS)}")
    what.add_argument("--write", action="store_true", help="write docs/tasks.md")
    arguments = parser.parse_args()
    if arguments.write:
        write()
    else:
        print("\n".join(listing(read(name)) for name in arguments.list or PAPERS), end="")


if __name__ == "__main__":
    main()
