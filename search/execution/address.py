"""Where a Ray cluster is, and whether it answers; Ray itself would try a dead address for 14 minutes."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from dataclasses import dataclass

from ray._private import services

from search.execution.token import require_token
from trainables.errors import UserError

VARIABLE = "RAY_ADDRESS"
LOCAL = "local"
_EXPECTED = "the address must be HOST:PORT, auto or local"
#: Seconds in which a cluster must be reachable, and less for one that refuses to be: it may be starting.
_PATIENCE, _STARTING = 50.0, 15.0
#: Seconds in which an attempt must be answered.
_ANSWERING = 20.0
#: The first bytes of an HTTP/2 connection, which gRPC and thus Ray speak, and the type of its first answer.
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
_SETTINGS = 4


@dataclass(frozen=True)
class Address:
    """Where a search finds its Ray.

    Attributes:
        text: ``local``, ``auto``, or a host and a port.
        origin: Where the user has said so.
    """

    text: str
    origin: str

    @classmethod
    def of(cls, wanted: str | None) -> Address:
        """Return the address to use: the option, else the variable, else this machine.

        Like Ray, take ``auto`` to mean the variable if it is set.

        Args:
            wanted: The option ``address``.
        """
        variable = os.environ.get(VARIABLE)
        if variable and wanted in (None, "auto"):
            return cls(variable, f"{VARIABLE}={variable}")
        return cls(wanted or LOCAL, f"--address {wanted or LOCAL}")

    @property
    def local(self) -> bool:
        """Whether Ray is started on this machine."""
        return self.text == LOCAL

    @property
    def note(self) -> str:
        """A remark about an address that the command line does not show."""
        return f" (from the variable {VARIABLE})" if self.origin.startswith(VARIABLE) else ""

    @property
    def resolved(self) -> str:
        """The address, with that of the Ray on this machine in place of ``auto``.

        Raises:
            UserError: If no Ray is found on this machine.
        """
        if self.text != "auto":
            return self.text
        try:
            return str(services.canonicalize_bootstrap_address("auto"))
        except (ConnectionError, ValueError):
            way = f"`unset {VARIABLE}`" if self.note else "leave it out"
            raise UserError(
                f"{self.origin}: there is no running Ray on this machine; {way} to start one"
            ) from None

    @property
    def target(self) -> tuple[str, int]:
        """The host and the port of the cluster.

        Raises:
            UserError: If the address can be none, or if no Ray is found on this machine.
        """
        if "://" in self.text:
            raise UserError(
                f"{self.origin}: a search runs on a node of its cluster, and {_EXPECTED} there; from another "
                "machine, `ray job submit` starts it there (docs/cluster.md)"
            )
        host, _, port = self.resolved.rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
        if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 2**16:
            raise UserError(f"{self.origin}: {_EXPECTED}")
        if services.is_localhost(host):
            host = services.get_node_ip_address()  # as Ray itself does
        return host, int(port)

    def require_answer(self) -> None:
        """Check that a cluster answers there that this process can talk to; this takes at most a minute.

        Raises:
            UserError: If none does, or if it wants another token.
        """
        host, port = self.target
        reasons: list[str] = []
        # In another thread, because looking up a name cannot be interrupted.
        thread = threading.Thread(target=_probe, args=(host, port, reasons), daemon=True)
        thread.start()
        thread.join(_PATIENCE + 1)
        if thread.is_alive():
            reasons = ["the host's name could not be looked up in time"]
        if reasons:
            there = f" ({host}:{port})" if self.text == "auto" else ""
            raise UserError(f"{self.origin}{there}: no Ray cluster can be joined there: {reasons[0]}")
        require_token(self.origin, host, port, here=self.text == "auto")


def _probe(host: str, port: int, reasons: list[str]) -> None:
    """Try to reach an address; note why it failed in the end."""
    started = time.monotonic()
    while reason := _try(host, port, started + _PATIENCE - time.monotonic()):
        lasting, text = reason
        if lasting or time.monotonic() - started > _STARTING:
            reasons.append(text)
            return
        time.sleep(0.5)


def _try(host: str, port: int, seconds: float) -> tuple[bool, str] | None:
    """Return None if HTTP/2 is spoken, else whether to give up at once, and why."""
    answer = b""
    try:
        with socket.create_connection((host, port), timeout=min(_ANSWERING, max(1.0, seconds))) as connection:
            if os.environ.get("RAY_USE_TLS", "0") not in ("0", ""):
                return None  # it is encrypted: Ray has to find out
            connection.sendall(_PREFACE)
            with contextlib.suppress(ConnectionResetError):
                while len(answer) < 4 and (more := connection.recv(4 - len(answer))):
                    answer += more
    except socket.gaierror as error:
        return error.errno != socket.EAI_AGAIN, f"host {host} is not known ({error.strerror})"
    except TimeoutError:
        return True, "nothing answers"
    except OSError as error:
        return False, error.strerror or str(error)
    return None if answer[3:] == bytes([_SETTINGS]) else (True, "what answers there is not Ray")
