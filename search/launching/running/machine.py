"""A machine that is reached over SSH, as ``ray up`` reaches it."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from trainables.errors import UserError

#: Exit code of ``ssh`` if it did not reach the machine, or was refused there.
_UNREACHED = 255
#: Exit code of ``rsync`` if a running search has removed files, such as old checkpoints, meanwhile.
_VANISHED = 24
#: Sets PATH and the variables of the nodes: a command without a terminal reads no profile.
_ENVIRONMENT = ". ~/.paretofuse.sh && "


class UnreachedError(UserError):
    """A machine is off, or does not let this one in."""


@dataclass(frozen=True)
class Machine:
    """A machine, and the account on it.

    Attributes:
        address: Its address.
        user: The account.
        key: Private SSH key; None leaves that to ``ssh``.
        proxy: Command through which ``ssh`` connects; None connects directly.
    """

    address: str
    user: str
    key: str | None = None
    proxy: str | None = None

    def run(self, command: str) -> str:
        """Run a command in the environment of a node.

        Returns:
            Its standard output.

        Raises:
            UnreachedError: If the machine is not reached.
            UserError: If the command fails.
        """
        done = subprocess.run(self._words(command), stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if done.returncode == _UNREACHED:
            raise UnreachedError(
                f"{self.user}@{self.address}: cannot be reached over SSH ({_last(done.stderr)})"
            )
        if done.returncode:
            reason = _last(done.stderr or done.stdout)
            raise UserError(f"{self.address}: `{command}` failed with exit code {done.returncode} ({reason})")
        return done.stdout

    def command(self, command: str) -> str:
        """Return a shell command that runs another one on the machine; that shell finds a key in ``~``."""
        return " ".join(word if word == self.key else shlex.quote(word) for word in self._words(command))

    def fetch(self, source: str, target: Path, exclude: Sequence[str] = ()) -> None:
        """Copy a file, or what is in a folder if ``source`` ends with a slash, to this machine.

        What is here already is not copied again.

        Args:
            source: Path on the machine.
            target: Path on this machine; folders are made.
            exclude: Patterns of what is left out, from the top of ``source``.

        Raises:
            UserError: If it cannot be copied.
        """
        target.parent.mkdir(parents=True, exist_ok=True)
        left_out = [f"--exclude={pattern}" for pattern in exclude]
        command = ["rsync", "--archive", "--protect-args", "-e", shlex.join(self._ssh()), *left_out]
        try:
            done = subprocess.run(
                [*command, f"{self.user}@{self.address}:{source}", str(target)],
                capture_output=True,
                text=True,
            )
        except FileNotFoundError:
            raise UserError(
                "rsync is not installed on this machine; install it, e.g. sudo apt install rsync"
            ) from None
        if done.returncode not in (0, _VANISHED):
            raise UserError(f"{self.address}:{source}: cannot be copied to {target} ({_last(done.stderr)})")

    def _words(self, command: str) -> list[str]:
        return [*self._ssh(), f"{self.user}@{self.address}", _ENVIRONMENT + command]

    def _ssh(self) -> list[str]:
        # As Ray itself connects: nodes come and go, and their host keys are not known beforehand.
        options = [
            "BatchMode=yes",
            "StrictHostKeyChecking=no",
            f"UserKnownHostsFile={os.devnull}",
            "LogLevel=ERROR",
        ]
        options += ["ConnectTimeout=15", *([f"ProxyCommand={self.proxy}"] if self.proxy else ())]
        key = ["-i", os.path.expanduser(self.key), "-o", "IdentitiesOnly=yes"] if self.key else []
        return ["ssh", *key, *(word for option in options for word in ("-o", option))]


def _last(text: str) -> str:
    """Return the last line of a program's output."""
    return (text.strip().splitlines() or ["without a word"])[-1]
