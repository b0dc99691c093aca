"""What another machine runs to say what is there.

These functions are sent with their code, and import nothing but the standard library unless they have to: the
machine may lack this program, or have another version of it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import pickle
import platform
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

#: The packages that trials run.
PACKAGES = ("search", "spaces", "trainables")
#: What is lacking where this program itself cannot be used.
PROGRAM = "program"
#: Distributions on whose versions results depend.
VERSIONS = ("torch", "transformers", "ray")
#: Seconds in which a file that another machine has written must be seen; network file systems take a while.
_SEEN = 3.0
#: Tries each GPU that nobody uses. A device whose memory is taken is one that works.
_TRY_CUDA = """
import sys, torch
torch.cuda.init()
for index in range(torch.cuda.device_count() if sys.argv[1] == "idle" else 0):
    try:
        (torch.ones(8, 8, device=f"cuda:{index}") @ torch.ones(8, 8, device=f"cuda:{index}")).sum().item()
    except torch.cuda.OutOfMemoryError:
        pass
"""


def facts() -> dict[str, Any]:
    """Return the versions of what trials run, and a hash of each file of this program, by its name."""
    return {
        "python": platform.python_version(),
        "executable": sys.executable,
        **{name: _version(name) for name in VERSIONS},
        "files": files(),
        "folder": folder(),
    }


def files() -> dict[str, str]:
    """Return a hash of each Python file of the packages, as this process imports them."""
    found = {}
    for package in PACKAGES:
        spec = find_spec(package)
        for root in (spec and spec.submodule_search_locations) or ():
            for path in sorted(Path(root).rglob("*.py")):
                name = f"{package}/{path.relative_to(root).as_posix()}"
                found[name] = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    return found


def folder() -> str | None:
    """Return the folder from which this process imports the program; None if it cannot."""
    spec = find_spec(PACKAGES[0])
    roots = (spec and spec.submodule_search_locations) or ()
    return next((str(Path(root).parent) for root in roots), None)


def code_hash(hashes: dict[str, str]) -> str:
    """Return one hash for those of all files; empty if there are none."""
    text = "\n".join(f"{name} {digest}" for name, digest in sorted(hashes.items()))
    return hashlib.sha256(text.encode()).hexdigest()[:12] if hashes else ""


def other_program(code: str, versions: dict[str, str]) -> str | None:
    """Return in what this machine's program or libraries differ; None if they do not.

    Args:
        code: What ``code_hash`` has to be.
        versions: The version that each distribution has to have.
    """
    found = code_hash(files())
    if found != code:
        return f"has other code than the node of the search (version {found or 'absent'}, not {code})"
    for name, wanted in versions.items():
        if public(_version(name)) != public(wanted):
            return f"has {name} {_version(name)}, not {wanted}"
    return None


def public(number: str) -> str:
    """Return a version without what says for which device it was built (``+cpu``)."""
    return number.partition("+")[0]


def meet(filesystem: bytes, marker: str, own: str, content: bytes) -> str | None:
    """Read a file that the driver has written, and write one beside it; return in words what fails.

    Args:
        filesystem: The file system of the storage, pickled.
        marker: Path of the driver's file.
        own: Path of the file to write.
        content: What both files hold.
    """
    try:
        storage = pickle.loads(filesystem)
        if not sees(storage, marker, content):
            return "is another one: what was just written here is not there"
        with storage.open_output_stream(own) as stream:
            stream.write(content)
    except Exception as error:  # those of file systems, and of what is not installed
        return f"cannot be used ({said(error)})"
    return None


def lacks(provisions: bytes) -> list[tuple[str, str]]:
    """Return what a machine lacks for trials, each with a reason.

    Args:
        provisions: What trials need, pickled; see ``search.backends.base.Provisions``.
    """
    try:
        found: list[tuple[str, str]] = pickle.loads(provisions).lacking()
    except Exception as error:  # of whatever is on this machine
        return [(PROGRAM, f"cannot be used ({said(error)})")]
    return found


def cuda(seconds: float, *, idle: bool) -> str | None:
    """Return in words what keeps programs from using this machine's GPUs; None if nothing does.

    It is found out in a process of its own: what a process takes of a GPU, it keeps as long as it lives.

    Args:
        seconds: Most seconds that it may take.
        idle: Whether nobody uses the GPUs, so that a small operation harms nobody.
    """
    # Ray may hide GPUs from processes that have asked for none, by an empty value.
    hidden = {"CUDA_VISIBLE_DEVICES"} if not os.environ.get("CUDA_VISIBLE_DEVICES") else set()
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    command = [sys.executable, "-c", _TRY_CUDA, "idle" if idle else "used"]
    try:
        subprocess.run(command, env=environment, timeout=seconds, capture_output=True, text=True, check=True)
    except subprocess.CalledProcessError as error:
        lines = str(error.stderr).strip().splitlines()
        return lines[-1] if lines else f"exit code {error.returncode}"
    except subprocess.TimeoutExpired:
        return f"no answer in {seconds:.0f} s"
    except OSError as error:
        return said(error)
    return None


def sees(storage: Any, path: str, content: bytes) -> bool:
    """Return whether a file holds something, which another machine has just written."""
    until = time.monotonic() + _SEEN
    while True:
        with contextlib.suppress(FileNotFoundError), storage.open_input_stream(path) as stream:
            if bytes(stream.read()) == content:
                return True
        if time.monotonic() > until:
            return False
        time.sleep(0.1)


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "absent"


def said(error: Exception) -> str:
    """Return an error in a line; a mistake that this program itself names needs no class."""
    lines = str(error).strip().splitlines()
    text = lines[0] if lines else ""
    name = type(error).__name__
    return text if name == "UserError" else f"{name}: {text}" if text else name
