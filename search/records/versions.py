"""The versions with which a search was started."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

#: Packages on whose versions proposals, trials or stored states depend.
PACKAGES = ("paretofuse", "torch", "ray", "optuna", "transformers")


def installed() -> dict[str, str]:
    """Return the versions of Python and of the packages that matter; without a package, ``absent``."""
    return {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}}


def changes(name: str, then: Mapping[str, Any] | None) -> str | None:
    """Return a line that names what has another version now; None if nothing has.

    Args:
        name: The search's name.
        then: What ``installed`` returned when the search was started; None if that is unknown.
    """
    known, now = then or {}, installed()
    found = {what: (known[what], now[what]) for what in now if known.get(what, now[what]) != now[what]}
    if not found:
        return None
    before = ", ".join(f"{what} {old}" for what, (old, _) in found.items())
    return f"search '{name}' was started with {before}; this is {', '.join(new for _, new in found.values())}"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"
