"""Scores in, numbers out: full ranking under one mask rule, and the metrics of its lists."""
