"""What starts a cluster with a search on it: files, and the commands that use them."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from trainables.disk import writing
from trainables.errors import UserError


@dataclass(frozen=True)
class Plan:
    """Files, and the commands that use them.

    Attributes:
        files: Text of each file, by its path from the current folder.
        commands: Shell commands, which are run in that folder one after the other.
    """

    files: Mapping[str, str]
    commands: tuple[str, ...]

    def write(self, *, replace: Mapping[str, str] | None = None) -> list[str]:
        """Write the files; those that are there with the same text are left alone.

        Args:
            replace: Texts by path that nobody wrote by hand, so that they may be replaced. None replaces any.

        Returns:
            The paths that were written.

        Raises:
            UserError: If another file is in the place of one. Nothing was written then.
        """
        there = {path: _text(Path(path)) for path in self.files}
        for path, text in there.items():
            if replace is not None and text is not None and text not in (self.files[path], replace.get(path)):
                raise UserError(
                    f"{path} exists and holds something else; write to another one with --file, or replace "
                    "it with --force"
                )
        changed = [path for path, text in there.items() if text != self.files[path]]
        for path in changed:
            with writing(Path(path).parent, "run the command in another folder"):
                Path(path).write_text(self.files[path])
        return changed

    def run(self) -> None:
        """Run the commands.

        Raises:
            UserError: If one fails, which also says what was not run.
        """
        for number, command in enumerate(self.commands):
            print(f"$ {command}", flush=True)
            code = subprocess.run(command, shell=True).returncode
            if code:
                left = "; ".join(self.commands[number + 1 :])
                raise UserError(
                    f"`{command}` failed with exit code {code}{f'; not run: {left}' if left else ''}"
                )


def _text(path: Path) -> str | None:
    """Return the text of a file; None if there is none.

    Raises:
        UserError: If it is no text file, or cannot be read.
    """
    try:
        return path.read_text()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from error
