"""The address of MLflow, and the secrets in it, which are stored and shown nowhere."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus, unquote, urlsplit, urlunsplit

from search.records.place import absolute
from trainables.errors import UserError

DEFAULT = "sqlite:///mlflow.db"
OPTION = "--tracking-uri"
#: MLflow's variable for its address.
VARIABLE = "MLFLOW_TRACKING_URI"
#: MLflow's variables for the credentials of a server.
CREDENTIALS = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")

#: Stands for a secret wherever an address is stored or shown.
HIDDEN = "***"
_SECRET_KEY = re.compile(r"pass|pwd|token|secret|credential|odbc_connect|api_?key", re.IGNORECASE)
_USER = re.compile(r"//[^/\s:@]*:[^\s@]+@")


class TrackingAddress:
    """The address of an MLflow server or database.

    ``str`` gives the address with ``***`` for each secret: a password, or a parameter such as ``token``. This
    form is stored and shown. A secret stays in this object: copies for other processes do not have it.

    Args:
        full: The address with its secrets; ``***`` stands for one that is not known.
        shown: The address without its secrets.
        secrets: The secrets.
        origin: What gave the address, for messages: the option or the variable.
    """

    def __init__(self, full: str, shown: str, secrets: Iterable[str] = (), origin: str = OPTION) -> None:
        self.full = full
        self.secrets = tuple(secrets)
        self.origin = origin
        self._shown = shown

    @classmethod
    def parse(cls, text: str, origin: str = OPTION) -> TrackingAddress:
        """Read an address; a relative path of an SQLite database is made absolute.

        Raises:
            UserError: If the database would be in memory, or if it is unclear where a password ends.
        """
        text = text.strip()
        if text.startswith(("http://", "https://")):
            return cls._of_server(text, origin)
        from sqlalchemy.engine import make_url
        from sqlalchemy.exc import ArgumentError

        try:
            url = make_url(text)
        except (ArgumentError, ValueError):
            if "@" in text:
                raise _unclear(text, origin) from None
            return cls(text, text, (), origin)
        if url.password is not None and text.count("@") > 1:
            raise _unclear(text, origin)
        if url.get_backend_name() == "sqlite":
            url = url.set(database=_database_file(url.database, text, origin))
            if make_url(url.render_as_string(hide_password=False)).database != url.database:
                raise UserError(
                    f"{origin}: the path {url.database} cannot be written in an address; choose one "
                    "without '%' and '?'"
                )
        query, secrets = {}, [] if url.password is None else [str(url.password), _raw_password(text)]
        for name, value in url.query.items():
            hide = _SECRET_KEY.search(name)
            query[name] = HIDDEN if hide else value
            secrets += [] if not hide else [value] if isinstance(value, str) else value
        full = url.render_as_string(hide_password=False)
        # Not percent-encoded, so that it is shown as it is known.
        shown = url.set(query=query).render_as_string(hide_password=True).replace(quote_plus(HIDDEN), HIDDEN)
        return cls(full, shown, tuple(secrets), origin)

    @classmethod
    def _of_server(cls, text: str, origin: str) -> TrackingAddress:
        try:
            parts = urlsplit(text)
            clear = (parts.port or 1) and "@" not in f"{parts.path}{parts.query}{parts.fragment}"
        except ValueError:  # the port is no number
            clear = False
        if not clear:
            raise _unclear(text, origin)
        secrets: list[str] = []
        netloc = parts.netloc
        if parts.password is not None:
            secrets += [unquote(parts.password), parts.password]
            netloc = f"{parts.username}:{HIDDEN}@{netloc.rpartition('@')[2]}"
        query = []
        for pair in filter(None, parts.query.split("&")):
            name, _, value = pair.partition("=")
            hide = _SECRET_KEY.search(name)
            secrets += [unquote(value), value] if hide else []
            query.append(f"{name}={HIDDEN}" if hide else pair)
        shown = urlunsplit(parts._replace(netloc=netloc, query="&".join(query)))
        return cls(text, shown, tuple(secrets), origin)

    @classmethod
    def by_default(cls, environment: Mapping[str, str] = os.environ) -> TrackingAddress:
        """Return the address in ``MLFLOW_TRACKING_URI``, or else a database in the working folder."""
        text = environment.get(VARIABLE, "").strip()
        return cls.parse(text, VARIABLE) if text else cls.parse(DEFAULT)

    def __str__(self) -> str:
        return self._shown

    def __repr__(self) -> str:
        return f"TrackingAddress({self._shown!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TrackingAddress) and self._shown == other._shown

    def __hash__(self) -> int:
        return hash(self._shown)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str, str]]:
        return TrackingAddress.parse, (self._shown, self.origin)

    @property
    def is_server(self) -> bool:
        """Whether the address is one of a server that speaks HTTP."""
        return self.full.startswith(("http://", "https://"))

    @cached_property
    def file(self) -> Path | None:
        """The file of an SQLite database; None for other addresses."""
        if not self.full.startswith("sqlite"):
            return None
        from sqlalchemy.engine import make_url

        return Path(make_url(self.full).database or "")

    def with_credentials(self, environment: Mapping[str, str] = os.environ) -> TrackingAddress:
        """Return the address with which this process can log in.

        A secret that is not known is looked up in the environment: for a server in the variables that MLflow
        itself reads, and for any address in ``MLFLOW_TRACKING_URI``, if it names the same place.

        Raises:
            UserError: If there is none.
        """
        if HIDDEN not in self.secrets:
            return self
        text = environment.get(VARIABLE, "").strip()
        other = TrackingAddress.parse(text, VARIABLE) if text else None
        if other and other._place == self._place and HIDDEN not in other.secrets:
            return TrackingAddress(other.full, self._shown, other.secrets, self.origin)
        again = f"give {OPTION} again with it, or set {VARIABLE} to the whole address"
        if self.is_server:
            name, password, token = (environment.get(variable) for variable in CREDENTIALS)
            if token or (name and password):
                parts = urlsplit(self.full)
                bare = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
                return TrackingAddress(bare, self._shown, (), self.origin)
            again = f"set {CREDENTIALS[0]} and {CREDENTIALS[1]}, or {again}"
        raise UserError(f"{self.origin} {self}: the password is not stored; {again}")

    def masked(self, text: str) -> str:
        """Return a text, such as an error's, with ``***`` in the place of each secret."""
        for secret in self.secrets:
            for form in {secret, quote(secret, safe=""), quote(secret), quote_plus(secret)} - {"", HIDDEN}:
                text = text.replace(form, HIDDEN)
        return _USER.sub(f"//{HIDDEN}@", text) if self.secrets else text

    @property
    def _place(self) -> tuple[Any, ...]:
        """What the address names, whoever logs in."""
        parts = urlsplit(self._shown)
        scheme = parts.scheme.partition("+")[0]
        return scheme, parts.hostname, parts.port, parts.path.rstrip("/")


def _raw_password(text: str) -> str:
    """Return the password of a database's address as it was written."""
    return text.partition("://")[2].rpartition("@")[0].partition(":")[2]


def _database_file(path: str | None, text: str, origin: str) -> str:
    """Return the absolute path of an SQLite database.

    Raises:
        UserError: If it is no file.
    """
    if not path or path == ":memory:":
        raise UserError(
            f"{origin} {_USER.sub('//', text)}: is a database in memory, which ends with the search; "
            "write sqlite:///FILE"
        )
    if path.startswith("file:"):
        raise UserError(f"{origin} {_USER.sub('//', text)}: write the path itself, as in sqlite:///FILE")
    return absolute(path)


def _unclear(text: str, origin: str) -> UserError:
    kind = text.partition("://")[0] if "://" in text else "…"
    return UserError(
        f"{origin} {kind}://{HIDDEN}: it is unclear where its password ends; in a user name or password "
        "write '@' as %40, ':' as %3A, '/' as %2F, '?' as %3F, '#' as %23 and '%' as %25"
    )
