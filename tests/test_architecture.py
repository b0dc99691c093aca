"""Which room may import which: arrows point one way."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

#: Packages, and the rooms of each, lowest first; rooms of one line may import each other.
PACKAGES = ("trainables", "spaces", "search")
ROOMS = {
    "trainables": (
        ("errors", "garbage", "notices", "progress", "units"),
        ("disk",),
        (
            "cache",
            "plugin",
            "configuration",
            "options",
            "parameters",
            "registry",
            "seeds",
            "reading_settings",
            "task_settings",
        ),
        ("towers",),
        ("methods",),
        ("tasks",),
        ("step",),
        ("data",),
        ("memory",),
        ("probe",),
        ("elastic",),
        ("model",),
        ("trial",),
        ("supernet",),
        ("testing",),
    ),
    "search": (
        ("units", "pictures", "templating", "invocation", "process", "signals", "confidential"),
        ("goals",),
        ("samplers",),
        ("schedulers",),
        ("records",),
        ("nodes",),
        ("placement",),
        ("precision",),
        ("config",),
        ("target",),
        ("checkpoints",),
        ("replay",),
        ("backends",),
        ("setup",),
        ("exporting",),
        ("reporting",),
        ("engine",),
        ("execution",),
        ("oneshot",),
        ("result",),
        ("ending",),
        ("running",),
        ("api",),
        ("sizing",),
        ("launching",),
        ("cli",),
        ("__main__",),
        ("testing",),
    ),
}

#: Rooms that use what the package exports.
ABOVE = {"trainables.testing", "search.cli", "search.__main__", "search.testing"}


@cache
def imports(path: Path) -> frozenset[str]:
    """Return the modules that a file imports anywhere, in a function or for type checking, too."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.module is not None, f"{path}: relative import"
            assert not node.level, f"{path}: relative import"
            found.add(node.module)
            if node.module in PACKAGES:
                found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(found)


def files() -> Iterator[tuple[str, Path]]:
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            yield ".".join(path.relative_to(ROOT).with_suffix("").parts), path


def room_of(module: str) -> str | None:
    """Return ``package.room``, or None for a package's own names."""
    package, *rest = module.split(".")
    if package not in ROOMS or not rest or rest[0] not in sum(ROOMS[package], ()):
        return None
    return f"{package}.{rest[0]}"


def rank(room: str) -> int:
    package, name = room.split(".")
    return next(i for i, line in enumerate(ROOMS[package]) if name in line)


def upward() -> set[tuple[str, str]]:
    found = set()
    for module, path in files():
        here = room_of(module)
        for imported in imports(path):
            there = room_of(imported)
            if here and there and here.split(".")[0] == there.split(".")[0] and rank(there) > rank(here):
                found.add((here, there))
    return found


@pytest.mark.parametrize("package", ROOMS)
def test_every_room_has_its_place(package: str) -> None:
    there = {
        path.stem
        for path in (ROOT / package).iterdir()
        if path.suffix == ".py" or (path.is_dir() and any(path.rglob("*.py")))
    }
    assert there - {"__init__"} <= set(sum(ROOMS[package], ()))


def test_packages_import_those_below_only() -> None:
    for module, path in files():
        package = module.split(".")[0]
        for imported in imports(path):
            other = imported.split(".")[0]
            if other in PACKAGES:
                assert PACKAGES.index(other) <= PACKAGES.index(package), f"{path} imports {imported}"


def test_rooms_import_those_below_only() -> None:
    assert not upward()


def test_no_room_needs_what_is_made_of_it() -> None:
    """What a package exports is made of its rooms, so a room below that imports it goes round in a circle."""
    for module, path in files():
        here = room_of(module)
        if here is not None and here not in ABOVE:
            assert here.split(".")[0] not in imports(path), path
