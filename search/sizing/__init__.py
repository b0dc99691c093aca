"""How much fits: memory over spaces and settings, without a search."""
