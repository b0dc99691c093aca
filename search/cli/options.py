"""Options that several commands share, each written once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from trainables.errors import UserError

#: Panels of the help text.
SEARCH, ONESHOT, TRIALS = "Search", "One-shot (--strategy oneshot)", "Trials"
MODEL, PLACES = "Data and encoders", "Where"

_ENCODER_HELP = "Bundled name, hub name or local folder; where no weights are needed also {}."

TextEncoder = Annotated[
    str,
    typer.Option(help=_ENCODER_HELP.format("arch:bert-base, arch:bert-large"), rich_help_panel=MODEL),
]
ImageEncoder = Annotated[
    str,
    typer.Option(help=_ENCODER_HELP.format("arch:vit-base, arch:vit-large"), rich_help_panel=MODEL),
]
Encoders = Annotated[
    list[str] | None,
    typer.Option(
        "--encoder",
        metavar="MODALITY=NAME",
        help="Encoder of any modality, e.g. audio=arch:whisper-tiny; may be repeated, and replaces "
        "--text-encoder and --image-encoder.",
        rich_help_panel=MODEL,
    ),
]
Classes = Annotated[int, typer.Option(help="Classes to tell apart.", rich_help_panel=MODEL)]
TextLength = Annotated[int, typer.Option(help="Tokens a text is padded to.", rich_help_panel=MODEL)]
AudioSeconds = Annotated[float, typer.Option(help="Length of a sound.", rich_help_panel=MODEL)]
FeatureLength = Annotated[
    int, typer.Option(help="Vectors of a sequence of extracted features.", rich_help_panel=MODEL)
]
ImageSize = Annotated[
    int | None,
    typer.Option(help="Pixels a side.", show_default="the encoder's own", rich_help_panel=MODEL),
]
BatchSize = Annotated[int, typer.Option(help="Samples an optimisation step.", rich_help_panel=TRIALS)]
GradientAccumulation = Annotated[
    int,
    typer.Option(
        metavar="N", help="Parts that a step's samples are run in; must divide them.", rich_help_panel=TRIALS
    ),
]
Precision = Annotated[
    str,
    typer.Option(
        help="fp32, bf16 for bfloat16 autocast, or bf16-frozen to store the frozen matrices so, too.",
        rich_help_panel=TRIALS,
    ),
]
Attention = Annotated[str, typer.Option(help="Attention kernel: eager or sdpa.", rich_help_panel=TRIALS)]
EncoderDropout = Annotated[
    bool, typer.Option(help="Dropout in frozen layers that the gradient crosses.", rich_help_panel=TRIALS)
]
Optimizer = Annotated[str, typer.Option(help="adamw or sgd.", rich_help_panel=TRIALS)]
OptimizerKernel = Annotated[
    str,
    typer.Option(
        help="single: one tensor at a time; foreach: all together; fused: in one kernel.",
        rich_help_panel=TRIALS,
    ),
]
Prefix = Annotated[
    str,
    typer.Option(
        help="Frozen lower layers: computed in every step, cached, or offloaded (cached, and their weights "
        "off the device).",
        rich_help_panel=TRIALS,
    ),
]
GradientCheckpointing = Annotated[
    bool,
    typer.Option(
        help="Keep only the inputs of layers that the gradient crosses, and run them twice.",
        rich_help_panel=TRIALS,
    ),
]
SkipUnused = Annotated[
    bool,
    typer.Option(
        "--skip-unused",
        help="Do not compute outputs of encoder layers that nothing reads.",
        rich_help_panel=TRIALS,
    ),
]
Device = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Kind of device to say the memory for, if it was calibrated; part of its name will do.",
        show_default="this machine's",
        rich_help_panel=PLACES,
    ),
]
MethodSettings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="A setting of the method; may be repeated."),
]
Plugins = Annotated[
    list[str] | None,
    typer.Option(
        "--plugin", metavar="FILE", help="Python file with methods or spaces of your own; may be repeated."
    ),
]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print one JSON document on standard output, all else on stderr.")
]


def load_plugins(paths: Sequence[str] | None) -> None:
    """Register what the user's own files hold.

    Raises:
        UserError: If a file cannot be loaded.
    """
    from trainables.plugin import Plugin

    for path in paths or ():
        Plugin.read(path).load()


def split_names(text: str) -> tuple[str, ...]:
    """Return the names in a comma-separated list."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def assignments(option: str, texts: Sequence[str], example: str) -> dict[str, str]:
    """Return the values of an option that is given as ``NAME=VALUE``, by name.

    Args:
        option: The option's name, for messages.
        texts: What was given.
        example: What would be accepted, for messages.

    Raises:
        UserError: If one is not of that form.
    """
    values = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise UserError(f"{option} {text}: write NAME=VALUE, e.g. {option} {example}")
        values[name.strip()] = value.strip()
    return values
