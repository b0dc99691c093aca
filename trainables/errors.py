"""The exception that means that the user's input is wrong, as opposed to a fault of the program."""

from __future__ import annotations

from collections.abc import Iterable


class UserError(Exception):
    """A mistake in the user's input.

    The message is one line. It names the option or file, its value and the accepted values. The command line
    prints it without a traceback and exits with code 2.
    """


class DiskFullError(UserError):
    """A disk or quota is full. The message names the folder, and says what to do.

    The name of this class appears in the last line of the error's text even where the class itself is lost,
    as in errors of Ray's workers.
    """


def unknown(kind: str, name: str, known: Iterable[str]) -> UserError:
    """Return the error for a name that is not in a registry.

    Args:
        kind: What the name should refer to, e.g. ``"space"``.
        name: The unknown name.
        known: The registered names.
    """
    return UserError(f"unknown {kind} '{name}'; known: {', '.join(sorted(known))}")
