"""Training memory: predicted on tensors without content, measured on real ones."""
