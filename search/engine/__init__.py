"""The engine chooses the next trial: it asks the sampler, refuses what cannot fit and tells results."""
