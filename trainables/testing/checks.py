"""A check as data: whoever runs checks may name, choose and mark them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from trainables.errors import UserError


@dataclass(frozen=True)
class Check:
    """A check of one method, tower, supernet or sampler; calling it runs it.

    Attributes:
        function: Raises ``AssertionError`` if its subject does not pass.
        arguments: What it is called with; the name of the subject comes first.
        slow: Whether it is one of many of its kind, or takes seconds.
    """

    function: Callable[..., None]
    arguments: tuple[Any, ...]
    slow: bool = False

    def __call__(self) -> None:
        """Run it."""
        self.function(*self.arguments)

    def __str__(self) -> str:
        name = self.function.__name__.removeprefix("check_")
        return "-".join([name, *map(str, self.arguments)])


def run_all(checks: Iterable[Check]) -> None:
    """Run checks, and say of the first that fails which it is.

    Raises:
        AssertionError: If one fails.
    """
    for check in checks:
        try:
            check()
        except AssertionError as error:
            error.add_note(str(check))
            raise


@contextmanager
def refused(pattern: str, error: type[Exception] = UserError) -> Iterator[None]:
    """Check that what is done here is refused, with a message in which a pattern is found.

    Args:
        pattern: A regular expression.
        error: The kind of error.

    Raises:
        AssertionError: If it is done, or refused in other words.
    """
    message = None
    try:
        yield
    except error as refusal:
        message = str(refusal)
    assert message is not None, f"not refused; {pattern!r} was expected"
    assert re.search(pattern, message), f"{message!r} does not say {pattern!r}"
