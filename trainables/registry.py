"""Things by name: fusion methods, spaces, samplers."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterable
from typing import TypeVar

from trainables.errors import UserError, unknown

T = TypeVar("T")


class Registry(dict[str, T]):
    """What is registered under a name, in the order of registration.

    Args:
        kind: What the things are called, for messages: ``method``.
    """

    def __init__(self, kind: str) -> None:
        super().__init__()
        self._kind = kind
        self._modules: dict[str, str] = {}
        self._listeners: list[Callable[[str, T, str], None]] = []

    def __missing__(self, name: str) -> T:
        """Refuse a name that is not registered.

        Raises:
            UserError: Always; the message lists the names that exist.
        """
        raise unknown(self._kind, name, self)

    def register(self, name: str, thing: T, module: str) -> None:
        """Put something under a name.

        Args:
            name: The name.
            thing: What is called so.
            module: The module that registers it; it may do so again, as a user's own file that failed once
                does.

        Raises:
            UserError: If another module has registered something of that name.
        """
        if name in self and self._modules.get(name) != module:
            raise UserError(f"there is a {self._kind} '{name}' already; choose another name")
        for listener in self._listeners:
            listener(name, thing, module)
        self[name] = thing
        self._modules[name] = module

    def listen(self, listener: Callable[[str, T, str], None]) -> None:
        """Have a function called with name, thing and module of all that is registered, now and later.

        An error that it raises refuses the registration.
        """
        for name, thing in self.items():
            listener(name, thing, self._modules[name])
        self._listeners.append(listener)


def import_modules(package: str, folder: Iterable[str]) -> None:
    """Import all modules of a package, in alphabetical order, so that what they register is there.

    Args:
        package: The package's name.
        folder: Its ``__path__``.
    """
    for module in pkgutil.iter_modules(folder):
        importlib.import_module(f"{package}.{module.name}")
