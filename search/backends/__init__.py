"""Backends run trials: by training, or from a recording. Setup and the layers above may use them."""
