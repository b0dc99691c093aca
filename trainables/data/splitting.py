"""Splits for datasets that come without them."""

from __future__ import annotations

from collections.abc import Mapping

from trainables.data.columns import Modality
from trainables.data.rows import Rows
from trainables.data.splits import SPLITS
from trainables.errors import UserError
from trainables.reading_settings import ReadingSettings


def with_all_splits(
    name: str, rows: Rows, modalities: Mapping[str, Modality], label: str | None, reading: ReadingSettings
) -> Rows:
    """Return rows with all splits; those that are missing are taken from the others.

    Args:
        name: The dataset's name in error messages.
        rows: The rows, of ``ALL`` or of some splits.
        modalities: The modalities.
        label: Name of the label column; None if there is none.
        reading: What the user says about reading.

    Raises:
        UserError: If a split cannot be made.
    """
    missing = [split for split in SPLITS if split not in rows.splits]
    raise UserError(f"dataset '{name}': has no {' and no '.join(missing)} split")
