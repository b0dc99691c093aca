"""How one optimisation step is run, for training as for memory prediction."""
