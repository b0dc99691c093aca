"""HDF5 files, which an optional library reads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from trainables.errors import UserError


@contextmanager
def open_hdf5(name: str, path: Path) -> Iterator[Any]:
    """Open an HDF5 file for reading. Errors of reading in the block are the user's, too.

    Args:
        name: The dataset's name in error messages.
        path: The file.

    Raises:
        UserError: If h5py is not installed, if there is no such file, or if it is damaged.
    """
    try:
        import h5py  # optional
    except ImportError as error:
        raise UserError(f"dataset '{name}': {path.name} needs h5py: pip install 'paretofuse[h5]'") from error
    try:
        with h5py.File(path, "r") as file:
            yield file
    except FileNotFoundError as error:
        raise UserError(f"dataset '{name}': has no {path}") from error
    except UserError:
        raise
    except Exception as error:  # h5py raises errors of many classes for damaged bytes
        raise UserError(f"dataset '{name}': {path} is not an HDF5 file that can be read") from error
