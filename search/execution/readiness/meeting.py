"""A folder in the search's storage in which machines show each other that they see the same files."""

from __future__ import annotations

import contextlib
import pickle
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from search.checkpoints import storage
from search.execution.readiness import there
from search.nodes import Node
from search.records.place import Place
from trainables.errors import UserError


@dataclass(frozen=True)
class Meeting:
    """A folder with a file of this machine, beside which other machines write one of their own.

    Attributes:
        filesystem: The file system.
        folder: The folder's path.
        content: What each file holds.
    """

    filesystem: Any
    folder: str
    content: bytes

    def invitation(self, node: Node) -> tuple[bytes, str, str, bytes]:
        """Return the arguments with which a machine is to call ``there.meet``."""
        return pickle.dumps(self.filesystem), self._file("driver"), self._file(node.node_id), self.content

    def has_come(self, node: Node) -> bool:
        """Return whether the file of a machine can be read here; that may take a moment."""
        return there.sees(self.filesystem, self._file(node.node_id), self.content)

    def _file(self, name: str) -> str:
        return f"{self.folder}/{name}"


@contextmanager
def meeting(place: Place) -> Iterator[Meeting]:
    """Yield a meeting in the folder of a search, and remove it at the end, with the folders made for it.

    Raises:
        UserError: If nothing can be written there.
    """
    made: list[Path] = []
    try:
        filesystem, path = storage(place.address)
        found = Meeting(filesystem, f"{path}/.meeting-{uuid.uuid4().hex[:12]}", uuid.uuid4().bytes)
        if filesystem.type_name == "local":  # others have no folders
            made = [parent for parent in Path(found.folder).parents if not parent.exists()]
            filesystem.create_dir(found.folder)
        with filesystem.open_output_stream(found._file("driver")) as stream:
            stream.write(found.content)
    except (OSError, ValueError) as error:
        raise UserError(f"{place.address}: cannot be used ({there.said(error)})") from error
    try:
        yield found
    finally:
        with contextlib.suppress(OSError):
            filesystem.delete_dir(found.folder)
            for parent in made:  # innermost first, and only those that nobody uses
                parent.rmdir()
