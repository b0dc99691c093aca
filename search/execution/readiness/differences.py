"""What differs between a machine of the cluster and the one that runs the search."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import dataclass

from search.backends.base import Provisions
from search.execution.readiness.facts import NodeFacts
from search.execution.readiness.there import PACKAGES, VERSIONS, public

#: Files that a message names.
_NAMED = 3


@dataclass(frozen=True)
class Difference:
    """Something that keeps a machine from running trials.

    Attributes:
        node: The machine.
        what: What is wrong: ``code``, ``torch``, ``dataset /data/food``.
        there: How it is there.
        here: How it has to be.
        mend: A command that mends it, or what to do; empty if nothing can be said.
    """

    node: NodeFacts
    what: str
    there: str
    here: str
    mend: str = ""

    @property
    def sentence(self) -> str:
        """What is wrong, without the machine's name."""
        return f"{self.what}: {self.there}"


def of_code(node: NodeFacts, here: NodeFacts) -> list[Difference]:
    """Return in what the program and the versions of a machine differ from those here.

    Of versions, builds for other devices (``2.13.0+cpu``) are equal, and so are releases of one Python.
    """
    found = []
    if node.code != here.code:
        folders = " ".join(shlex.quote(f"{here.folder}/{package}") for package in PACKAGES)
        target = shlex.quote(f"{node.node_ip}:{node.folder or here.folder}/")
        mend = f"rsync -a --delete {folders} {target}"
        found.append(Difference(node, "code", _files(node, here), f"version {here.code}", mend))
    if _minor(node.python) != _minor(here.python):
        found.append(
            Difference(
                node, "Python", node.python, here.python, f"install Python {_minor(here.python)} there"
            )
        )
    for name in VERSIONS:
        there, wanted = getattr(node, name), getattr(here, name)
        if public(there) != public(wanted):
            install = f"{shlex.quote(node.executable)} -m pip install {name}=={public(wanted)}"
            found.append(Difference(node, name, there, wanted, f"ssh {node.node_ip} {install}"))
    return found


def of_provisions(
    node: NodeFacts, lacking: Iterable[tuple[str, str]], provisions: Provisions
) -> list[Difference]:
    """Return what a machine lacks for trials.

    Args:
        node: The machine.
        lacking: What it has answered.
        provisions: What trials need.
    """
    found = []
    for what, there in lacking:
        path = next((path for path in provisions.paths if what.endswith(path)), None)
        mend = f"rsync -aR {shlex.quote(path)} {node.node_ip}:/" if path else ""
        found.append(Difference(node, what, there, "is there", mend))
    return found


def _files(node: NodeFacts, here: NodeFacts) -> str:
    """Return in words in which files the program of a machine differs."""
    if not node.files:
        return "is not there"
    other = sorted({name for name, _ in node.files.items() ^ here.files.items()})
    more = f" and {len(other) - _NAMED} more" if len(other) > _NAMED else ""
    files = "file differs" if len(other) == 1 else "files differ"
    return f"{len(other)} {files}: {', '.join(other[:_NAMED])}{more}"


def _minor(version: str) -> str:
    return ".".join(version.split(".")[:2])
