"""ui: MLflow's own UI on the store in use, for this machine alone."""

from __future__ import annotations

import os
import sys

from pipeline.console import show_line
from pipeline.ops.server import check_port
from pipeline.tracking.links import leaderboard_address
from pipeline.tracking.runs import tracking_uri
from pipeline.tracking.schema import make_ready
from pipeline.tracking.views import current_experiment

HOST = "127.0.0.1"


def ui(port: int) -> None:
    """Become ``mlflow ui`` on the store in use; of a server, which has one, say where it is.

    Raises:
        UserError: the port is in use, or the store cannot be made.
    """
    uri = tracking_uri()
    if uri.startswith("http"):
        show_line(leaderboard_address(current_experiment()))
        return
    make_ready(uri)
    check_port(HOST, port)
    page = leaderboard_address(current_experiment(), port)
    show_line(f"The leaderboard, until Ctrl-C: {page}")
    flags = ["--host", HOST, "--port", str(port), "--workers", "1"]
    # In the place of this process, and with the URL, which may hold a password, where no other
    # user of the machine sees it.
    environment = {
        **os.environ,
        "MLFLOW_BACKEND_STORE_URI": uri,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # nothing here needs its workers
    }
    os.execve(sys.executable, [sys.executable, "-m", "mlflow", "ui", *flags], environment)
