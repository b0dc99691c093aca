"""The names of the splits, and how much of one is read at once."""

from trainables.units import MIB

SPLITS = ("train", "validation", "test")

#: About how many bytes of rows are read at once; fewer rows are if they are large.
READ_BYTES = 64 * MIB
