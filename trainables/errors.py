"""The one exception that means "the input is wrong", as opposed to "the program is wrong"."""

from __future__ import annotations

from collections.abc import Iterable


class UserError(Exception):
    """A mistake in what the user gave us.

    The message is one line that names the thing, its value and what would be accepted. The command line
    prints it without a traceback and exits with code 2.
    """


def unknown(kind: str, name: str, known: Iterable[str]) -> UserError:
    """Return the error for a name that is not in a registry.

    Args:
        kind: What the name was taken for, e.g. ``"space"``.
        name: The name given.
        known: The names that exist.
    """
    return UserError(f"unknown {kind} '{name}'; known: {', '.join(sorted(known))}")
