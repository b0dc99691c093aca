"""Checkpoints that show whether they are whole, and the choice of the one to resume from."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path, PurePath

from trainables.cache.manifest import checksum
from trainables.progress import Tick, no_tick
from trainables.trial.assignment import Checkpoint

#: The trained weights, which are all that is needed to use a trained model.
WEIGHTS = "weights.safetensors"
#: The state of optimizer and learning rate, which only training on needs. It is the larger part.
TRAINER = "trainer.pt"
#: What was trained, as JSON: configuration, seed and settings; and the task as tuned to the trained weights,
#: null before the first epoch.
TRIAL = "trial.json"

_SEAL = "files.json"


class DamagedError(RuntimeError):
    """Raised when a checkpoint lacks a file, or when a file is not what was written."""


def seal(folder: Path) -> None:
    """Write down the size and the checksum of each file of a checkpoint, as its last file."""
    written = [path for path in sorted(folder.iterdir()) if path.is_file() and path.name != _SEAL]
    files = {path.name: [path.stat().st_size, checksum(path)] for path in written}
    (folder / _SEAL).write_text(json.dumps(files, indent=1))


def check(folder: Path, names: Iterable[str] = (), tick: Tick = no_tick) -> None:
    """Compare the files of a checkpoint with what was written.

    Args:
        folder: The checkpoint.
        names: The files that are needed; all of them if empty.
        tick: Called after each file.

    Raises:
        DamagedError: If a file is missing, cut or changed. The message names the file.
    """
    try:
        files: dict[str, list[int]] = json.loads((folder / _SEAL).read_text())
        wanted = {name: tuple(files[name]) for name in names or files}
    except FileNotFoundError as error:
        raise DamagedError(f"{_SEAL} is missing") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedError(f"{_SEAL} cannot be read") from error
    for name, written in wanted.items():
        try:
            size = (folder / name).stat().st_size
            if size != written[0]:
                raise DamagedError(f"{name} has {size:,} of {written[0]:,} bytes")
            if checksum(folder / name) != written[1]:
                raise DamagedError(f"{name} has other content than was written")
        except FileNotFoundError as error:
            raise DamagedError(f"{name} is missing") from error
        except OSError as error:
            raise DamagedError(f"{name} cannot be read ({error.strerror})") from error
        tick()


def load_whole(
    candidates: Iterable[Checkpoint], load: Callable[[Path], None], tick: Tick = no_tick
) -> list[str]:
    """Load the first checkpoint that is whole.

    Args:
        candidates: Checkpoints, the preferred one first. Only as many are looked at as needed.
        load: Called with the folder of the checkpoint; not called if none is whole.
        tick: Called after each file.

    Returns:
        What was found, in words: the damaged checkpoints, then what is done instead. It is empty if the first
        one was whole, or if there is none.
    """
    remarks: list[str] = []
    for candidate in candidates:
        name = "/".join(PurePath(candidate.path).parts[-2:])
        try:
            with candidate.as_directory() as folder:
                check(Path(folder), tick=tick)
                load(Path(folder))
        except DamagedError as error:
            remarks.append(f"{name} is damaged ({error})")
        except FileNotFoundError:  # a remote folder is copied first
            remarks.append(f"{name} is damaged (it is missing)")
        else:
            return [*remarks, f"goes on from {name}"] if remarks else []
    return [*remarks, "starts from the beginning"] if remarks else []
