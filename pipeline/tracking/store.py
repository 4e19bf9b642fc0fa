"""The tracking store in use: what is written to it, and what it is asked.

What a process writes goes through its outbox, so that no run dies of its server or waits for it.
What it asks the store waits until the store has what was written before, and a while for a server
that is away for a moment.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ParamSpec, TypeVar

import mlflow
import requests
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import OperationalError

from pipeline.database import read_url
from pipeline.errors import UserError
from pipeline.mishaps import OFFLINE
from pipeline.outbox.delivery import Delivery, deliver, pause, shown_uri
from pipeline.outbox.journal import DAMAGED, REFUSED, Outbox
from pipeline.outbox.known import Known
from pipeline.outbox.replies import NotShownError, is_away, is_locked, short
from pipeline.outbox.shown import is_http, is_remote
from pipeline.outbox.writes import merged
from pipeline.process import undisturbed
from pipeline.tracking.dead import REPLACED, end_dead
from pipeline.tracking.remote import has_answered

PATIENCE = "PIPELINE_PATIENCE"
PATIENCE_SECONDS = 120.0  # for a server that is away, at the end of a run or when it is asked
HURRY_SECONDS = 9.0  # the same when a person ends the process, or a scheduler, which waits ten
UNDISTURBED_SECONDS = 2.0  # of them, in which nothing can cut the wait short
SYNC = "python -m pipeline sync"

# What a question may end with: of MLflow, of requests and SQLAlchemy below it, and of our own.
UNANSWERED = (MlflowException, requests.RequestException, OperationalError, NotShownError)

P = ParamSpec("P")
T = TypeVar("T")
log = logging.getLogger("pipeline")


_current: Delivery | None = None


@contextmanager
def delivering() -> Iterator[Delivery]:
    """What is written in a ``with`` block is delivered when the outermost such block ends.

    It waits a while for a store that is away, then says what is left and how to deliver it.

    Raises:
        OutboxError: there can be no outbox.
        UserError: the store has refused something for good; that is kept in the outbox.
    """
    global _current
    if _current is not None:
        yield _current
        return
    for left in deliver_left():
        if left.trouble and left.store == shown_uri():
            log.warning(
                "%s was left by an earlier process; %s does not take it now (%s). To "
                "deliver it: %s",
                *(left.folder, left.store, left.trouble, SYNC),
            )
    seconds = patience()
    _current = delivery = Delivery(Outbox.create(shown_uri()))
    try:
        yield delivery
    except KeyboardInterrupt:
        seconds = min(seconds, HURRY_SECONDS)
        raise
    finally:
        try:
            _wait(delivery, seconds)
        finally:
            _current = None
            _end_replaced(delivery.outbox)
            delivery.close()
    _tell_refused(delivery.outbox)


@dataclass(frozen=True)
class Left:
    """An outbox that an earlier process has left, after an attempt to deliver it."""

    folder: Path
    store: str
    requests: int
    """Taken by the store just now."""
    refused: list[str]
    """What the store does not take, in words, a line each; kept in the folder."""
    damaged: int
    """Entries that could not be read; kept in the folder."""
    trouble: str
    """Why the store does not take the rest now; empty where there is none."""


def deliver_left(*, again: bool = False) -> list[Left]:
    """Deliver what earlier processes have left for the store in use, as far as it takes it now, and
    end the runs of those that were killed.

    ``again`` sends what it has refused before, too.
    """
    left = []
    for outbox in Outbox.left():
        taken, trouble = 0, ""
        if outbox.store != shown_uri() and (outbox.waiting or outbox.has_runs):
            trouble = f"it is for {outbox.store}: to deliver it, set MLFLOW_TRACKING_URI to that"
        elif outbox.store == shown_uri():
            try:
                if again:
                    outbox.admit_again()
                client = mlflow.MlflowClient()
                for entry, place in merged(outbox.pending()):
                    deliver(client, outbox, entry, place)
                    taken += 1
                if outbox.has_runs:
                    end_dead(client, outbox.name)
                    outbox.end_all_runs()
            except Exception as error:
                trouble = short(error)
        refused, damaged = outbox.refusals(), outbox.kept(DAMAGED)
        left.append(Left(outbox.folder, outbox.store, taken, refused, damaged, trouble))
        outbox.close()
    return left


def ask(question: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """The store's answer, after it has what was written before; a server may be away for a while.

    A server that has never answered this process gets no time: its address may be wrong.

    Raises:
        MlflowException: what the store says.
        UserError: it is still away, what was written before is not delivered yet, or it is a file
            that is not there and cannot be made.
    """
    until, uri = time.monotonic() + patience(), mlflow.get_tracking_uri()
    if _current is not None and not _current.settle(patience()):
        raise UserError(
            f"The tracking store {shown_uri()} cannot be asked before it has what was logged, and "
            f"it does not take that ({_current.trouble}). To deliver it later: {SYNC}"
        )
    _require_place()
    attempts = 0
    while True:
        try:
            return question(*args, **kwargs)
        except UNANSWERED as error:
            locked = is_locked(error)
            if not is_away(error) or not (locked or is_http(uri)):
                raise
            if time.monotonic() >= until or not (locked or has_answered(uri)):
                way_on = "Let others end" if locked else "Start it, or correct MLFLOW_TRACKING_URI"
                raise UserError(
                    f"The tracking {'store' if locked else 'server'} {shown_uri()} does not answer "
                    f"({short(error)}). {way_on}; {OFFLINE}."
                ) from None
            if not attempts:
                log.warning("%s does not answer (%s): waiting.", shown_uri(), short(error))
            time.sleep(pause(attempts))
            attempts += 1


def _require_place() -> None:
    """Refuse at once where MLflow would try for two minutes to make a file that it may not."""
    uri = mlflow.get_tracking_uri()
    file = Path(read_url(uri).database or "") if uri.startswith("sqlite:///") else Path()
    if not file.exists() and file.parent.exists() and not os.access(file.parent, os.W_OK):
        raise UserError(
            f"{file}: there is no tracking store here, and none can be made (Permission denied). "
            f"Run the command in a folder of your own, or set MLFLOW_TRACKING_URI."
        )


def known(run_id: str) -> Known | None:
    """What this process knows of a run that it has opened, while it is delivering."""
    return _current.known.get(run_id) if _current is not None else None


def patience() -> float:
    """Seconds to wait for a server that is away.

    Raises:
        UserError: the environment says something else than a number.
    """
    try:
        return float(os.environ.get(PATIENCE, PATIENCE_SECONDS))
    except ValueError:
        raise UserError(f"{PATIENCE}={os.environ[PATIENCE]}: expected seconds, as 120.") from None


def _wait(delivery: Delivery, seconds: float) -> None:
    with undisturbed():  # an impatient second Ctrl-C must not leave the run RUNNING
        if delivery.settle(min(seconds, UNDISTURBED_SECONDS)):
            return
    if not shown_uri().startswith("sqlite"):
        log.warning("Waiting up to %.0f s for %s to take the rest.", seconds, shown_uri())
    elif delivery.trouble:  # a file does not come back; it may have been locked for a moment
        seconds = min(seconds, HURRY_SECONDS)
    if not delivery.settle(seconds):
        left = sum(1 for _ in merged(delivery.outbox.pending()))
        log.warning(
            "%d requests are not delivered to %s (%s). They are kept in %s; to deliver them: %s",
            *(left, shown_uri(), delivery.trouble or "too slow", delivery.outbox.folder, SYNC),
        )


def _end_replaced(outbox: Outbox) -> None:
    """End what nobody knows of the runs that this process has made, where that may be."""
    if not outbox.has_runs or outbox.open_runs or outbox.waiting:
        return
    try:
        client = mlflow.MlflowClient()
        if is_remote(client):
            end_dead(client, outbox.name, REPLACED)
        outbox.end_all_runs()
    except Exception as error:  # whoever comes next does it: the outbox says that there may be some
        log.debug("Runs of %s are not looked for now: %s", outbox.name, short(error))


def _tell_refused(outbox: Outbox) -> None:
    refused, damaged = outbox.kept(REFUSED), outbox.kept(DAMAGED)
    if refused or damaged:
        raise UserError(
            f"{outbox.folder}: the tracking store {shown_uri()} refused {refused} writes and "
            f"{damaged} could not be read again; they are kept there, with reasons, in the files "
            f"{REFUSED} and {DAMAGED}. To send them again: {SYNC}"
        )
