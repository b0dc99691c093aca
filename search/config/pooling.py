"""The setting ``pooling``, in which each modality's pooling is written as ``MODALITY=POOLING``."""

from __future__ import annotations

from collections.abc import Sequence

from search.config.markers import named_values, split_names
from trainables.errors import UserError


def poolings(texts: Sequence[str]) -> dict[str, str]:
    """Return the pooling of each modality that the setting names, in alphabetical order.

    >>> poolings(["text=mean", "image=max,text=cls"])
    {'image': 'max', 'text': 'cls'}

    Args:
        texts: One or several, separated by commas, in each text. Of two for a modality the last one counts.

    Raises:
        UserError: If a text is not of that form, or if there is no such pooling.
    """
    from trainables.towers import POOLINGS

    named = named_values("--pooling", [name for text in texts for name in split_names(text)], "text=mean")
    for modality, pooling in named.items():
        if pooling not in POOLINGS:
            raise UserError(f"--pooling {modality}={pooling}: must be one of {', '.join(POOLINGS)}")
    return dict(sorted(named.items()))


def written_poolings(texts: Sequence[str]) -> tuple[str, ...]:
    """Return the one form of the setting that all texts of the same meaning have."""
    return tuple(f"{modality}={pooling}" for modality, pooling in poolings(texts).items())
