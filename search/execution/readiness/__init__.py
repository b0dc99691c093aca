"""Whether the machines of a cluster run trials as this one would: asked before the first trial, and later."""
