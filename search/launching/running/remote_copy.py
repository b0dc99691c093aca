"""Copies what is at a remote address to this machine."""

from __future__ import annotations

import os
from pathlib import Path

from pyarrow import fs

from trainables.disk import writing
from trainables.errors import UserError


def copy_remote(address: str, target: Path) -> None:
    """Copy the files under an address into a folder. Those with the same size and time are not copied again.

    Args:
        address: An address such as ``s3://BUCKET/runs``. If nothing is there, nothing is copied.
        target: The folder.

    Raises:
        UserError: If the address cannot be read from this machine, or the folder cannot be written.
    """
    try:
        filesystem, root = fs.FileSystem.from_uri(address)
        found = filesystem.get_file_info(fs.FileSelector(root, recursive=True, allow_not_found=True))
        for info in found:
            if info.type is not fs.FileType.File:
                continue
            file = target / info.path.removeprefix(root).lstrip("/")
            if file.exists() and (file.stat().st_size, file.stat().st_mtime) == (info.size, _seconds(info)):
                continue
            with writing(file.parent, "choose another folder with --to"):
                file.parent.mkdir(parents=True, exist_ok=True)
                with filesystem.open_input_stream(info.path) as stream, file.open("wb") as copy:
                    while block := stream.read(1 << 20):
                        copy.write(block)
                os.utime(file, (_seconds(info), _seconds(info)))
    except (OSError, ValueError, NotImplementedError) as error:  # Arrow's own errors are among these
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"{address}: cannot be read from this machine ({reason})") from error


def _seconds(info: fs.FileInfo) -> float:
    """Return the time of a file's last change, to the second, which every file system keeps."""
    return float(info.mtime_ns // 10**9)
