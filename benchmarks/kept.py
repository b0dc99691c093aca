"""What a benchmark recorded before, so that it goes on where it stopped and never mixes settings."""

from __future__ import annotations

import argparse
import json
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
    before = document.get("settings", document)
    others = [
        f"{name} {before[name]}, not {value}"
        for name, value in settings.items()
        if before.get(name, value) != value
    ]
    if others:
        parser.error(f"{path} holds results for other settings ({'; '.join(others)}): name another file")
    return document


def step_precision() -> str:
    """Return the precision in which this machine trains unless it is told another."""
    from trainables.step.precision import default_device, device_computes_in_bf16, fastest

    return fastest(bf16=device_computes_in_bf16(default_device()))
