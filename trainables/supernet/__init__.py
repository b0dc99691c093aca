"""Training one set of weights for a whole space, and evaluating its subnets."""
