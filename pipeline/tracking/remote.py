"""A tracking server as MLflow's client sees it, but for answers that say nothing.

A proxy whose server is away may answer 200, with nothing or with JSON of its own. MLflow takes that
for an answer in which everything is empty: a run that was made without an id, one without
parameters. Here it is an error like any other page of a proxy.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from mlflow.exceptions import MlflowException
from mlflow.store.tracking.rest_store import RestStore
from mlflow.tracking._tracking_service import utils  # MLflow has no public name for it
from mlflow.utils.credentials import get_default_host_creds

from pipeline.outbox.replies import FOREIGN, is_refusal

NEVER_EMPTY = ("Get", "Create")
PAGING = "next_page_token"  # an answer without it is the last page

_heard: set[str] = set()  # URLs of servers that have answered


class Remote(RestStore):
    """A tracking server."""

    def __init__(self, uri: str) -> None:
        super().__init__(partial(get_default_host_creds, uri))  # type: ignore[no-untyped-call]
        self.uri = uri

    def _call_endpoint(self, api: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            answer = super()._call_endpoint(api, *args, **kwargs)  # type: ignore[no-untyped-call]
        except MlflowException as error:
            if is_refusal(error):
                _heard.add(self.uri)
            raise
        # Lists may be empty, and so is the answer to a change. What is asked for by its id, or has
        # just been made, is not.
        name = str(api.DESCRIPTOR.name)
        single = {field.name for field in answer.DESCRIPTOR.fields if field.has_presence}
        if name.startswith(NEVER_EMPTY) and single - {PAGING} and not answer.ListFields():
            raise MlflowException(f"{FOREIGN}{name} was answered with nothing")
        _heard.add(self.uri)
        return answer


def has_answered(uri: str) -> bool:
    """Whether this process has had an answer of MLflow's own from a server."""
    return uri in _heard


def open_remote(store_uri: str, **_: Any) -> Remote:
    """What MLflow opens for the URL of a server."""
    return Remote(store_uri)


for scheme in ("http", "https"):
    utils._register(scheme, open_remote)  # type: ignore[no-untyped-call]
