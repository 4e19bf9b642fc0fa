"""The outbox: writes to MLflow runs that survive whatever becomes of the process or the server.

It knows nothing of recommenders. Five names are all that others need:

    Outbox     a process's writes on local disk, in their order; those that others have left
    Entry      one write to one run
    Delivery   a thread that takes entries to the store in use, as soon as that takes them
    deliver    the same for one entry, at once
    Contents   what a run holds, or must hold to end as FINISHED

A write counts as taken once the store shows it, and twice is as once.
"""

import logging
import os

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
# Its links have the password of MLFLOW_TRACKING_URI in them; commands print their own.
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
# Patience is delivery.py's: MLflow's own pauses grow to a minute, however soon a server is back.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")

import mlflow  # noqa: F401  # it sets its own log level when it is imported

logging.getLogger("mlflow").setLevel(logging.WARNING)
