"""What stands behind a search's trials: training, or recorded ones. Setup and what is above it may use it."""
