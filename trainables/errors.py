"""The exception that means that the user's input is wrong, as opposed to a fault of the program."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

#: Line breaks, other control characters, and what stands for bytes that are no text. They cannot be written
#: into every file, database and message.
UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def printable(text: str) -> str:
    """Return a text in which control characters, such as those of a file's name, are escaped."""
    return UNPRINTABLE.sub(lambda found: ascii(found[0])[1:-1], text)


class UserError(Exception):
    """A mistake in the user's input.

    The message is one line. It names the option or file, its value and the accepted values. The command line
    prints it without a traceback and exits with code 2.

    Args:
        message: The message. Control characters in it, such as those of a file's name, are shown escaped.
    """

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


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


def chain(error: BaseException) -> Iterator[BaseException]:
    """Yield the error, then the errors from which or while handling which it was raised."""
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or link.__context__
