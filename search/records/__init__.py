"""Trials, their results and the store on disk: the authoritative record of a search."""
