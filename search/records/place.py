"""Where a search is: the folder of its store, and the folder or remote address of its trials."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from search.invocation import program
from trainables.cache import cache_dir
from trainables.errors import UserError

#: The store's file in a search's folder.
FILE = "search.sqlite"
#: The folder of models in a search's folder.
MODELS = "models"
#: What to do, apart from making space, if a search's folder cannot be written any more.
MOVE = "move the folder to another disk"
#: Folder of the results if the user names none.
DEFAULT_STORAGE = "runs"


@dataclass(frozen=True)
class Place:
    """The place of a search. It is where the search's folder is now, whatever the folder is called.

    Attributes:
        storage: The folder that holds searches, as an absolute path, or a remote address.
        name: Name of the search's folder in it.
    """

    storage: str
    name: str

    @classmethod
    def of(cls, search: str, storage_path: str = DEFAULT_STORAGE) -> Place:
        """Return the place of a search that a user names.

        Args:
            search: A name, a path or a remote address of a search's folder.
            storage_path: Folder or remote address that holds the search, if ``search`` is a name.

        Raises:
            UserError: If the text cannot name a search.
        """
        if "://" in search:
            address, mark, query = search.partition("?")
            storage, _, name = address.rstrip("/").rpartition("/")
            if not name or storage.endswith(":/"):
                raise UserError(f"'{search}': names no search; write an address like s3://BUCKET/runs/NAME")
            return cls(f"{storage}{mark}{query}", name)
        if not search or "\0" in search:
            raise UserError(f"'{search!r}': names no search; write its name or the path of its folder")
        if os.sep not in search and search not in (".", ".."):
            named = cls(absolute(storage_path), search)
            here = Path(search).absolute()
            if named.remote or os.path.exists(named.folder / FILE) or not os.path.exists(here / FILE):
                return named
        folder = Path(absolute(search))
        return cls(str(folder.parent), folder.name)

    @property
    def remote(self) -> bool:
        """Whether trials are kept at a remote address."""
        return "://" in self.storage

    @property
    def address(self) -> str:
        """The folder, or the remote address, with the trials' files."""
        return _join(self.storage, self.name)

    @property
    def folder(self) -> Path:
        """The folder with the store, which is in the cache of this machine if the trials are remote."""
        if not self.remote:
            return Path(self.storage) / self.name
        return cache_dir() / "searches" / self.address.partition("?")[0].replace("://", "/")

    def inside(self, path: str) -> str:
        """Return the absolute path or address of a file, from its path in the search's folder."""
        return _join(self.address, path)

    @property
    def argument(self) -> str:
        """The shortest text by which a command line in the current folder finds the search."""
        return shlex.quote(self.name if absolute(DEFAULT_STORAGE) == self.storage else self.address)

    @property
    def resume_command(self) -> str:
        """The command line that resumes the search, from the current folder."""
        return f"{program()} --resume {self.argument}"

    def __str__(self) -> str:
        return self.address


def inner_path(path: str) -> str:
    """Return the path of a checkpoint in its search's folder, from its full path.

    >>> inner_path("/data/runs/mine/trial-003.2/checkpoint_000004")
    'trial-003.2/checkpoint_000004'
    """
    return str(PurePosixPath(*PurePosixPath(path).parts[-2:]))


def absolute(storage_path: str) -> str:
    """Return a folder as an absolute path; a remote address stays as it is."""
    if "://" in storage_path:
        return storage_path
    return os.path.abspath(Path(storage_path).expanduser())


def _join(folder: str, name: str) -> str:
    """Return the path or address of a file in a folder; options of an address (``?``) stay at its end."""
    if "://" not in folder:
        return os.path.join(folder, name)
    address, mark, query = folder.partition("?")
    return f"{address.rstrip('/')}/{name}{mark}{query}"
