"""What a benchmark recorded before, so that it goes on where it stopped and never mixes settings."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def kept_document(parser: argparse.ArgumentParser, path: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the document that an earlier run wrote; it is empty if there is none.

    Args:
        parser: Ends the program, with a line, if the document is of other settings.
        path: The document.
        settings: Settings on which results depend. The document has them in its entry ``settings`` or beside
            its results; one that it lacks may have any value.
    """
    if not path.exists():
        return {}
    document: dict[str, Any] = json.loads(path.read_text())
    _refuse_others(parser, path, document.get("settings", document), settings)
    return document


def kept_journal(
    parser: argparse.ArgumentParser, path: Path, settings: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Return the entries that earlier runs appended to a journal, which starts with a line of its settings.

    What a run that was killed left of its last line is removed.

    Args:
        parser: Ends the program, with a line, if the journal is of other settings, or says none.
        path: The journal: a JSON document a line.
        settings: Settings on which results depend.
    """
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    whole = [line for line in lines if line.endswith("\n")]
    if not whole:
        path.write_text(json.dumps({"settings": settings}) + "\n")
        return []
    header, *entries = map(json.loads, whole)
    _refuse_others(parser, path, header.get("settings", dict.fromkeys(settings)), settings)
    os.truncate(path, len("".join(whole).encode()))
    return entries


def _refuse_others(
    parser: argparse.ArgumentParser, path: Path, before: Mapping[str, Any], settings: Mapping[str, Any]
) -> None:
    others = [
        f"{name} {before[name]}, not {value}"
        for name, value in settings.items()
        if before.get(name, value) != value
    ]
    if others:
        parser.error(f"{path} holds results for other settings ({'; '.join(others)}): name another file")


def is_emulated(precision: str) -> bool:
    """Return whether this machine has no instructions for a precision.

    Training is slower than in fp32 then: tens of times, or by a third with ``emulation.products_in``.
    """
    from trainables.step.precision import default_device, device_computes_in_bf16

    return precision != "fp32" and not device_computes_in_bf16(default_device())


def tell_if_emulated(precision: str) -> None:
    """Print a line if this machine has to emulate a precision."""
    if is_emulated(precision):
        print(f"bfloat16 is not native on this machine, so that {precision} is slow", flush=True)


def step_precision() -> str:
    """Return the precision in which this machine trains unless it is told another."""
    from trainables.step.precision import default_device, device_computes_in_bf16, fastest

    return fastest(bf16=device_computes_in_bf16(default_device()))


def native_precision(precision: str) -> str:
    """Return a precision, or the one of ``step_precision`` if this machine has no instructions for it."""
    return step_precision() if is_emulated(precision) else precision
