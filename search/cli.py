"""The command line. No logic here: it parses, calls the API and prints."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from search.units import format_size, parse_duration, parse_size
from trainables.errors import UserError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help=(
        "Find the Pareto front of training memory against accuracy for multimodal fusion.\n\n"
        "[bold]python search.py --space pmf_nas[/bold] searches the included image-text data with the "
        "included encoders. Results go to MLflow ([bold]mlflow ui --backend-store-uri "
        "sqlite:///mlflow.db[/bold]) and to runs/NAME.\n\n"
        "Only want to know what a configuration costs? [bold]python search.py predict --help[/bold]"
    ),
)

#: Typer carries its own copy of click; this is the base of all its complaints about arguments.
_UsageError: Any = typer.BadParameter.__base__


class Sampler(StrEnum):
    """Samplers, as the command line offers them."""

    tpe = "tpe"
    nsga2 = "nsga2"
    random = "random"


_SEARCH, _TRIALS, _MODEL, _PLACES = "Search", "Trials", "Data and encoders", "Where"
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print one JSON document on standard output, all else on stderr.")
]
PluginOption = Annotated[
    list[str] | None,
    typer.Option(
        "--plugin", metavar="FILE", help="Python file with methods or spaces of your own; may be repeated."
    ),
]


@app.callback(invoke_without_command=True)
def search(
    context: typer.Context,
    space: Annotated[
        str | None, typer.Option(help="Space to search; `spaces` lists them.", rich_help_panel=_SEARCH)
    ] = None,
    objectives: Annotated[
        str,
        typer.Option(
            help="Comma-separated: memory, accuracy, macro_f1, loss, params.", rich_help_panel=_SEARCH
        ),
    ] = "memory,accuracy",
    sampler: Annotated[
        Sampler,
        typer.Option(
            help="tpe learns from the first few trials on; nsga2 wants hundreds; random is the yardstick.",
            rich_help_panel=_SEARCH,
        ),
    ] = Sampler.tpe,
    num_samples: Annotated[int, typer.Option(help="Trials to run.", rich_help_panel=_SEARCH)] = 20,
    max_memory: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            help="Budget, e.g. 3GiB: candidates predicted above it are never started.",
            rich_help_panel=_SEARCH,
        ),
    ] = None,
    time_budget: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Stop training after e.g. 30m or 2h.", rich_help_panel=_SEARCH),
    ] = None,
    seed: Annotated[
        int, typer.Option(help="Seed of the sampler and of every trial.", rich_help_panel=_SEARCH)
    ] = 0,
    epochs: Annotated[int, typer.Option(help="Epochs a trial trains.", rich_help_panel=_TRIALS)] = 5,
    batch_size: Annotated[
        int, typer.Option(help="Samples an optimisation step.", rich_help_panel=_TRIALS)
    ] = 32,
    precision: Annotated[
        str, typer.Option(help="fp32, or bf16 for bfloat16 autocast.", rich_help_panel=_TRIALS)
    ] = "fp32",
    attention: Annotated[
        str, typer.Option(help="Attention kernel: eager or sdpa.", rich_help_panel=_TRIALS)
    ] = "eager",
    encoder_dropout: Annotated[
        bool,
        typer.Option(help="Dropout in frozen layers that the gradient crosses.", rich_help_panel=_TRIALS),
    ] = True,
    optimizer: Annotated[str, typer.Option(help="adamw or sgd.", rich_help_panel=_TRIALS)] = "adamw",
    augment: Annotated[
        str,
        typer.Option(
            help="none, flip or shift-flip (images of the training split).", rich_help_panel=_TRIALS
        ),
    ] = "none",
    feature_cache: Annotated[
        bool,
        typer.Option(
            help="Compute the frozen lower layers' output once and share it.", rich_help_panel=_TRIALS
        ),
    ] = True,
    feature_cache_size: Annotated[
        str, typer.Option(metavar="SIZE", help="Most disk it may take.", rich_help_panel=_TRIALS)
    ] = "8GiB",
    dataset: Annotated[
        str,
        typer.Option(help="Included dataset, or a folder of Parquet files.", rich_help_panel=_MODEL),
    ] = "openclipart",
    text_encoder: Annotated[
        str, typer.Option(help="Bundled name, hub name or local folder.", rich_help_panel=_MODEL)
    ] = "minilm",
    image_encoder: Annotated[
        str, typer.Option(help="Bundled name, hub name or local folder.", rich_help_panel=_MODEL)
    ] = "dinov2-small",
    text_length: Annotated[
        int | None,
        typer.Option(
            help="Tokens a text is cut or padded to.",
            show_default="fits 99 % of the texts",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    image_size: Annotated[
        int | None,
        typer.Option(
            help="Pixels a side.",
            show_default="the encoder's own",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(help="Name of the search.", show_default="space and time", rich_help_panel=_PLACES),
    ] = None,
    storage_path: Annotated[
        str,
        typer.Option(help="Folder, or s3://… on a cluster, for results.", rich_help_panel=_PLACES),
    ] = "runs",
    tracking_uri: Annotated[
        str, typer.Option(help="MLflow server or database.", rich_help_panel=_PLACES)
    ] = "sqlite:///mlflow.db",
    experiment: Annotated[
        str, typer.Option(help="MLflow experiment.", rich_help_panel=_PLACES)
    ] = "paretofuse",
    address: Annotated[
        str | None,
        typer.Option(
            help="Ray cluster to join; 'auto' on one of its nodes.",
            show_default="start Ray here",
            rich_help_panel=_PLACES,
        ),
    ] = None,
    max_concurrent: Annotated[
        int | None,
        typer.Option(help="Trials at once.", show_default="as many as fit", rich_help_panel=_PLACES),
    ] = None,
    gpus_per_trial: Annotated[
        float | None,
        typer.Option(
            help="GPUs a trial asks for; give it where GPU nodes are started on demand.",
            show_default="1 where there are any",
            rich_help_panel=_PLACES,
        ),
    ] = None,
    plugin: PluginOption = None,
    as_json: JsonOption = False,
) -> None:
    """Search a space."""
    if context.invoked_subcommand is not None:
        return
    if space is None:
        raise UserError("--space is missing; `python search.py spaces` lists the spaces")
    from search.config import SearchConfig

    config = SearchConfig(
        space=space,
        dataset=dataset,
        text_encoder=text_encoder,
        image_encoder=image_encoder,
        objectives=tuple(name.strip() for name in objectives.split(",") if name.strip()),
        sampler=sampler.value,
        num_samples=num_samples,
        epochs=epochs,
        batch_size=batch_size,
        text_length=text_length,
        image_size=image_size,
        precision=precision,
        attention=attention,
        encoder_dropout=encoder_dropout,
        optimizer=optimizer,
        max_memory=None if max_memory is None else parse_size(max_memory),
        max_concurrent=max_concurrent,
        gpus_per_trial=gpus_per_trial,
        time_budget=None if time_budget is None else parse_duration(time_budget),
        feature_cache=feature_cache,
        feature_cache_size=parse_size(feature_cache_size),
        augment=augment,
        seed=seed,
        name=name,
        storage_path=storage_path,
        tracking_uri=tracking_uri,
        experiment=experiment,
        plugins=tuple(plugin or ()),
        address=address,
    )
    from search.runner import run_search

    with _stdout_kept_for_json(as_json):
        result = run_search(config)
    if as_json:
        _print_json(result.to_dict())
    else:
        _print_result(result, config.tracking_uri)
    if result.interrupted:
        raise typer.Exit(130)
    if not result.trials:
        raise typer.Exit(1)


@app.command()
def predict(
    method: Annotated[str, typer.Option(help="Method; `methods` lists them.")] = "pmf",
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="A setting of the method; may be repeated."),
    ] = None,
    text_encoder: Annotated[
        str, typer.Option(help="As for a search, or an architecture: arch:bert-base, arch:bert-large.")
    ] = "minilm",
    image_encoder: Annotated[
        str, typer.Option(help="As for a search, or an architecture: arch:vit-base, arch:vit-large.")
    ] = "dinov2-small",
    encoder: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODALITY=NAME",
            help="Encoder of any modality, e.g. audio=arch:whisper-tiny; may be repeated, and replaces "
            "--text-encoder and --image-encoder.",
        ),
    ] = None,
    classes: Annotated[int, typer.Option(help="Classes to tell apart.")] = 13,
    batch_size: Annotated[int, typer.Option(help="Samples an optimisation step.")] = 32,
    text_length: Annotated[int, typer.Option(help="Tokens a text is padded to.")] = 128,
    image_size: Annotated[
        int | None, typer.Option(help="Pixels a side.", show_default="the encoder's own")
    ] = None,
    audio_seconds: Annotated[float, typer.Option(help="Length of a sound.")] = 5.0,
    feature_length: Annotated[int, typer.Option(help="Vectors of a sequence of extracted features.")] = 50,
    precision: Annotated[str, typer.Option(help="fp32, or bf16 for bfloat16 autocast.")] = "fp32",
    attention: Annotated[str, typer.Option(help="Attention kernel: eager or sdpa.")] = "eager",
    encoder_dropout: Annotated[
        bool, typer.Option(help="Dropout in frozen layers that the gradient crosses.")
    ] = True,
    optimizer: Annotated[str, typer.Option(help="adamw or sgd.")] = "adamw",
    plugin: PluginOption = None,
    as_json: JsonOption = False,
) -> None:
    """Predict the training memory of one configuration, without training it and without a GPU.

    The peak of one optimisation step in bytes, found by running the real model on tensors without content.
    """
    from trainables.memory import MemoryPredictor
    from trainables.methods import get_method
    from trainables.setting import TrainingSetting
    from trainables.towers import resolve_encoder

    if classes < 2:
        raise UserError(f"--classes {classes}: must be at least 2")
    _load_plugins(plugin)
    method_config = get_method(method).config_class.from_dict(
        _assignments("--set", settings or [], "n_fusion_layers=2")
    )
    names = {"text": text_encoder, "image": image_encoder}
    if encoder:
        names = _assignments("--encoder", encoder, "audio=arch:whisper-tiny")
    encoders = {modality: resolve_encoder(modality, name) for modality, name in names.items()}
    own_size = next((e.image_size for e in encoders.values() if e.image_size), 224)
    setting = TrainingSetting(
        batch_size=batch_size,
        text_length=text_length,
        image_size=image_size or own_size,
        audio_seconds=audio_seconds,
        feature_length=feature_length,
        precision=precision,
        attention=attention,
        encoder_dropout=encoder_dropout,
        optimizer=optimizer,
    )
    report = MemoryPredictor(encoders, classes, setting).predict(method, method_config)
    if as_json:
        described = {
            **setting.to_dict(),
            "classes": classes,
            "encoders": {m: e.name for m, e in encoders.items()},
        }
        _print_json(
            {
                "method": method,
                "config": method_config.to_dict(),
                "trainable_parameters": report.trainable_parameters,
                "checkpoint": report.checkpoint,
                "memory": report.to_dict(),
                "setting": described,
            }
        )
        return
    table = Table(title=f"{method} on {' + '.join(names.values())}", title_justify="left")
    table.add_column("at the peak of one step")
    table.add_column("", justify="right")
    for part, size in report.to_dict().items():
        table.add_row(part, format_size(size), style="bold" if part == "total" else "")
    table.add_section()
    table.add_row("trained parameters", f"{report.trainable_parameters:,}")
    table.add_row("checkpoint", format_size(report.checkpoint))
    Console().print(table)


@app.command()
def methods(
    name: Annotated[str | None, typer.Argument(help="One method, with what its settings mean.")] = None,
    plugin: PluginOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the fusion methods and their settings."""
    from trainables.methods import METHODS, get_method

    _load_plugins(plugin)
    rows: list[dict[str, Any]] = [
        {
            "name": spec.name,
            "description": spec.description,
            "source": spec.source,
            "settings": {
                f.name: {"default": f.default, **{k: v for k, v in f.metadata.items() if k != "other"}}
                for f in dataclasses.fields(spec.config_class)
            },
        }
        for spec in ([get_method(name)] if name else METHODS.values())
    ]
    if as_json or name is None:
        _list(rows, as_json, {"settings": lambda row: ", ".join(row["settings"]) or "-"})
        return
    console = Console(highlight=False)
    console.print(f"[bold]{name}[/bold]  {rows[0]['description']}\n{rows[0]['source']}", soft_wrap=True)
    for key, setting in rows[0]["settings"].items():
        default = json.dumps(setting["default"]).strip('"').replace("null", "none")
        shown = f"    {key} = {default}{_accepted(setting)}\n        {setting['help']}"
        console.print(shown, markup=False, soft_wrap=True)


@app.command()
def spaces(
    name: Annotated[str | None, typer.Argument(help="One space; all if left out.")] = None,
    text_encoder: Annotated[str, typer.Option(help="Encoder the ranges are for.")] = "minilm",
    image_encoder: Annotated[str, typer.Option(help="Encoder the ranges are for.")] = "dinov2-small",
    plugin: PluginOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the spaces, with the ranges of their parameters and the points they try first."""
    from spaces import SPACES, SpaceContext, get_space
    from trainables.towers import resolve_encoder

    _load_plugins(plugin)
    encoders = {
        "text": resolve_encoder("text", text_encoder),
        "image": resolve_encoder("image", image_encoder),
    }
    context = SpaceContext.of(encoders)
    rows: list[dict[str, Any]] = [
        {
            "name": space.name,
            "description": space.description,
            "parameters": space.parameters(context),
            "first_points": space.first_points(context),
        }
        for space in ([get_space(name)] if name else SPACES.values())
    ]
    if as_json:
        _print_json(rows)
        return
    console = Console(highlight=False)
    for row in rows:
        console.print(f"[bold]{row['name']}[/bold]  {row['description']}", soft_wrap=True)
        # A union's parameters are those of its methods, which are listed under their own names
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


@app.command()
def datasets(as_json: JsonOption = False) -> None:
    """List the included datasets; a search takes any folder in the same layout."""
    from trainables.data import DATASETS, SPLITS, open_dataset

    rows = []
    for name, (_, description) in DATASETS.items():
        opened = open_dataset(name)
        rows.append(
            {
                "name": name,
                "description": description,
                "task": opened.task,
                "modalities": sorted(opened.modalities),
                "classes": len(opened.classes),
                "rows": {split: opened.count(split) for split in SPLITS},
            }
        )
    _list(rows, as_json, {"rows": lambda row: " / ".join(f"{n:,}" for n in row["rows"].values())})


@app.command()
def encoders(as_json: JsonOption = False) -> None:
    """List the bundled encoders and the architectures; hub names and local folders work too."""
    from trainables.towers import ARCHITECTURES, BUNDLED, FAMILIES

    rows = [
        {"name": encoder.name, "modality": encoder.modality, "description": encoder.description}
        for encoder in BUNDLED.values()
    ] + [
        {
            "name": f"arch:{name}",
            "modality": FAMILIES[known.model_type].modality,
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
            "modality": "any",
            "description": "a new transformer over extracted features; also width, depth, heads, max_length",
        },
    ]
    _list(rows, as_json, {})


def main() -> None:
    """Run the command line; a user's mistake is one line on standard error and exit code 2."""
    try:
        code = app(standalone_mode=False)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        code = 2
    except _UsageError as error:
        print(f"error: {error.format_message()} (see --help)", file=sys.stderr)
        code = 2
    except (typer.Abort, KeyboardInterrupt):
        print("interrupted", file=sys.stderr)
        code = 130
    sys.exit(code or 0)


@contextlib.contextmanager
def _stdout_kept_for_json(as_json: bool) -> Any:
    """Send what libraries print to standard error, so that standard output holds the document alone."""
    with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
        yield


def _print_json(document: Any) -> None:
    print(json.dumps(document, indent=1))


def _print_result(result: Any, tracking_uri: str) -> None:
    from search.report import front_table, methods_table, settings_line

    console = Console()
    counts = [f"{result.trials} trials"]
    counts += [f"{result.infeasible} over budget, never started"] if result.infeasible else []
    counts += [f"{result.failed} failed"] if result.failed else []
    counts += ["the space holds no further configurations"] if result.exhausted else []
    counts += ["interrupted"] if result.interrupted else []
    if result.front:
        console.print(front_table(result.front, result.depths, f"Pareto front of '{result.name}'"))
        if len(result.methods) > 1:
            for row in result.front:
                console.print(settings_line(row), style="dim", highlight=False, soft_wrap=True)
            console.print()
            console.print(methods_table(result.methods))
        console.print(f"{', '.join(counts)}; hypervolume {result.hypervolume:.3f}", highlight=False)
    else:
        console.print(f"no front: {', '.join(counts)}", highlight=False)
    for message in dict.fromkeys(result.errors):
        console.print(f"failed: {message}", highlight=False, markup=False)
    picture = Path(result.folder) / "front.png"
    if picture.exists():
        console.print(f"picture: {picture}", highlight=False, soft_wrap=True)
    mlflow = "mlflow" if shutil.which("mlflow") else os.path.relpath(Path(sys.executable).parent / "mlflow")
    server = tracking_uri.startswith("http")
    where = tracking_uri if server else f"{mlflow} ui --backend-store-uri {tracking_uri}"
    console.print(
        f"compare: {where}   (filter the front: tags.front = 'true')", highlight=False, soft_wrap=True
    )


def _list(rows: list[dict[str, Any]], as_json: bool, shown: dict[str, Any]) -> None:
    """Print objects as JSON or as a table of name, description and what ``shown`` formats."""
    if as_json:
        _print_json(rows)
        return
    table = Table(show_lines=bool(shown))
    for heading in ("name", "description", *shown):
        table.add_column(heading, no_wrap=heading == "name", overflow="fold")
    for row in rows:
        table.add_row(row["name"], row["description"], *(cell(row) for cell in shown.values()))
    Console().print(table)


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


def _load_plugins(paths: list[str] | None) -> None:
    from trainables.plugin import Plugin

    for path in paths or ():
        Plugin.read(path).load()


def _assignments(option: str, texts: list[str], example: str) -> dict[str, str]:
    values = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise UserError(f"{option} {text}: write NAME=VALUE, e.g. {option} {example}")
        values[name.strip()] = value.strip()
    return values
