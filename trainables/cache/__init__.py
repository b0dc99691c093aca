"""The cache folder, which holds everything that is computed once per machine.

An entry is a file or folder that is complete from the moment that it has its name. Its manifest, a file
beside it, holds the length and checksum of each of its files, so that damage is noticed. The time of the
manifest is the time of the entry's last use, and a process that uses an entry holds a lock on the manifest.
"""

from trainables.cache.entries import build_once, building, checked, publish, ready
from trainables.cache.folder import ADVICE, cache_dir, make_folder

__all__ = ["ADVICE", "build_once", "building", "cache_dir", "checked", "make_folder", "publish", "ready"]
