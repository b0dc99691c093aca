"""Whether the Hugging Face hub answers, asked before its libraries retry for half a minute."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit
from urllib.request import getproxies


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
