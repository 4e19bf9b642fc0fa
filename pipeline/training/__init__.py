"""How a network learns: losses, negative sampling, the training loop, on one process or several."""
