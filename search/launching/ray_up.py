"""What the clusters have in common that ``ray up`` starts from a file."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from search.launching.settings import ClusterSettings
from trainables.errors import UserError
from trainables.options import Help


@dataclass(frozen=True, kw_only=True)
class RayUpSettings(ClusterSettings):
    """What is to be known of such a cluster."""

    data: Annotated[
        tuple[str, ...],
        Help(
            "Folder with data or encoders on this machine, which is copied to ~/data/NAME on every node. The "
            "option may be repeated.",
            metavar="FOLDER",
        ),
    ] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        for text in self.data:
            if not Path(text).expanduser().is_dir():
                raise UserError(f"--data {text}: there is no such folder on this machine")
        names = [folder.name for folder in self.folders]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise UserError(
                f"--data: both folders called {twice} would be ~/data/{twice} on the nodes; rename one"
            )

    @property
    def folders(self) -> tuple[Path, ...]:
        """The absolute paths of the folders that are copied."""
        return tuple(Path(os.path.abspath(Path(text).expanduser())) for text in self.data)

    @property
    def artifacts(self) -> str:
        """Folder or address of MLflow's artifacts, beside that of the results."""
        parent, _, name = self.storage_path.rstrip("/").rpartition("/")
        return f"{parent}/mlflow" if parent and not parent.endswith("/") else f"{parent}/{name}/mlflow"


def ray_up_values(cluster: RayUpSettings) -> dict[str, Any]:
    """Return the variables of the templates' common parts."""
    return {
        "file": cluster.file,
        "name": cluster.name,
        "options": cluster.search_options,
        "artifacts": cluster.artifacts,
        "data": cluster.folders,
    }


def ray_up_commands(file: str, search: tuple[str, ...], workers: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Return the commands that start the cluster, and a search on its head if there are options of one.

    Args:
        file: The cluster's file.
        search: The options of the search.
        workers: Addresses of workers that are to join before the search starts.
    """
    commands = [shlex.join(["ray", "up", "--yes", file])]
    if search:
        if workers:
            waiting = shlex.join(["python", "-m", "search.launching.running.waiting", *workers])
            commands.append(shlex.join(["ray", "exec", file, waiting]))
        searching = shlex.join(["python", "paretofuse/search.py", *search])
        commands.append(shlex.join(["ray", "exec", "--tmux", file, searching]))
    return ("ray get-auth-token --generate > /dev/null", *commands)
