"""Checks as objects, which a test runner can name, select and mark."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from trainables.errors import UserError


@dataclass(frozen=True)
class Check:
    """A check of one method, tower, supernet or sampler. Call the object to run the check.

    Attributes:
        function: Function that raises ``AssertionError`` if its subject fails the check.
        arguments: The function's arguments. The first is the name of the subject.
        slow: Whether a quick test run may skip the check.
    """

    function: Callable[..., None]
    arguments: tuple[Any, ...]
    slow: bool = False

    def __call__(self) -> None:
        """Run the check."""
        self.function(*self.arguments)

    def __str__(self) -> str:
        name = self.function.__name__.removeprefix("check_")
        # Test ids have to be the same in each process: the text of an object may hold its address
        return "-".join([name, *(str(getattr(argument, "name", argument)) for argument in self.arguments)])


def run_all(checks: Iterable[Check]) -> None:
    """Run checks in order, and stop at the first that fails.

    Raises:
        AssertionError: If a check fails; a note names the check.
    """
    for check in checks:
        try:
            check()
        except AssertionError as error:
            error.add_note(str(check))
            raise


@contextmanager
def refused(pattern: str, error: type[Exception] = UserError) -> Iterator[None]:
    """Check that the code inside the context raises an error with a certain message.

    Args:
        pattern: Regular expression to find in the message.
        error: The class of the error.

    Raises:
        AssertionError: If no such error is raised, or its message does not match.
    """
    message = None
    try:
        yield
    except error as refusal:
        message = str(refusal)
    assert message is not None, f"not refused; {pattern!r} was expected"
    assert re.search(pattern, message), f"{message!r} does not say {pattern!r}"
