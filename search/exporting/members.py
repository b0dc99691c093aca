"""The models of a search, as a user asks for them: which there are, which one is meant, and a copy of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from search.exporting.models import DESCRIPTION
from search.records.files import read_document
from search.records.place import MODELS, Place
from search.records.remote import RemoteFolder
from search.records.shelf import State, look
from search.units import GIB, format_size
from trainables.errors import UserError
from trainables.model import copy_model


@dataclass(frozen=True)
class Member:
    """A member of a search's front that has a model.

    Attributes:
        place: Place of the search.
        name: Name of the model's folder.
        about: What the model's folder says of it, see ``search.exporting.about``.
        kinds: Kind of each of its modalities.
    """

    place: Place
    name: str
    about: Mapping[str, Any]
    kinds: Mapping[str, str]

    @property
    def trial_id(self) -> str:
        """The trial's name."""
        return str(self.about["trial_id"])

    @property
    def number(self) -> int:
        """Its place on the front, from 1."""
        return int(self.about["place"])

    @property
    def memory(self) -> int:
        """Memory of its training, in bytes."""
        return round(self.about["memory"]["memory"] * GIB)

    @property
    def loss(self) -> float:
        """Its value in the first objective that training decides; less is better."""
        objective = self.about["objective"]
        value = self.about["values"][objective["name"]]
        return value if objective["direction"] == "minimize" else -value


def members_of(place: Place) -> list[Member]:
    """Return the members of a search's front that have models, in the order of the front.

    Raises:
        UserError: If there is no search, or if it has no models; the message says why.
    """
    found = [
        Member(place, name, about, {modality: each["kind"] for modality, each in document["inputs"].items()})
        for name, document in _documents(place).items()
        if (about := document.get("about", {})).get("place") is not None
    ]
    if not found:
        raise UserError(f"search '{place.name}': {_why_none(place)}")
    return sorted(found, key=lambda member: member.number)


def choose(members: Sequence[Member], member: str | None, budget: int | None) -> Member:
    """Return the member that a user means: by default the best in the first objective that training decides.

    Args:
        members: The members, see ``members_of``.
        member: A number, from 1, or the name of a trial; None is for the best one.
        budget: Bytes that its training may take; None sets no limit.

    Raises:
        UserError: If there is no such member, or if none fits.
    """
    if member is not None:
        wanted = [each for each in members if member in (str(each.number), each.trial_id)]
        if wanted:
            return wanted[0]
        total = members[0].about["members"]
        listed = ", ".join(f"{each.number} ({each.trial_id})" for each in members)
        known = "has no model" if member.isdecimal() and 1 <= int(member) <= total else "is no member"
        raise UserError(f"--member {member}: {known} of the front; there are {listed}")
    fitting = [each for each in members if budget is None or each.memory <= budget]
    if not fitting:
        assert budget is not None
        least = min(members, key=lambda each: each.memory)
        raise UserError(
            f"--budget {format_size(budget)}: no member fits; the cheapest one, {least.trial_id}, takes "
            f"{format_size(least.memory)}"
        )
    return min(fitting, key=lambda each: (each.loss, each.number))


def copy_out(member: Member, target: Path, *, standalone: bool) -> None:
    """Copy the model of a member to a new folder, whole or not at all.

    Args:
        member: The member.
        target: The new folder.
        standalone: Whether the copy has its encoders with it.

    Raises:
        DiskFullError: If the disk is full.
        UserError: If the folder exists, or if the model cannot be copied.
    """
    place, inner = member.place, f"{MODELS}/{member.name}"
    if not place.remote:
        copy_model(place.folder / inner, target, standalone=standalone)
        return
    with TemporaryDirectory() as scratch:
        RemoteFolder(place).get_folder(inner, Path(scratch, member.name))
        copy_model(Path(scratch, member.name), target, standalone=standalone)


def _documents(place: Place) -> dict[str, dict[str, Any]]:
    """Return the descriptions of a search's models by the names of their folders."""
    if not place.remote:
        paths = sorted((place.folder / MODELS).glob(f"*/{DESCRIPTION}"))
        return {path.parent.name: read_document(path) for path in paths}
    remote = RemoteFolder(place)
    found = {name: remote.read(f"{MODELS}/{name}/{DESCRIPTION}") for name in remote.folders(MODELS)}
    return {name: json.loads(content) for name, content in found.items() if content is not None}


def _why_none(place: Place) -> str:
    """Return why a search has no models.

    Raises:
        UserError: If there is no search.
    """
    if place.remote and RemoteFolder(place).holds_store():
        return "it has no models yet; they are written when it ends"
    search = look(place)
    if read_document(place.folder / "config.json").get("replay"):
        return "it has no models: its trials were recorded, and recorded trials have no weights"
    if search.state is State.RUNNING:
        return f"it has no models yet; they are written when it ends ({search.note})"
    if search.front == 0:
        return "its front is empty, so it has no models"
    way = f"; `{search.go_on}` writes them" if search.go_on else ""
    return f"it has no models{way}"
