"""What is tried next: it asks the sampler, refuses what cannot fit, and tells what came of it."""
