"""Keeps secrets of this process out of the processes that it starts, and out of lists of processes."""

from __future__ import annotations

import ctypes
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

#: Variables that hold credentials of MLflow, or may hold them. Only the search itself talks to MLflow.
_WITHHELD = (
    "MLFLOW_TRACKING_URI",
    "MLFLOW_TRACKING_USERNAME",
    "MLFLOW_TRACKING_PASSWORD",
    "MLFLOW_TRACKING_TOKEN",
    "PARETOFUSE_OPTIONS",
)

#: What stands for a secret, and where secrets are in addresses: before ``@``, and in parameters.
_HIDDEN = "***"
_SECRETS = (
    re.compile(r"(?<=//)[^/\s@]*:[^\s@]+(?=@)"),
    re.compile(
        r"(?<=[?&;])([^=&;\s]*(?:pass|pwd|token|secret|credential|key|signature)[^=&;\s]*=)[^&;\s'\"]+", re.I
    ),
)


def without_secrets(text: str) -> str:
    """Return a text in which ``***`` stands for passwords and keys in addresses.

    >>> without_secrets("--storage-path s3://me:geheim@there/runs?api_key=17&region=here")
    '--storage-path s3://***@there/runs?api_key=***&region=here'
    """
    before, parameters = _SECRETS
    return parameters.sub(rf"\1{_HIDDEN}", before.sub(_HIDDEN, text))


@contextmanager
def credentials_withheld() -> Iterator[None]:
    """Take MLflow's credentials out of the environment; processes that are started meanwhile lack them."""
    before = {name: os.environ.pop(name) for name in _WITHHELD if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(before)


def blot_argument(address: str) -> None:
    """Overwrite an address in the command line of this process, which all users of the machine can list.

    Ray stores the command line, too. Only Linux lets a process change its own.

    Args:
        address: The address as it was written; what follows ``://`` is overwritten.
    """
    scheme, separator, rest = address.partition("://")
    blotted = f"{scheme}{separator}{'*' * len(os.fsencode(rest))}"
    sys.argv[:] = [argument.replace(address, blotted) for argument in sys.argv]
    with suppress(OSError, ValueError, IndexError):
        # Fields 48 and 49 of the file; the second field may hold spaces and ends with a parenthesis.
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        start, end = int(fields[45]), int(fields[46])
        at = ctypes.string_at(start, end - start).find(os.fsencode(address)) if start else -1
        if at >= 0:
            ctypes.memmove(start + at, blotted.encode(), len(blotted.encode()))
