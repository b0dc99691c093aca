"""Trained models as folders, which load and answer without a search."""
