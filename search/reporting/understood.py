"""What a dataset is understood to be, in the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from trainables.data import SPLITS
from trainables.data.understood import Column, Labels, Understood
from trainables.errors import printable

#: Files and columns that are named, and classes that are shown: the largest, and the smallest.
_FILES, _COLUMNS = 6, 20
_LARGEST, _SMALLEST = 5, 3

_BAR = 12  # length of the longest bar, in characters
_LETTERS = 28  # of a class's name


def print_understood(found: Understood, console: Console) -> None:
    """Print what a dataset is understood to be."""
    kind, rows = found.format or "included", sum(found.rows.values())
    title = Text.assemble((printable(found.dataset), "bold"), f", {kind}, {rows:,} rows")
    console.print(title, soft_wrap=True)
    page = Table.grid(padding=(0, 2, 1, 0))
    page.add_column(style="bold", no_wrap=True)
    page.add_column(overflow="fold")
    if found.format:
        page.add_row("files", _text([_files(found.files)]))
    page.add_row("rows", _rows_table(found))
    for name, column in found.modalities.items():
        page.add_row(Text(name), _text(_on_column(name, column)))
    page.add_row("label", Group(*_on_labels(found.labels)))
    if found.unused:
        page.add_row("not used", _text([_columns(found.unused)]))
    if found.notes:
        page.add_row("notes", _text(found.notes))
    if found.warnings:
        page.add_row(Text("warnings", style="yellow"), _text(found.warnings))
    console.print()
    console.print(page)


def _text(lines: Sequence[str] | Iterator[str]) -> Text:
    return Text("\n".join(map(printable, lines)))


def _files(files: Mapping[str, int]) -> str:
    shown = [f"{name} ({rows:,})" for name, rows in [*files.items()][:_FILES]]
    more = [f"{len(files) - _FILES:,} more files"] if len(files) > _FILES else []
    return ", ".join(shown + more)


def _columns(names: Sequence[str]) -> str:
    more = [f"{len(names) - _COLUMNS:,} more"] if len(names) > _COLUMNS else []
    return ", ".join([*names[:_COLUMNS], *more])


def _rows_table(found: Understood) -> Table:
    """Return how many rows splits have, and in how many of them something is missing or there before."""
    table = _table("", *SPLITS)
    table.add_row("all", *(f"{found.rows[split]:,}" for split in SPLITS))
    for name, column in found.modalities.items():
        counts: dict[str, Mapping[str, int]] = {
            "missing": column.missing,
            "empty": column.empty,
            "repeated": column.repeated,
        }
        for split in SPLITS[:-1]:
            counts[f"in {split}, too"] = {s: n[split] for s, n in column.across.items() if split in n}
        for what, by_split in counts.items():
            if any(by_split.values()):
                table.add_row(
                    Text(f"{name} {what}"), *(f"{by_split[s]:,}" if s in by_split else "" for s in SPLITS)
                )
    return table


def _on_column(name: str, column: Column) -> Iterator[str]:
    """Yield lines on a modality."""
    kind = "" if column.kind == name else f"{column.kind} in "
    yield f"{kind}column '{column.column}': {column.distinct:,} different"
    sizes = column.sizes
    if column.kind == "image" and sizes:
        yield f"pixels: {_percentiles(sizes['width'], sizes['height'])}"
    elif column.kind == "audio" and sizes:
        yield f"seconds: {_percentiles(sizes['seconds'])}"
    elif column.kind == "features" and sizes:
        yield f"vectors of {sizes['numbers']['50']:.0f} numbers: {_percentiles(sizes['vectors'])}"
    if column.side is not None:
        yield f"a search makes squares of {column.side} pixels of them"
    if column.tokens is not None:
        tokens = column.tokens
        yield f"tokens of {tokens.encoder}: {_percentiles(tokens.lengths)}; {_share(tokens.unknown)} unknown"
        yield f"a search cuts them to {tokens.length} tokens; {_share(tokens.cut)} are longer"
    if column.without_encoder is not None:
        yield f"what depends on the encoder is left out: {column.without_encoder}"


def _on_labels(labels: Labels) -> Iterator[RenderableType]:
    """Yield what is to be shown of labels."""
    column = "" if labels.column is None else f"column '{labels.column}': "
    yield _text([f"{column}{labels.in_words} ({labels.decided})"])
    for what, names in (("in no training row", labels.never_in_train), ("in train only", labels.train_only)):
        if names:
            more = f" and {len(names) - _LARGEST:,} more" if len(names) > _LARGEST else ""
            yield _text([f"{what}: {', '.join(names[:_LARGEST])}{more}"])
    if labels.counts is not None:
        yield _classes_table(labels.counts)
    elif labels.range is not None:
        yield _range_table(labels.range)


def _classes_table(counts: Mapping[str, Mapping[str, int]]) -> Table:
    """Return the rows of the largest and the smallest classes, with bars for train."""
    train = counts[SPLITS[0]]
    order = sorted(train, key=lambda name: -train[name])
    many = len(order) > _LARGEST + _SMALLEST + 1
    table = _table("", *counts, " ")
    longest = max(train.values()) or 1
    for place, name in enumerate([*order[:_LARGEST], *order[-_SMALLEST:]] if many else order):
        if many and place == _LARGEST:
            table.add_row(f"{len(order) - _LARGEST - _SMALLEST:,} more", style="dim")
        bar = Text("█" * round(_BAR * train[name] / longest), style="blue")
        short = name if len(name) <= _LETTERS else f"{name[: _LETTERS - 1]}…"
        table.add_row(_text([short]), *(f"{of_split[name]:,}" for of_split in counts.values()), bar)
    return table


def _range_table(ranges: Mapping[str, Sequence[Sequence[float]]]) -> Table:
    """Return least, mean and largest of the number to predict by split, or of several numbers in train."""
    table = _table("", "least", "mean", "largest")
    train = ranges[SPLITS[0]]
    rows = {split: of_split[0] for split, of_split in ranges.items()}
    if len(train) > 1:
        rows = {f"number {place}": of_number for place, of_number in enumerate(train[:_LARGEST], 1)}
    for name, values in rows.items():
        table.add_row(name, *(f"{value:.4g}" for value in values))
    if len(train) > _LARGEST:
        table.add_row(f"{len(train) - _LARGEST:,} more", style="dim")
    return table


def _table(first: str, *others: str) -> Table:
    table = Table(header_style="dim", box=None, padding=(0, 2, 0, 0))
    table.add_column(first, overflow="fold")
    for name in others:
        table.add_column(name, justify="right" if name.strip() else "left", no_wrap=True)
    return table


def _percentiles(*sizes: Mapping[str, float]) -> str:
    """Return percentiles in words, of one size or of the sides of rectangles."""
    shown = {percentage: " x ".join(f"{size[percentage]:.4g}" for size in sizes) for percentage in sizes[0]}
    if len({*shown.values()}) == 1:
        return f"{shown['50']} in nearly all"
    names = {"5": "5 % at most", "50": "half at most", "95": "95 % at most", "99": "99 % at most"}
    return ", ".join(f"{names[percentage]} {size}" for percentage, size in shown.items())


def _share(share: float) -> str:
    """Return a share in percent."""
    return "none" if not share else f"{100 * share:.1f} %" if share >= 0.001 else "under 0.1 %"
