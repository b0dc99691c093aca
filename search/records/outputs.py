"""What trials have put out for each row of a split, from which luck is told."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np

from search.records.files import write_whole
from trainables.errors import UserError
from trainables.trial.outputs import Outputs

#: Folder of the outputs in a search's folder.
FOLDER = "outputs"


class KeptOutputs:
    """The outputs of finished trials in a search's folder: a file for each trial and split.

    Outputs are additional: without them, or if a file is damaged, the luck of a trial is unknown, and nothing
    else changes.

    Args:
        folder: The search's folder on this machine.
        fetch: Returns the content of a file of the search's remote folder, or None if there is none; raises
            ``UserError`` if it cannot be reached. None for a search that is on this machine.
    """

    def __init__(self, folder: Path, fetch: Callable[[str], bytes | None] | None = None) -> None:
        self._folder = folder
        self._fetch = fetch

    def write(self, trial_id: str, split: str, outputs: Outputs) -> None:
        """Keep the outputs of a trial, in one step; earlier ones are replaced.

        Args:
            trial_id: The trial's name.
            split: ``validation`` or ``test``.
            outputs: The outputs, see ``trainables.trial.outputs.compact``.

        Raises:
            OSError: If the disk does not take them.
        """
        path = self._folder / _name(trial_id, split)
        path.parent.mkdir(exist_ok=True)
        content = BytesIO()
        np.save(content, outputs)
        write_whole(path, content.getvalue())

    def read(self, trial_id: str, split: str) -> Outputs | None:
        """Return the outputs of a trial; None if there are none, or if they cannot be read."""
        name = _name(trial_id, split)
        try:
            content = self._content(name)
            found = None if content is None else np.load(BytesIO(content), allow_pickle=False)
        except (OSError, EOFError, ValueError, UserError):
            return None
        return found if isinstance(found, np.ndarray) and found.dtype == np.float16 else None

    def _content(self, name: str) -> bytes | None:
        try:
            return (self._folder / name).read_bytes()
        except FileNotFoundError:
            return self._fetch(name) if self._fetch is not None else None


def _name(trial_id: str, split: str) -> str:
    return f"{FOLDER}/{trial_id}.{split}.npy"
