"""Commands that a person is told to type: they work on the store that is in use."""

from __future__ import annotations

from pathlib import Path

import mlflow

OFFLINE = Path("data") / "offline" / "mlflow.db"  # the store of --offline


def command(words: str) -> str:
    """``python -m pipeline`` and these words, with ``--offline`` where that store is in use."""
    offline = " --offline" if mlflow.get_tracking_uri().endswith(str(OFFLINE)) else ""
    return f"python -m pipeline {words}{offline}"
