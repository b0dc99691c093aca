"""The command line: it parses options, calls the API and prints results."""

from __future__ import annotations

import sys

import typer

from search.cli.apply import apply, score
from search.cli.cache import cache
from search.cli.calibrate import calibrate
from search.cli.check import check
from search.cli.convert import convert
from search.cli.data import data
from search.cli.defaults import UsageError, read_variable
from search.cli.explain import explain
from search.cli.export import export
from search.cli.launch import launch
from search.cli.listing import datasets, encoders, methods, spaces
from search.cli.predict import predict
from search.cli.report import report
from search.cli.runs import rm, runs
from search.cli.search import search
from search.cli.train import train
from search.signals import ended_by
from trainables.errors import UserError

__all__ = ["app", "main"]

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
        "Options in the variable [bold]PARETOFUSE_OPTIONS[/bold] are defaults of searches and trainings.\n\n"
        "One configuration, no search: [bold]python search.py train --help[/bold]\n\n"
        "Only want to know what a configuration costs? [bold]python search.py predict --help[/bold]"
    ),
)
app.callback(invoke_without_command=True)(search)
commands = (
    train,
    check,
    report,
    runs,
    rm,
    export,
    apply,
    score,
    data,
    convert,
    predict,
    explain,
    calibrate,
    methods,
    spaces,
    datasets,
    encoders,
    cache,
)
for command in commands:
    app.command()(command)
app.add_typer(launch, name="launch")


def main() -> None:
    """Run the command line; a user's mistake gives one line on standard error and exit code 2."""
    try:
        code = app(standalone_mode=False, default_map=read_variable(search, [train, check, report, runs, rm]))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        code = 2
    except UsageError as error:
        print(f"error: {UserError(error.format_message())} (see --help)", file=sys.stderr)
        code = 2
    except (typer.Abort, KeyboardInterrupt) as error:
        if isinstance(error.__cause__, EOFError):  # of a file; Typer takes it for the end of a dialogue
            raise error.__cause__ from None
        print("interrupted", file=sys.stderr)
        code = 128 + ended_by()
    sys.exit(code or 0)
