"""The families of encoders that towers are made from, and the architectures of theirs that have names."""

from __future__ import annotations

from collections.abc import Mapping

from trainables.towers import bag_of_words, bert, clip, features, gpt2, speech, swin, vit
from trainables.towers.base import Architecture, Family

#: Families by ``model_type`` of transformers.
FAMILIES: Mapping[str, Family] = {
    name: family
    for module in (bert, gpt2, bag_of_words, vit, swin, clip, speech, features)
    for name, family in module.FAMILIES.items()
}

#: The kinds of modalities that there are encoders for.
KINDS = frozenset(family.kind for family in FAMILIES.values())

#: Architectures by the name after ``arch:``.
ARCHITECTURES: Mapping[str, Architecture] = {
    name: architecture
    for module in (bert, gpt2, vit, swin, clip, speech)
    for name, architecture in module.ARCHITECTURES.items()
}


def families_of(kind: str | None) -> str:
    """Return the families whose stored models may encode a kind of modality, in words.

    Args:
        kind: The kind. None, or a name that is no kind, stands for all kinds.
    """
    chosen = _chosen(kind)
    stored = [name for name in FAMILIES if name not in bag_of_words.FAMILIES]
    names = [name for name in stored if FAMILIES[name].kind in chosen]
    return ", ".join([*names, clip.BOTH] if chosen & clip.KINDS else names)


def architectures_of(kind: str | None) -> list[str]:
    """Return the names of the architectures that encode a kind of modality; see ``families_of``."""
    chosen = _chosen(kind)
    return [name for name, known in ARCHITECTURES.items() if FAMILIES[known.model_type].kind in chosen]


def _chosen(kind: str | None) -> frozenset[str]:
    return frozenset({kind}) if kind in KINDS else KINDS
