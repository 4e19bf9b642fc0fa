"""What a command of ours needs on another node, to write to the same store as if it were here."""

from __future__ import annotations

import os
from collections.abc import Sequence
from urllib.parse import urlsplit

from pipeline.database import absolute, shown
from pipeline.errors import UserError
from pipeline.process import TRACKING_URI
from pipeline.tracking.runs import tracking_uri
from pipeline.tracking.track import ADOPTED, CODE_VERSION, code_version

TRAVELLING = (
    *("MLFLOW_", "PIPELINE_"),
    *("AWS_", "AZURE_", "GOOGLE_"),  # to stores of artifacts
    *("OMP_", "OPENBLAS_", "MKL_"),  # numbers of threads that somebody has chosen
)
STAYING = (ADOPTED, "PIPELINE_DATA_DIR")  # a run that is ours, and a folder that is here
THIS_MACHINE = ("localhost", "127.0.0.1", "::1", None)


def environment_elsewhere(others: Sequence[str]) -> dict[str, str]:
    """The environment of commands on other nodes; ``others`` are the hosts that are not this one.

    Raises:
        UserError: they could not reach the tracking store.
    """
    uri = tracking_uri()
    require_reachable(uri, others, f"The tracking store ({TRACKING_URI})", "an MLflow server")
    ours = {
        name: value
        for name, value in os.environ.items()
        if name.startswith(TRAVELLING) and name not in STAYING
    }
    version = " ".join(code_version().values())
    return {**ours, TRACKING_URI: absolute(uri), CODE_VERSION: version}


def require_reachable(url: str, others: Sequence[str], what: str, wanted: str) -> None:
    """Refuse a store that only this machine can reach, where there are ``others``.

    Raises:
        UserError: saying which hosts, and what is needed.
    """
    parts = urlsplit(url)
    is_file = parts.scheme.partition("+")[0] in ("", "file", "sqlite")
    if others and (is_file or parts.hostname in THIS_MACHINE):
        name = shown(url) if parts.scheme not in ("", "file", "http", "https") else url
        raise UserError(
            f"{what} is {name}, which other hosts of the cluster ({', '.join(others)}) cannot "
            f"reach: {wanted} is needed, by an address that they know (docs/cluster.md)."
        )
