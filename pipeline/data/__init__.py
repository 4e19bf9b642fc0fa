"""Ratings in, Dataset out: split by a protocol, indexed, kept; raw ones are read in ``raw``."""
