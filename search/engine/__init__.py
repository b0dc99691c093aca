"""The engine decides what is tried next: it asks the sampler, refuses what cannot fit and tells results."""
