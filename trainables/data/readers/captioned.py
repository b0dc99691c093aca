"""Folders with pictures or sounds and one table that names them."""

from __future__ import annotations

from pathlib import Path

from trainables.data.readers.base import Found, Reader, register_reader
from trainables.data.readers.finding import readers_of
from trainables.data.readers.listing import walk
from trainables.data.readers.media import is_hidden, is_metadata, media_kind
from trainables.errors import UserError
from trainables.reading_settings import ReadingSettings


@register_reader
class Captioned(Reader):
    """A folder with one table, such as ``captions.csv``, and pictures or sounds, also in folders in it."""

    name = "captioned"
    description = "one table of any format, such as captions.csv, beside the pictures or sounds that it names"
    rank = 2  # the names of tables may say more

    def recognises(self, path: Path) -> bool:
        """Return whether a folder has tables, none of them called metadata, and pictures or sounds."""
        if not path.is_dir() or not (tables := _tables(path)):
            return False
        folders = set()
        for folder, _, files in walk(path):
            if any(map(is_metadata, files)):
                return False
            if any(map(media_kind, files)):
                folders.add(folder)
        # Beside folders of classes, a JSON file is likely to say something about these
        alone = len(folders) > 1 and all(table.suffix.lower() == ".json" for table in tables)
        return bool(folders) and not alone

    def read(self, name: str, path: Path, settings: ReadingSettings) -> Found:
        """Return the rows of the table."""
        tables = _tables(path) if path.is_dir() else []
        if len(tables) != 1:
            listed = f" ({', '.join(table.name for table in tables[:3])})" if tables else ""
            raise UserError(
                f"dataset '{name}': has {len(tables)} tables{listed}; name one file; --format imagefolder or "
                "audiofolder reads the folder without them"
            )
        return readers_of(tables[0])[0].read(name, tables[0], settings)


def _tables(path: Path) -> list[Path]:
    """Return the files in a folder that a reader recognises."""
    files = sorted(file for file in path.iterdir() if file.is_file() and not is_hidden(file.name))
    return [file for file in files if readers_of(file)]
