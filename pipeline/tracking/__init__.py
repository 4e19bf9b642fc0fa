"""Runs and models on a tracking server: what the steps log there, and find there."""

from pipeline import outbox  # noqa: F401  # MLflow as it is to be, before anything imports it

# Every store of SQLite is made by the one, every server asked by the other.
from pipeline.tracking import remote, schema  # noqa: F401
