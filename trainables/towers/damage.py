"""What is wrong with the files of an encoder that a library could not read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

#: How a file of Git LFS begins whose content was not fetched.
_POINTER = b"version https://git-lfs.github.com/spec/"


def why(error: Exception, location: str | None, concerned: Callable[[Path], bool]) -> str:
    """Return why an encoder could not be read: what is wrong with a file, or else what the library says.

    Args:
        error: The library's error.
        location: The encoder's folder or hub name.
        concerned: Whether a file of the folder was to be read.
    """
    folder = Path(location or "")
    if location and folder.is_dir():
        for path in sorted(filter(concerned, folder.iterdir())):
            reason = damage(path)
            if reason:
                return f"{path.name} {reason}"
    return first_line(error)


def damage(path: Path) -> str | None:
    """Return what is wrong with a file, as the rest of a sentence; None if nothing is seen."""
    try:
        with path.open("rb") as file:
            start = file.read(len(_POINTER))
        if start == _POINTER:
            return "is a Git LFS pointer and not the file: run `git lfs pull` in its folder"
        if not start:
            return "is empty"
        if path.suffix == ".json":
            json.loads(path.read_bytes())
        if path.suffix == ".safetensors":
            from safetensors import SafetensorError, safe_open

            try:
                with safe_open(path, "pt"):
                    pass
            except SafetensorError as error:
                return f"is cut off or damaged ({first_line(error)})"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    except (ValueError, RecursionError) as error:
        return f"is no JSON ({first_line(error)})"
    return None


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, at most 160 characters, or the name of its class.

    A line that ends with a colon is joined with the next one.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return " ".join(lines[: 2 if lines[0].endswith(":") else 1])[:160]
