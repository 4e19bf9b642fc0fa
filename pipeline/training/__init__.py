"""How a network learns: losses, negative sampling, the training loop, checkpoints."""
