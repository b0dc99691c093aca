"""The Hugging Face hub: whether it answers, asked before its libraries retry, and what was fetched."""

from __future__ import annotations

import socket
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies


def commit_of(location: str, revision: str | None = None) -> str | None:
    """Return the commit of a repository whose ``config.json`` was fetched; None if it was not.

    Args:
        location: Name of the repository.
        revision: A branch, tag or commit; None is the main branch.
    """
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(location, "config.json", revision=revision)
    return Path(found).parent.name if isinstance(found, str) else None


def hub_reachable() -> bool:
    """Return whether the hub can be reached from here; it takes at most three seconds."""
    from huggingface_hub import constants

    if constants.is_offline_mode():
        return False
    if getproxies():
        return True  # a direct connection would not show whether the proxy reaches the hub
    url = urlsplit(constants.ENDPOINT)
    try:
        socket.create_connection((url.hostname, url.port or 443), timeout=3).close()
    except OSError:
        return False
    return True
