"""The pooling that an encoder comes with, as sentence-transformers writes it beside the weights."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trainables.notices import tell
from trainables.towers.hub import hub_reachable

#: The file, in the encoder's folder or repository.
FILE = "1_Pooling/config.json"

#: Older files hold a switch for each way of pooling.
_SWITCH = "pooling_mode_"
#: Newer files hold the name of the way.
_NAME = "pooling_mode"
#: Our names of the ways, by the name in newer files and by the switch's in older ones.
_OURS = {
    "cls": "cls",
    "cls_token": "cls",
    "mean": "mean",
    "mean_tokens": "mean",
    "lasttoken": "last",
    "max": "max",
    "max_tokens": "max",
}


def stated_pooling(name: str, location: str, commit: str | None, accepted: Sequence[str]) -> str | None:
    """Return the pooling that the files of an encoder state, or None if they state none.

    A line tells the user if they state one that is not accepted, or several at once. It counts as none.

    Args:
        name: The encoder's name, for that line.
        location: The encoder's folder or hub name.
        commit: The commit of the hub repository, if it is known.
        accepted: The poolings that the encoder's family takes.
    """
    path = _find(location, commit)
    if path is None:
        return None
    try:
        ways = _ways(json.loads(path.read_text()))
    except (OSError, ValueError, AttributeError):
        ways = []
    if len(ways) == 1 and _OURS.get(ways[0]) in accepted:
        return _OURS[ways[0]]
    stated = " and ".join(ways) or "no pooling that could be read"
    tell(f"encoder '{name}': {FILE} states {stated}, which is not supported; {accepted[0]} is taken")
    return None


def stating(pooling: str) -> dict[str, str]:
    """Return the content of a file from which ``stated_pooling`` reads a pooling."""
    return {_NAME: next(theirs for theirs, ours in _OURS.items() if ours == pooling)}


def _ways(stated: dict[str, Any]) -> list[str]:
    """Return the names of the ways of pooling in a file's content, whose outputs would be concatenated."""
    named = stated.get(_NAME)
    if named is not None:
        return [str(way) for way in (named if isinstance(named, list) else [named])]
    return [key.removeprefix(_SWITCH) for key, on in stated.items() if key.startswith(_SWITCH) and on]


def _find(location: str, commit: str | None) -> Path | None:
    """Return the path of the file, which is fetched from the hub if need be; None if there is none."""
    if os.path.isdir(location):
        path = Path(location, FILE)
        return path if path.is_file() else None
    from huggingface_hub import hf_hub_download, try_to_load_from_cache

    cached = try_to_load_from_cache(location, FILE, revision=commit)
    if isinstance(cached, str):
        return Path(cached)
    if cached is not None or not hub_reachable():  # known to be absent, or not to be known
        return None
    try:
        return Path(hf_hub_download(location, FILE, revision=commit))
    except Exception:  # no such file, or no answer: the libraries' errors have no class in common
        return None
