"""The search itself, and how its result is printed."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from search.cli.options import (
    MODEL,
    ONESHOT,
    PLACES,
    SEARCH,
    TRIALS,
    AsJson,
    Attention,
    BatchSize,
    EncoderDropout,
    GradientAccumulation,
    ImageEncoder,
    ImageSize,
    Optimizer,
    OptimizerKernel,
    Plugins,
    Precision,
    Prefix,
    TextEncoder,
    split_names,
)
from search.cli.printing import print_json, stdout_kept_for_json
from search.units import parse_duration, parse_size
from trainables.errors import UserError


def search(
    context: typer.Context,
    space: Annotated[
        str | None, typer.Option(help="Space to search; `spaces` lists them.", rich_help_panel=SEARCH)
    ] = None,
    strategy: Annotated[
        str,
        typer.Option(
            metavar="trials|oneshot",
            help="trials trains every configuration on its own; oneshot trains one supernet for the whole "
            "space, evaluates hundreds of its subnets with the weights they inherit, and trains the best on "
            "their own.",
            rich_help_panel=SEARCH,
        ),
    ] = "trials",
    resume: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Go on with a search that was interrupted, however; with --num-samples +20 extend it.",
            rich_help_panel=SEARCH,
        ),
    ] = None,
    warm_start: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Use what another search has found: its front is tried first, and its trials inform the "
            "sampler where they are comparable.",
            rich_help_panel=SEARCH,
        ),
    ] = None,
    objectives: Annotated[
        str,
        typer.Option(
            help="Comma-separated: memory, accuracy, macro_f1, loss, params, checkpoint, step_time.",
            rich_help_panel=SEARCH,
        ),
    ] = "memory,accuracy",
    constraint: Annotated[
        list[str] | None,
        typer.Option(
            metavar="BOUND",
            help="What results must keep to: memory<=8GiB, params<=5M, accuracy>=60%; may be repeated. What "
            "is known to break one is never started.",
            rich_help_panel=SEARCH,
        ),
    ] = None,
    sampler: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="ehvi knows every candidate's memory and learns from every epoch, in a third of a second "
            "a trial; tpe learns from trials that ended; gp takes seconds a trial; nsga2, nsga3 and "
            "evolution want hundreds; grid takes five values a range; qmc and random do not learn.",
            show_default="ehvi; evolution with oneshot",
            rich_help_panel=SEARCH,
        ),
    ] = None,
    scheduler: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="pareto_asha pauses all but the best at each rung, over all objectives; asha and median "
            "look at one; none trains every trial to its end.",
            rich_help_panel=SEARCH,
        ),
    ] = "none",
    reduction_factor: Annotated[
        float, typer.Option(help="One trial in so many goes on at each rung.", rich_help_panel=SEARCH)
    ] = 2,
    min_epochs: Annotated[
        int | None,
        typer.Option(
            help="Epochs before a scheduler compares trials.",
            show_default="a third of them",
            rich_help_panel=SEARCH,
        ),
    ] = None,
    defer: Annotated[
        bool,
        typer.Option(
            help="Put off candidates whose memory even a better result than any so far is hardly worth.",
            rich_help_panel=SEARCH,
        ),
    ] = False,
    num_samples: Annotated[
        str | None,
        typer.Option(
            metavar="N",
            help="Configurations to try; with oneshot, subnets to evaluate.",
            show_default="20; 500 with oneshot",
            rich_help_panel=SEARCH,
        ),
    ] = None,
    seeds: Annotated[
        int,
        typer.Option(
            help="Trials of each configuration on the front, each with another seed: the front is then of "
            "means.",
            rich_help_panel=SEARCH,
        ),
    ] = 1,
    max_memory: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            help="Budget, e.g. 3GiB: candidates predicted above it are never started.",
            rich_help_panel=SEARCH,
        ),
    ] = None,
    time_budget: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Stop training after e.g. 30m or 2h.", rich_help_panel=SEARCH),
    ] = None,
    seed: Annotated[
        int, typer.Option(help="Seed of the sampler and of every trial.", rich_help_panel=SEARCH)
    ] = 0,
    supernet_epochs: Annotated[
        int, typer.Option(help="Epochs that the supernet trains.", rich_help_panel=ONESHOT)
    ] = 5,
    paths: Annotated[
        str,
        typer.Option(
            metavar="uniform|sandwich",
            help="Subnets that a step trains: one at random, or also the largest and the smallest.",
            rich_help_panel=ONESHOT,
        ),
    ] = "uniform",
    distill: Annotated[
        bool,
        typer.Option(
            help="With sandwich: the others learn the largest subnet's output.", rich_help_panel=ONESHOT
        ),
    ] = False,
    workers: Annotated[
        int,
        typer.Option(
            help="Processes that train the supernet together, each on a GPU of its own where there are any.",
            rich_help_panel=ONESHOT,
        ),
    ] = 1,
    subnet_precision: Annotated[
        str,
        typer.Option(
            metavar="auto|fp32|bf16",
            help="What subnets are evaluated in; auto is bf16 where the device computes in it natively.",
            rich_help_panel=ONESHOT,
        ),
    ] = "auto",
    finalists: Annotated[
        int,
        typer.Option(
            help="Subnets that are trained on their own, the front's first.", rich_help_panel=ONESHOT
        ),
    ] = 6,
    tau_samples: Annotated[
        int,
        typer.Option(
            metavar="N",
            help="Random subnets that are trained, too: how well inherited accuracies rank them (Kendall's "
            "tau) tells how far to trust them.",
            rich_help_panel=ONESHOT,
        ),
    ] = 3,
    from_scratch: Annotated[
        bool,
        typer.Option(
            help="Train finalists and random subnets from new weights, not from inherited ones.",
            rich_help_panel=ONESHOT,
        ),
    ] = False,
    learning_rate: Annotated[
        float | None,
        typer.Option(
            help="Of the supernet and of what is trained from it.",
            show_default="the space's first point's",
            rich_help_panel=ONESHOT,
        ),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(
            help="Epochs a trial trains.",
            show_default="5; 3 with oneshot, from inherited weights",
            rich_help_panel=TRIALS,
        ),
    ] = None,
    batch_size: BatchSize = 32,
    gradient_accumulation: GradientAccumulation = 1,
    precision: Precision = "fp32",
    attention: Attention = "eager",
    encoder_dropout: EncoderDropout = True,
    optimizer: Optimizer = "adamw",
    optimizer_kernel: OptimizerKernel = "single",
    gradient_checkpointing: Annotated[
        str,
        typer.Option(
            metavar="off|on|search",
            help="Keep only the inputs of layers that the gradient crosses, and run them twice; search makes "
            "it a parameter of the space.",
            rich_help_panel=TRIALS,
        ),
    ] = "off",
    prefix: Prefix = "computed",
    augment: Annotated[
        str,
        typer.Option(help="none, flip or shift-flip (images of the training split).", rich_help_panel=TRIALS),
    ] = "none",
    feature_cache: Annotated[
        bool,
        typer.Option(
            help="Compute the frozen lower layers' output once and share it.", rich_help_panel=TRIALS
        ),
    ] = True,
    feature_cache_size: Annotated[
        str, typer.Option(metavar="SIZE", help="Most disk it may take.", rich_help_panel=TRIALS)
    ] = "8GiB",
    dataset: Annotated[
        str,
        typer.Option(help="Included dataset, or a folder of Parquet files.", rich_help_panel=MODEL),
    ] = "openclipart",
    text_encoder: TextEncoder = "minilm",
    image_encoder: ImageEncoder = "dinov2-small",
    text_length: Annotated[
        int | None,
        typer.Option(
            help="Tokens a text is cut or padded to.",
            show_default="fits 99 % of the texts",
            rich_help_panel=MODEL,
        ),
    ] = None,
    image_size: ImageSize = None,
    name: Annotated[
        str | None,
        typer.Option(help="Name of the search.", show_default="space and time", rich_help_panel=PLACES),
    ] = None,
    storage_path: Annotated[
        str,
        typer.Option(help="Folder, or s3://… on a cluster, for results.", rich_help_panel=PLACES),
    ] = "runs",
    tracking_uri: Annotated[
        str, typer.Option(help="MLflow server or database.", rich_help_panel=PLACES)
    ] = "sqlite:///mlflow.db",
    experiment: Annotated[
        str, typer.Option(help="MLflow experiment.", rich_help_panel=PLACES)
    ] = "paretofuse",
    address: Annotated[
        str | None,
        typer.Option(
            help="Ray cluster to join; 'auto' on one of its nodes.",
            show_default="start Ray here",
            rich_help_panel=PLACES,
        ),
    ] = None,
    max_concurrent: Annotated[
        int | None,
        typer.Option(help="Trials at once.", show_default="as many as fit", rich_help_panel=PLACES),
    ] = None,
    gpus_per_trial: Annotated[
        float | None,
        typer.Option(
            help="Share of a GPU that every trial gets, 0 for none. Give it, or --gpu-memory, where GPU "
            "nodes are started on demand.",
            show_default="what its memory needs",
            rich_help_panel=PLACES,
        ),
    ] = None,
    gpu_memory: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            help="Memory of each GPU.",
            show_default="what the GPUs say",
            rich_help_panel=PLACES,
        ),
    ] = None,
    packing: Annotated[
        bool,
        typer.Option(
            help="Let trials share a GPU, or a node's memory, by what they need.", rich_help_panel=PLACES
        ),
    ] = True,
    max_failures: Annotated[
        int,
        typer.Option(
            metavar="N",
            help="Times a trial that died or hung starts again from its last checkpoint.",
            rich_help_panel=PLACES,
        ),
    ] = 2,
    hang_timeout: Annotated[
        str,
        typer.Option(
            metavar="TIME",
            help="A trial that finishes no step for so long counts as hung.",
            rich_help_panel=PLACES,
        ),
    ] = "15m",
    replay: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Answer trials from a table of recorded ones instead of training: to try out samplers and "
            "schedulers.",
            rich_help_panel=PLACES,
        ),
    ] = None,
    replay_seconds: Annotated[
        float, typer.Option(help="How long an epoch takes then.", rich_help_panel=PLACES)
    ] = 0,
    plugin: Plugins = None,
    as_json: AsJson = False,
) -> None:
    """Search a space."""
    if context.invoked_subcommand is not None:
        return
    if space is None and resume is None:
        raise UserError("--space is missing; `python search.py spaces` lists the spaces")
    from search.config import SearchConfig, more_samples

    settings: dict[str, Any] = {
        "space": space,
        "strategy": strategy,
        "dataset": dataset,
        "text_encoder": text_encoder,
        "image_encoder": image_encoder,
        "objectives": split_names(objectives),
        "constraints": tuple(constraint or ()),
        "sampler": sampler,
        "scheduler": scheduler,
        "reduction_factor": reduction_factor,
        "min_epochs": min_epochs,
        "defer": defer,
        "seeds": seeds,
        "warm_start": warm_start,
        "epochs": epochs,
        "supernet_epochs": supernet_epochs,
        "paths": paths,
        "distill": distill,
        "workers": workers,
        "subnet_precision": subnet_precision,
        "finalists": finalists,
        "tau_samples": tau_samples,
        "from_scratch": from_scratch,
        "learning_rate": learning_rate,
        "batch_size": batch_size,
        "gradient_accumulation": gradient_accumulation,
        "text_length": text_length,
        "image_size": image_size,
        "precision": precision,
        "attention": attention,
        "encoder_dropout": encoder_dropout,
        "optimizer": optimizer,
        "optimizer_kernel": optimizer_kernel,
        "gradient_checkpointing": gradient_checkpointing,
        "prefix": prefix,
        "max_memory": None if max_memory is None else parse_size(max_memory),
        "max_concurrent": max_concurrent,
        "gpus_per_trial": gpus_per_trial,
        "gpu_memory": None if gpu_memory is None else parse_size(gpu_memory),
        "packing": packing,
        "max_failures": max_failures,
        "hang_timeout": parse_duration(hang_timeout),
        "time_budget": None if time_budget is None else parse_duration(time_budget),
        "feature_cache": feature_cache,
        "feature_cache_size": parse_size(feature_cache_size),
        "augment": augment,
        "seed": seed,
        "name": name,
        "storage_path": storage_path,
        "tracking_uri": tracking_uri,
        "experiment": experiment,
        "plugins": tuple(plugin or ()),
        "replay": replay,
        "replay_seconds": replay_seconds,
        "address": address,
    }
    if resume is None:
        samples: Any = None if num_samples is None else more_samples(num_samples)
        config = SearchConfig(num_samples=samples, **settings)
    given = {name: value for name, value in settings.items() if _was_given(context, name)}
    from search.api import resume_search, run_search

    with stdout_kept_for_json(as_json):
        if resume is None:
            result = run_search(config)
        else:
            more = num_samples if _was_given(context, "num_samples") else None
            result = resume_search(resume, num_samples=more, **given)
    if as_json:
        print_json(result.to_dict())
    else:
        _print_result(result)
    if result.interrupted:
        raise typer.Exit(130)
    if not result.trials:
        raise typer.Exit(1)


#: Settings that are not called what their options are.
_OPTIONS = {"constraints": "constraint", "plugins": "plugin"}


def _was_given(context: typer.Context, setting: str) -> bool:
    """Whether an option stood on the command line."""
    source = context.get_parameter_source(_OPTIONS.get(setting, setting))
    return source is not None and source.name == "COMMANDLINE"


def _print_result(result: Any) -> None:
    from search.records.status import UNFINISHED
    from search.reporting.tables import front_table, memory_line, methods_table, tau_line

    console = Console()
    counts = [f"{result.evaluated} subnets evaluated"] if result.strategy == "oneshot" else []
    counts += [f"{result.trials} trials"]
    counts += [f"{result.infeasible} over budget, never started"] if result.infeasible else []
    ends = [(getattr(result, status), status.words) for status in UNFINISHED]
    counts += [f"{count} {words}" for count, words in ends if count]
    counts += ["the space holds no further configurations"] if result.exhausted else []
    counts += ["interrupted"] if result.interrupted else []
    if result.front:
        title = f"Pareto front of '{result.name}'"
        table, lines = front_table(result.front, result.objectives, result.depths, title, console.width)
        console.print(table)
        for line in lines:
            console.print(line, style="dim", highlight=False, soft_wrap=True)
        if lines:
            console.print()
        if len(result.methods) > 1:
            console.print(methods_table(result.methods, result.objectives))
        console.print(f"{', '.join(counts)}; hypervolume {result.hypervolume:.3f}", highlight=False)
        if result.strategy == "oneshot":
            console.print(tau_line(result.agreement), highlight=False, soft_wrap=True)
        console.print(memory_line(result.memory), highlight=False, soft_wrap=True)
    else:
        console.print(f"no front: {', '.join(counts)}", highlight=False)
    if result.interrupted:
        console.print(f"go on: python search.py --resume {result.name}", highlight=False, soft_wrap=True)
    for message in dict.fromkeys(result.errors):
        console.print(f"failed: {message}", highlight=False, markup=False)
    picture = Path(result.folder) / "front.png"
    if picture.exists():
        console.print(f"picture: {picture}", highlight=False, soft_wrap=True)
    mlflow = "mlflow" if shutil.which("mlflow") else os.path.relpath(Path(sys.executable).parent / "mlflow")
    uri = result.tracking_uri
    where = uri if uri.startswith("http") else f"{mlflow} ui --backend-store-uri {uri}"
    console.print(
        f"compare: {where}   (filter the front: tags.front = 'true')", highlight=False, soft_wrap=True
    )
