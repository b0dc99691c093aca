"""A small dataset in each layout that a reader reads, which its tests and benchmarks may change and damage.

Some need the extras ``hf`` and ``h5``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from trainables.testing.layouts import feature_sets as sets
from trainables.testing.layouts import published
from trainables.testing.layouts.formats import WRITERS, empty, rows
from trainables.testing.layouts.tables import write_table_file

_TABLES = ("mine.csv", "mine.jsonl", "mine.parquet", "mine.arrow")


def _published(name: str, layout: str, folder: Path) -> str:
    """Write a dataset of images and texts."""
    return f"{name}:{published.write(folder, published.LAYOUTS[name][layout]())}"


def _table(name: str, folder: Path) -> str:
    """Write a table with pictures beside it."""
    return str(write_table_file(folder, name))


def _rows(name: str, folder: Path) -> str:
    """Write the rows that all formats have in common."""
    return WRITERS[name](empty(folder), rows(name))


#: For each layout, a function that writes a small dataset into a folder and returns its address.
LAYOUTS: Mapping[str, Callable[[Path], str]] = {
    "mosi, MMSA aligned": lambda f: f"mosi:{sets.write_pickle(f / 'aligned_50.pkl', sets.mmsa())}",
    "mosi, MMSA unaligned": lambda f: f"mosi:{sets.write_pickle(f / 'unaligned_50.pkl', sets.mmsa(False))}",
    "mosi, MulT": lambda f: f"mosi:{sets.write_pickle(f / 'mosi_data.pkl', sets.mult())}",
    "iemocap, MulT": lambda f: f"iemocap:{sets.write_pickle(f / 'iemocap_data.pkl', sets.mult('emotions'))}",
    "iemocap, MMIN": lambda f: f"iemocap:{sets.write_mmin(f / 'iemocap')}",
    "mosei, MulT": lambda f: f"mosei:{sets.write_pickle(f / 'mosei_senti_data.pkl', sets.mult())}",
    "msrvtt, MMT": lambda f: f"msrvtt:{sets.write_msrvtt(f / 'msrvtt')}",
    **{name: partial(_table, name) for name in _TABLES},
    **{name: partial(_rows, name) for name in WRITERS},
    "mmimdb, HDF5": lambda f: f"mmimdb:{published.write_mmimdb_hdf5(f, published.pixels())}",
    **{f"{name}, {layout}": partial(_published, name, layout) for name, layout in published.EACH},
}
