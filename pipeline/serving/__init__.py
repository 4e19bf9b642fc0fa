"""Models in, answers out: what is asked, within which bounds, and the lists for it."""
