"""Runs and models on a tracking server: the only room that imports mlflow."""

import logging
import os

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
# Patience is delivery.py's: MLflow's own pauses grow to a minute, however soon a server is back.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")

import mlflow  # noqa: F401  # it sets its own log level when it is imported

logging.getLogger("mlflow").setLevel(logging.WARNING)

# Every store of SQLite is made by the one, every server asked by the other.
from pipeline.tracking import remote, schema  # noqa: E402, F401
