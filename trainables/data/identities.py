"""What tells whether two cells of a modality hold the same picture, sound or text."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import compress

import numpy as np

from trainables.data.cells import digest
from trainables.data.columns import Modality
from trainables.data.files import FileRows
from trainables.data.kinds import KINDS, Content, Unreadable
from trainables.data.rows import Rows, SomeRows

#: Cells read at a time.
_READ = 512

#: The identity of a value that is missing.
MISSING = b""


def identity(content: Content) -> bytes | None:
    """Return what is equal for two contents if they are the same; None for one that cannot be read.

    Texts that differ in case or white space only are the same.

    >>> identity("A cat ") == identity("a  cat")
    True
    """
    if isinstance(content, Unreadable):
        return None
    return digest(" ".join(content.casefold().split()) if isinstance(content, str) else content)


#: The identity of a text without letters.
EMPTY = identity("")


def identities(rows: Rows, split: str, modality: Modality) -> Iterator[bytes | None]:
    """Yield the ``identity`` of each cell of a split in order.

    Args:
        rows: The rows.
        split: Name of the split.
        modality: The modality.
    """
    if isinstance(rows, SomeRows):  # so that files are not read again
        kept = np.zeros(rows.rows.count(rows.source(split)), dtype=bool)
        kept[rows.kept[split]] = True
        yield from compress(identities(rows.rows, rows.source(split), modality), kept)
        return
    if isinstance(rows, FileRows) and modality.column in rows.paths:
        yield from rows.digests(split, modality.column)
        return
    kind = KINDS[modality.kind]
    for batch in rows.batches(split, [modality.column], _READ):
        yield from map(identity, kind.contents(batch[modality.column]))
