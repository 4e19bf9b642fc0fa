"""What a reply means: MLflow's own word, or that of something on the way to it.

A proxy whose server is away answers with pages of its own, of any status. None of them says that
MLflow has taken something, or that it never will.
"""

from __future__ import annotations

import sqlite3
from typing import Any

import requests
from mlflow.exceptions import MlflowException, RestException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE, ErrorCode
from sqlalchemy.exc import OperationalError

UNAUTHORIZED, FORBIDDEN, TIMEOUT, TOO_MANY = 401, 403, 408, 429
FOREIGN = (
    "API request to "  # how MLflow's client begins what it says of a reply that is not its own
)


class NotShownError(Exception):
    """A write was answered, but the store does not show what was written."""


def is_refusal(error: Exception) -> bool:
    """Whether MLflow itself says that it will never take the same."""
    status = _status(error)
    passing = (UNAUTHORIZED, FORBIDDEN, TIMEOUT, TOO_MANY)
    return _is_own(error) and status is not None and status < 500 and status not in passing


def is_away(error: Exception) -> bool:
    """Whether the store may take the same in a moment: it cannot be reached, or is busy.

    With another password it might, too, but not by itself: of these answers, only a proxy's page
    may pass. MLflow's own are plain text.
    """
    closed = _status(error) in (UNAUTHORIZED, FORBIDDEN) and "<html" not in str(error).lower()
    return not is_refusal(error) and not closed


def is_locked(error: Exception) -> bool:
    """Whether a file of SQLite is being written by other processes, for longer than is waited."""
    return isinstance(error, MlflowException | OperationalError) and "is locked" in str(error)


def is_about_a_part(error: Exception) -> bool:
    """Whether a refusal may be of one parameter, tag or point among others that are taken."""
    code = getattr(error, "error_code", None)
    return bool(code == ErrorCode.Name(INVALID_PARAMETER_VALUE))


def short(error: BaseException) -> str:
    """An error in a line: libraries wrap theirs many times, and say most in the first."""
    inner: BaseException | None = error
    while inner is not None:
        if isinstance(inner, OSError) and inner.strerror:
            return inner.strerror
        if isinstance(inner, sqlite3.Error):
            return str(inner)
        inner = inner.__cause__ or inner.__context__
    return (str(error).splitlines() or [type(error).__name__])[0][:300]


def _status(error: Exception) -> int | None:
    """The HTTP status of an error, or the one that stands for what MLflow says."""
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return error.response.status_code
    if isinstance(error, MlflowException):
        return int(error.get_http_status_code())  # type: ignore[no-untyped-call]
    return None


def _is_own(error: Exception) -> bool:
    """Whether it is MLflow that speaks: its server, or its client before it asks."""
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return _is_errors_form(_json(error.response))
    if isinstance(error, RestException):
        return _is_errors_form(error.json)
    return isinstance(error, MlflowException) and not str(error).startswith(FOREIGN)


def _json(response: requests.Response) -> Any:
    try:
        return response.json()
    except ValueError:
        return None


def _is_errors_form(reply: Any) -> bool:
    """Whether a JSON reply is an error as MLflow's server gives it."""
    return (
        isinstance(reply, dict)
        and reply.get("error_code") in ErrorCode.keys()  # noqa: SIM118  # of protobuf, no mapping
        and "message" in reply
    )
