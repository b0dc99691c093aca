"""Commands that list methods, spaces, data sets and encoders."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from search.cli.options import Given, Output, takes
from search.cli.printing import print_json, print_list
from search.cli.waiting import waiting
from search.config import EncoderSettings, Extensions
from trainables.cache.memo import Memo
from trainables.errors import UserError, unknown

#: What lists are made from: all methods, encoders and spaces, and this module.
_SOURCES = (*(Path(__file__).parents[2] / name for name in ("trainables", "spaces")), Path(__file__))


@takes(Output, Extensions)
def methods(
    given: Given,
    name: Annotated[
        str | None, typer.Argument(help="Show one method, and explain its settings.", show_default=False)
    ] = None,
) -> None:
    """List the fusion methods and their settings."""
    rows = _remembered(given, "methods", lambda: _methods(given))
    if name is not None:
        known = {row["name"]: row for row in rows}
        if name not in known:
            raise unknown("method", name, known)
        rows = [known[name]]
    as_json = given.make(Output).as_json
    if as_json or name is None:
        print_list(rows, as_json, {"settings": lambda row: ", ".join(row["settings"]) or "-"})
        return
    console = Console(highlight=False)
    console.print(f"[bold]{name}[/bold]  {rows[0]['description']}\n{rows[0]['source']}", soft_wrap=True)
    for key, setting in rows[0]["settings"].items():
        default = json.dumps(setting["default"]).strip('"').replace("null", "none")
        shown = f"    {key} = {default}{_accepted(setting)}\n        {setting['help']}"
        console.print(shown, markup=False, soft_wrap=True)


@takes(Output, Extensions, EncoderSettings, without=("image_size", "pooling"))
def spaces(
    given: Given,
    name: Annotated[str | None, typer.Argument(help="Show one space.", show_default="all")] = None,
) -> None:
    """List the spaces, with the ranges of their parameters and the points they try first."""
    rows = _remembered(given, f"spaces {name or ''}", lambda: _spaces(given, name))
    if given.make(Output).as_json:
        print_json(rows)
        return
    console = Console(highlight=False)
    for row in rows:
        console.print(f"[bold]{row['name']}[/bold]  {row['description']}", soft_wrap=True)
        # A union has the parameters of its methods, which are listed with each method's own space.
        own = {key: value for key, value in row["parameters"].items() if name or "." not in key}
        for key, value in own.items():
            console.print(f"    {key:<28}{_range(value)}", soft_wrap=True)
        if len(own) < len(row["parameters"]):
            console.print("    then the method's own parameters, from its first point on\n")
            continue
        for point in row["first_points"]:
            values = ", ".join(f"{key}={value}" for key, value in point.items())
            console.print(f"    first: {values}", style="dim", soft_wrap=True)
        console.print()


@takes(Output)
def datasets(given: Given) -> None:
    """List the included datasets; a search takes files and folders of your own, too."""
    with waiting("loading PyTorch"):
        from trainables.data import DATASETS, SPLITS, open_dataset

    rows = []
    for name, included in DATASETS.items():
        row: dict[str, Any] = {"name": name, "description": included.description, "rows": None}
        if included.is_here():
            opened = open_dataset(name)
            row |= {
                "task": opened.task.name,
                "modalities": sorted(opened.modalities),
                **opened.task.summary(),
                "rows": {split: opened.count(split) for split in SPLITS},
            }
        rows.append(row)

    def counts(row: dict[str, Any]) -> str:
        return " / ".join(f"{n:,}" for n in row["rows"].values()) if row["rows"] else "fetched at first use"

    print_list(rows, given.make(Output).as_json, {"rows": counts})


@takes(Output)
def encoders(given: Given) -> None:
    """List the bundled encoders and the architectures; hub names and local folders work too."""
    print_list(_remembered(given, "encoders", _encoders), given.make(Output).as_json)


def _remembered(given: Given, what: str, make: Callable[[], list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Return a list that is made once for a version of the program, because that imports PyTorch.

    Args:
        given: The command's options. With any that changes the list, nothing is remembered, because what
            plugins and folders hold may change at any time.
        what: The list's name.
        make: Makes the list.
    """
    if given.values.keys() - {option.name for option in Output.options()}:
        return make()
    try:
        memo = Memo(_SOURCES, ("transformers",))
    except UserError:  # there is no place for a cache
        return make()
    document = memo.get(what)
    if document is None:
        document = {"rows": make()}
        memo.put(what, document)
    rows: list[dict[str, Any]] = document["rows"]
    return rows


def _methods(given: Given) -> list[dict[str, Any]]:
    with waiting("loading PyTorch"):
        from trainables.methods import METHODS

        given.make(Extensions).load()
    return [
        {
            "name": spec.name,
            "description": spec.description,
            "source": spec.source,
            "settings": {
                f.name: {"default": f.default, **{k: v for k, v in f.metadata.items() if k != "other"}}
                for f in dataclasses.fields(spec.config_class)
            },
        }
        for spec in METHODS.values()
    ]


def _spaces(given: Given, name: str | None) -> list[dict[str, Any]]:
    with waiting("loading PyTorch and the encoders"):
        from spaces import SPACES, SpaceContext, get_space
        from trainables.towers import resolve_encoders

        given.make(Extensions).load()
        chosen = [get_space(name)] if name else list(SPACES.values())
        context = SpaceContext.of(resolve_encoders(given.make(EncoderSettings).names))
    return [
        {
            "name": space.name,
            "description": space.description,
            "parameters": {key: asked.to_dict() for key, asked in space.parameters(context).items()},
            "first_points": space.first_points(context),
        }
        for space in chosen
    ]


def _encoders() -> list[dict[str, Any]]:
    with waiting("loading PyTorch"):
        from trainables.towers import ARCHITECTURES, BUNDLED, FAMILIES

    rows = [
        {"name": encoder.name, "modality": encoder.modality, "description": encoder.description}
        for encoder in BUNDLED.values()
    ] + [
        {
            "name": f"arch:{name}",
            "modality": FAMILIES[known.model_type].kind,
            "description": f"{known.description}; without weights, for `predict`",
        }
        for name, known in ARCHITECTURES.items()
    ]
    rows += [
        {
            "name": "bow:NAME",
            "modality": "text",
            "description": "the word embeddings alone of a text encoder, averaged",
        },
        {
            "name": "features:dim=N",
            "modality": "features",
            "description": "a new transformer over extracted features; also width, depth, heads, max_length",
        },
    ]
    return rows


def _range(parameter: dict[str, Any]) -> str:
    if parameter["type"] == "categorical":
        return ", ".join(map(str, parameter["choices"]))
    scale = " (log)" if parameter["log"] else ""
    step = f" in steps of {parameter['step']}" if parameter["step"] not in (None, 1) else ""
    return f"{parameter['low']} to {parameter['high']}{step}{scale}"


def _accepted(setting: dict[str, Any]) -> str:
    if setting["choices"]:
        return f"  ({', '.join(map(str, setting['choices']))})"
    low, high = setting["low"], setting["high"]
    if low is None and high is None:
        return ""
    return f"  (at least {low})" if high is None else f"  ({low} to {high})"
