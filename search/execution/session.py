"""A Ray of one's own on this machine: out of other users' reach, and gone when the search is."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import site
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ray
from ray._private import ray_constants

from search.confidential import credentials_withheld
from search.execution import reaper
from search.execution.token import own_token
from search.process import environment
from search.signals import blocked, held, unblock, undisturbed
from trainables.errors import UserError
from trainables.trial.outcome import last_line

#: Most bytes of the path of a Unix socket; macOS has four fewer than Linux.
_LONGEST_SOCKET = 103 if sys.platform == "darwin" else 107
#: What Ray (2.60) appends to its folder for its longest socket.
_SOCKET = "/session_2000-01-01_00-00-00_000000_4194304/sockets/plasma_store"
#: Seconds that ending what a Ray left behind may take.
_PATIENCE = 15.0


@contextlib.contextmanager
def local_ray() -> Iterator[None]:
    """Start a Ray of this machine's, and end all of its processes at the end.

    It listens on this machine's own addresses only, and its folder is open to this user only.

    Raises:
        UserError: If there is no place for Ray's folder.
        KeyboardInterrupt: If the search was told to end while Ray started.
    """
    parent = private_folder()
    # Ray opens the folder that it is given to everybody, so it gets one inside a closed one.
    inside = parent / "r"
    with _reaped(parent):
        try:
            with undisturbed() as came:
                _start(inside)
            if came:
                raise KeyboardInterrupt
            yield
        finally:
            with undisturbed():
                _stop()


def is_own_ray() -> bool:
    """Return whether this process has started the Ray that it uses, as opposed to joining one."""
    node = ray._private.worker._global_node
    return node is not None and node.is_head()


def _start(folder: Path) -> None:
    _keep_token_private()
    try:
        with (
            # Ray (2.60) replaces 127.0.0.1 by the machine's address in its network, unless it believes that
            # clusters are not supported here.
            changed(ray_constants, "ENABLE_RAY_CLUSTER", False),
            handlers_kept(),
            blocked(),
            credentials_withheld(),
            environment(_for_workers()),
        ):
            ray.init(
                address="local",
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                _temp_dir=str(folder),
            )
    except (OSError, RuntimeError) as error:
        raise UserError(f"Ray cannot be started on this machine: {last_line(error)}") from error


def _for_workers() -> dict[str, str]:
    """Return what Ray's processes need in their environment, so that workers call ``unblock`` first.

    A job's runtime environment could say so, too. But the workers that Ray (2.60) starts in advance are none
    of such a job's: they would wait for nothing, while the search waits for others to start.
    """
    variables = {ray_constants.WORKER_PROCESS_SETUP_HOOK_ENV_VAR: f"{unblock.__module__}.{unblock.__name__}"}
    root = str(Path(__file__).parents[2])
    if root not in site.getsitepackages():  # a worker hears of the driver's paths with its first task
        variables["PYTHONPATH"] = os.pathsep.join(filter(None, (os.environ.get("PYTHONPATH"), root)))
    return variables


@contextlib.contextmanager
def changed(module: Any, name: str, value: Any) -> Iterator[None]:
    """Give a name of a module another value in a block."""
    before = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, before)


@contextlib.contextmanager
def handlers_kept() -> Iterator[None]:
    """Keep Ray from replacing the handler of SIGTERM when it starts or joins a cluster.

    Ray's own one ends the process wherever it is.
    """
    with changed(ray._private.utils, "set_sigterm_handler", lambda handler: None), held():
        yield


def _stop() -> None:
    node = ray._private.worker._global_node
    for started in node.all_processes.values() if node is not None else ():
        for info in started:
            # SIGTERM is blocked in them; Ray would wait a second for each of them.
            info.process.terminate = info.process.kill
    ray.shutdown()


@contextlib.contextmanager
def _reaped(folder: Path) -> Iterator[None]:
    """Have a folder removed at the end, and the processes killed that still use it; see ``reaper``."""
    process = subprocess.Popen(
        [sys.executable, "-P", reaper.__file__, str(folder), str(os.getpid())],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
        cwd="/",
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        if not process.stdout.readline():
            raise UserError(f"{folder}: nothing can be written there")
        yield
    finally:
        with undisturbed():
            process.stdin.close()
            process.stdout.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_PATIENCE)


def private_folder() -> Path:
    """Return a new folder that is open to this user only, and short enough for the paths of Ray's sockets.

    It is in ``RAY_TMPDIR`` or ``TMPDIR``. If these are too long, it is in ``/tmp`` or the like.

    Raises:
        UserError: If there is no such place.
    """
    wanted = os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()
    places = [wanted, "/tmp", "/var/tmp", os.environ.get("XDG_RUNTIME_DIR") or "/dev/shm"]
    tail = len(f"/{reaper.PREFIX}12345678/r{_SOCKET}")
    for place in places:
        if len(os.fsencode(os.path.abspath(place))) + tail > _LONGEST_SOCKET:
            continue
        with contextlib.suppress(OSError):
            return Path(tempfile.mkdtemp(prefix=reaper.PREFIX, dir=os.path.abspath(place)))
    raise UserError(
        f"TMPDIR {wanted}: Ray needs a folder for its sockets that can be written and whose path has at most "
        f"{_LONGEST_SOCKET - tail} bytes; set RAY_TMPDIR to one"
    )


def _keep_token_private() -> None:
    """Make sure that only this user can read the secret that Ray's processes show each other.

    Ray (2.60) writes it so that everybody can read it.

    Raises:
        UserError: If a variable names a file that has none.
    """
    if any(os.environ.get(name) for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")):
        own_token()  # it must be there
        return
    path = Path("~/.ray/auth_token").expanduser()
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent) as file:  # such a file is its owner's only
            file.write(secrets.token_hex(32))
            file.flush()
            with contextlib.suppress(FileExistsError):
                os.link(file.name, path)
        path.chmod(0o600)
    except OSError:  # there is no home that can be written, or the file is somebody else's
        if not os.access(path, os.R_OK):
            os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
