"""Runs and models on a tracking server: what the steps log there, and find there."""

from pipeline import outbox  # noqa: F401  # MLflow as it is to be, before anything imports it
from pipeline.tracking import schema  # noqa: F401  # every store of SQLite is made by it
