"""The formats of datasets, one file each. A reader is found by what is there, or named by the user."""

from trainables.data.readers.base import ALL, READERS, Found, Part, Reader, register_reader
from trainables.data.readers.finding import is_there, read_path, split_address
from trainables.registry import import_modules

import_modules(__name__, __path__)

__all__ = [
    "ALL",
    "READERS",
    "Found",
    "Part",
    "Reader",
    "is_there",
    "read_path",
    "register_reader",
    "split_address",
]
