"""Members of the front as models: folders, cards, what MLflow needs to serve them, how to use them."""
