"""Who runs a search, and with which code."""

from __future__ import annotations

import getpass
import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

from search.config.address import CREDENTIALS
from search.invocation import command_line

#: Variables that are set in a job of a cluster.
_OF_JOBS = ("SLURM_JOB_ID", "KUBERNETES_SERVICE_HOST", "PBS_JOBID", "LSB_JOBID")
_PACKAGES = ("torch", "ray", "optuna", "transformers", "mlflow", "pyarrow")
_LONGEST = 1000  # characters of a command line
_ROOT = Path(__file__).parents[2]


def origin_tags() -> dict[str, str]:
    """Return the tags of a run with its user, the command that it comes from, and the code's commit.

    The command has no secrets. The commit is left out unless the code runs from a git checkout of its own.
    """
    tags = {
        "mlflow.user": os.environ.get(CREDENTIALS[0]) or user(),
        "mlflow.source.name": command_line()[:_LONGEST],
        "mlflow.source.type": "JOB" if any(name in os.environ for name in _OF_JOBS) else "LOCAL",
    }
    commit = commit_of(_ROOT)
    return tags if commit is None else {**tags, "mlflow.source.git.commit": commit}


def user() -> str:
    """Return the name of the user who runs this process; ``unknown`` if the machine has none for it."""
    try:
        return getpass.getuser()
    except (ImportError, KeyError, OSError):
        return "unknown"


def commit_of(folder: Path) -> str | None:
    """Return the commit that is checked out in a folder; None if the folder is no git checkout itself."""
    if not (folder / ".git").exists():  # git would look in the folders above, too
        return None
    command = ["git", "-C", str(folder), "rev-parse", "HEAD"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip()


def versions() -> dict[str, str]:
    """Return the versions of the libraries on which results may depend, and of Python."""
    return {name: version(name) for name in _PACKAGES} | {"python": platform.python_version()}
