"""The names of the splits."""

SPLITS = ("train", "validation", "test")
