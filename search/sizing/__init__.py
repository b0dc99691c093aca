"""Sizing: how much of a space or of a setting fits into memory, without a search."""
