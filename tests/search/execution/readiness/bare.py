"""What made-up trials need; it imports nothing, so that nodes answer at once."""

from __future__ import annotations

import os


class Bare:
    """What trials need, and a node does not have where a variable says so."""

    paths = ("/data/food",)

    def lacking(self) -> list[tuple[str, str]]:
        return [("dataset /data/food", "is not there")] if os.environ.get("BARE") else []
