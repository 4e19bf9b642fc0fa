"""Ratings larger than memory: prepared piece by piece, with what cannot be held in a database."""
