"""What jobs of batch systems have in common: each is one search, and goes on with it when it is repeated."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

from trainables.errors import UserError


@dataclass(frozen=True)
class JobSearch:
    """The search of a job, which has a name and a folder, so that the next job finds it.

    Attributes:
        name: Its name.
        storage: The folder that holds it.
        options: Its other options.
    """

    name: str
    storage: str
    options: tuple[str, ...]

    @classmethod
    def of(cls, search: Sequence[str], name: str, storage: str) -> JobSearch:
        """Return the search that command-line options describe.

        Args:
            search: The options.
            name: The name that it has if the options give it none.
            storage: The folder that holds it if the options name none.

        Raises:
            UserError: If the options resume a search, or if not a folder holds it.
        """
        parser = argparse.ArgumentParser(allow_abbrev=False, add_help=False)
        for option in ("--resume", "--name", "--storage-path"):
            parser.add_argument(option)
        given, others = parser.parse_known_args(list(search))
        if given.resume is not None:
            raise UserError(
                "--resume: the job resumes the search by itself if it is there; give the options of the "
                "search, with its --name"
            )
        storage = given.storage_path or storage
        if "://" in storage:
            raise UserError(f"--storage-path {storage}: must be a folder that all nodes of the job see")
        return cls(given.name or name, storage, tuple(others))
