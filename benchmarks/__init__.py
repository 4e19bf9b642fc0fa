"""What this project costs, measured against what it replaces: ``python -m benchmarks.NAME``."""
