"""The secret that the processes of a Ray cluster show each other, and whether this process has it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import ray
from ray.exceptions import AuthenticationError

from search.process import environment
from trainables.errors import UserError

MODE = "RAY_AUTH_MODE"
_TOKEN, _PATH, _FILE = "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "~/.ray/auth_token"
_COPY, _EXPORT = f"copy {_FILE} from the cluster's head to this machine", f"`export {MODE}=token`"
#: A made-up id of a cluster. Ray looks at the token before it refuses the id, and writes no warnings.
_NO_CLUSTER = "01" * 28
#: Seconds in which a cluster must answer.
_ANSWERING = 10


def own_token() -> str | None:
    """Return where this process has a token from, in words; None if it has none.

    Raises:
        UserError: If a variable names a file that has none.
    """
    loader = ray._raylet.AuthenticationTokenLoader.instance()
    loader.reset_cache()  # the file may be a new one
    try:
        found = loader.has_token(ignore_auth_mode=True)
    except AuthenticationError:
        raise UserError(f"{_PATH}={os.environ.get(_PATH)}: cannot be read, or is empty") from None
    finally:
        loader.reset_cache()  # with a token in it, Ray (2.60) asks for one even where there is none
    if not found:
        return None
    return f"the variable {_TOKEN}" if os.environ.get(_TOKEN) else os.environ.get(_PATH) or _FILE


def require_token(origin: str, host: str, port: int, *, here: bool) -> None:
    """Make sure that this process shows the token that a cluster demands, and none if it demands none.

    Workers talk to this process as it talks to them, so that both must show it or neither.

    Args:
        origin: Where the user has named the cluster.
        host: Host of the cluster's head.
        port: Its port.
        here: Whether the cluster was found on this machine. Like Ray, show it this machine's token unless
            told otherwise.

    Raises:
        UserError: If there is no token, or another one, or one too many.
    """
    token, mode = own_token(), os.environ.get(MODE, "").lower()
    shown = mode == "token"
    there = f"{origin}: the Ray cluster there"
    open_to_all = _accepts(host, port, "disabled")
    if open_to_all is None:
        return  # whatever is wrong there, Ray will say so
    if open_to_all and shown:
        raise UserError(
            f"{there} has no token, and its workers could not answer this program, which shows one: "
            f"`unset {MODE}` here, or start the cluster with {MODE}=token"
        )
    if open_to_all:
        return
    if token is None:
        raise UserError(
            f"{there} demands a token, and there is none here: {_COPY} and {_EXPORT}; {_PATH} or {_TOKEN} "
            "may say it instead"
        )
    if not (shown or (here and not mode)):
        raise UserError(f"{there} demands a token: {_EXPORT} lets this program show it that of {token}")
    if _accepts(host, port, "token") is False:
        instead = "" if token == _FILE else f" and `unset {_TOKEN} {_PATH}`"
        raise UserError(f"{there} does not accept the token of {token}: {_COPY}{instead}")
    os.environ[MODE] = "token"
    ray._raylet.Config.initialize("")


def _accepts(host: str, port: int, mode: str) -> bool | None:
    """Return whether a cluster talks to this process in a mode of authentication; None if it does not say."""
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    with _in_mode(mode):
        try:
            ray._raylet.GcsClient(address, cluster_id=_NO_CLUSTER).get_all_node_info(timeout=_ANSWERING)
        except AuthenticationError as error:
            return "WrongClusterID" in error.message
        except Exception:
            return None
    return True


@contextlib.contextmanager
def _in_mode(mode: str) -> Iterator[None]:
    """Let Ray's core authenticate in a mode; it reads the variable only when it is told to."""
    try:
        with environment({MODE: mode}):
            ray._raylet.Config.initialize("")
            yield
    finally:
        ray._raylet.Config.initialize("")
