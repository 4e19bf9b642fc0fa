"""Numbers in, verdicts out: who is compared with whom, what is significant, and how it is said."""
