"""Registries, which map names to fusion methods, tasks, spaces, samplers and the like."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterable
from typing import TypeVar

from trainables.errors import UserError, unknown

T = TypeVar("T")


class Registry(dict[str, T]):
    """A mapping from names to registered objects, in the order of registration.

    Args:
        kind: Noun for the objects in messages, e.g. ``method``.
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
        """Register an object under a name.

        Args:
            name: The name.
            thing: The object.
            module: Name of the module that registers it. The same module may register a name again, for
                example a plugin that failed and is loaded once more.

        Raises:
            UserError: If another module has already registered the name.
        """
        if name in self and self._modules.get(name) != module:
            raise UserError(f"there is a {self._kind} '{name}' already; choose another name")
        for listener in self._listeners:
            listener(name, thing, module)
        self[name] = thing
        self._modules[name] = module

    def listen(self, listener: Callable[[str, T, str], None]) -> None:
        """Call a function with name, object and module of every registration, past and future.

        If the function raises an error, the registration is refused.
        """
        for name, thing in self.items():
            listener(name, thing, self._modules[name])
        self._listeners.append(listener)


def import_modules(package: str, folder: Iterable[str]) -> None:
    """Import all modules of a package in alphabetical order, so that they register what they define.

    Args:
        package: The package's name.
        folder: The package's ``__path__``.
    """
    for module in pkgutil.iter_modules(folder):
        importlib.import_module(f"{package}.{module.name}")
