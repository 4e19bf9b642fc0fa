"""The notebook's CSV ledger: read, repaired, its names understood."""
