"""How parameters move: Adam for all of them, or lazily for the embeddings that a step looked up."""
