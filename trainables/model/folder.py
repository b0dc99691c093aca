"""Writes models as folders, and copies them, maybe with the encoders that they need."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from trainables.cache.manifest import checksum
from trainables.disk import move_synced, writing
from trainables.errors import UserError
from trainables.model.description import (
    CARD,
    CONFIG,
    FORMAT,
    PLUGINS,
    WEIGHTS,
    ModelDescription,
    read_config,
)
from trainables.plugin import Plugin


def write_model(
    folder: Path,
    description: ModelDescription,
    weights: Mapping[str, Tensor],
    card: str,
    plugins: Sequence[Plugin] = (),
) -> None:
    """Write a model, whole or not at all. An earlier one in the same folder is replaced.

    Args:
        folder: The folder.
        description: What the model is; its ``plugins`` are set here.
        weights: The trained weights by name.
        card: The text of its ``README.md``.
        plugins: The user's plugins that it needs.

    Raises:
        DiskFullError: If the disk has no space for it.
        UserError: If the folder holds something else than a model, or may not be written.
    """
    from safetensors.torch import save_file

    if _holds_another(folder):
        raise UserError(f"{folder} is there already, and holds no model; name another folder")
    names = _names(plugins)

    def write(made: Path) -> None:
        made.mkdir()
        contiguous = {name: weight.detach().cpu().contiguous() for name, weight in weights.items()}
        save_file(contiguous, made / WEIGHTS, {"format": "pt"})
        (made / WEIGHTS).chmod(0o666 & ~_umask())  # the library lets nobody else read it
        (made / CARD).write_text(card, encoding="utf-8")
        for name, plugin in zip(names, plugins, strict=True):
            (made / name).parent.mkdir(exist_ok=True)
            (made / name).write_text(plugin.source, encoding="utf-8")
        write_config(made, replace(description, plugins=names))

    in_place_of(folder, write)


def check_weights(folder: Path) -> None:
    """Check that a model's weights are what was written.

    Raises:
        UserError: If they are not.
    """
    expected = read_config(folder)["weights"]["checksum"]
    try:
        found = checksum(folder / WEIGHTS)
    except OSError as error:
        raise UserError(f"model '{folder}': its {WEIGHTS} cannot be read ({error.strerror})") from error
    if found != expected:
        raise UserError(f"model '{folder}': its {WEIGHTS} is damaged: it has other content than was written")


def write_config(folder: Path, description: ModelDescription) -> None:
    """Write a model's description, with the size and checksum of the weights, which are there already."""
    weights = folder / WEIGHTS
    values = {
        "format": FORMAT,
        **description.to_dict(),
        "weights": {"bytes": weights.stat().st_size, "checksum": checksum(weights)},
    }
    (folder / CONFIG).write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


def in_place_of(folder: Path, write: Callable[[Path], None]) -> None:
    """Let a function write a folder under another name, and give it its own once all of it is written."""
    folder = folder.absolute()
    made = folder.parent / f".{folder.name}-{os.getpid()}"
    before = folder.parent / f".{folder.name}-{os.getpid()}-before"
    try:
        with writing(folder.parent, "name another folder"):
            folder.parent.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(made, ignore_errors=True)
            write(made)
            if folder.exists():
                os.replace(folder, before)
            move_synced(made, folder)
    finally:
        shutil.rmtree(made, ignore_errors=True)
        shutil.rmtree(before, ignore_errors=True)


def _holds_another(folder: Path) -> bool:
    """Return whether something is at a path that is neither a model nor an empty folder."""
    if not folder.exists():
        return False
    return not folder.is_dir() or (any(folder.iterdir()) and not (folder / WEIGHTS).is_file())


def _names(plugins: Sequence[Plugin]) -> list[str]:
    """Return where plugins are in a model's folder; two files of one name get different ones."""
    names: list[str] = []
    for plugin in plugins:
        stem, number = Path(plugin.path).stem, 1
        name = f"{PLUGINS}/{stem}.py"
        while name in names:
            number += 1
            name = f"{PLUGINS}/{stem}_{number}.py"
        names.append(name)
    return names


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
