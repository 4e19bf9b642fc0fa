"""From the outbox to the store, in order and in the background, and questions to the store.

What a process writes goes through its outbox, so that no run dies of its server or waits for it.
What it asks the store waits until the store has what was written before, and a while for a server
that is away for a moment.
"""

from __future__ import annotations

import logging
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import mlflow
import requests
from mlflow.exceptions import MlflowException

from pipeline.errors import UserError
from pipeline.process import undisturbed
from pipeline.tracking.outbox import DAMAGED, REFUSED, Entry, Outbox
from pipeline.tracking.writes import merged, write

PATIENCE = "PIPELINE_PATIENCE"
PATIENCE_SECONDS = 120.0  # for a server that is away, at the end of a run or when it is asked
HURRY_SECONDS = 5.0  # the same when a person or a scheduler ends the process
UNDISTURBED_SECONDS = 2.0  # of them, in which nothing can cut the wait short
PAUSES = (0.2, 0.5, 1.0, 2.0)  # between attempts, the last for as long as it takes
PASSING = (401, 403, 408, 429)  # statuses below 500 after which a store may take the same later
SYNC = "python -m pipeline sync"

P = ParamSpec("P")
T = TypeVar("T")
log = logging.getLogger("pipeline")


@dataclass
class Known:
    """A run that this process has opened, as the store will know it: nobody else writes to it."""

    name: str
    experiment_id: str
    status: str
    tags: dict[str, str]
    params: dict[str, str]
    metrics: dict[str, float]
    """The last value of each."""
    steps: dict[str, set[int]]
    """At which each metric has been logged."""

    def note(self, part: str, rows: list[list[Any]]) -> None:
        """Remember what is logged, by part of a batch."""
        if part == "metrics":
            for key, value, _, step in rows:
                self.metrics[key] = value
                self.steps.setdefault(key, set()).add(step)
        else:
            kept = self.tags if part == "tags" else self.params
            kept.update((key, value) for key, value in rows)


class Delivery:
    """A thread that takes entries from an outbox to the store, as soon as that takes them."""

    def __init__(self, outbox: Outbox) -> None:
        self.outbox = outbox
        self.known: dict[str, Known] = {}
        self.trouble = ""
        self._uri = mlflow.get_tracking_uri()
        self._changed = threading.Condition()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._deliver, name="delivery", daemon=True)
        self._thread.start()

    def add(self, entry: Entry) -> None:
        """Put an entry on its way.

        Raises:
            OutboxError: it cannot be kept on disk.
        """
        self.outbox.add(entry)
        with self._changed:
            self._changed.notify_all()

    def settle(self, seconds: float) -> bool:
        """Wait until everything is delivered, as long as that gets on; whether it is.

        ``seconds`` is how long the store may take for one request, and be away.
        """
        with self._changed:
            delivered, until = -1, 0.0
            while self.outbox.waiting and self._thread.is_alive():
                if self.outbox.delivered > delivered:
                    delivered, until = self.outbox.delivered, time.monotonic() + seconds
                if not self._changed.wait(until - time.monotonic()):
                    break
        return not self.outbox.waiting

    def close(self) -> None:
        """Stop; what is not delivered stays in the outbox."""
        self._stopped.set()
        with self._changed:
            self._changed.notify_all()
        self._thread.join(HURRY_SECONDS)
        if not self._thread.is_alive():  # else it hangs in a request, and ends with the process
            self.outbox.close()

    def _deliver(self) -> None:
        attempts = 0
        while not self._stopped.is_set():
            with self._changed:
                self._changed.notify_all()
                while not self.outbox.waiting and not self._stopped.is_set():
                    self._changed.wait()
            try:
                client = mlflow.MlflowClient(self._uri)
                for entry, place in merged(self.outbox.pending()):
                    deliver(client, self.outbox, entry, place)
                    with self._changed:
                        self._changed.notify_all()
                    if self.trouble:
                        log.info("The tracking store %s takes metrics again.", shown_uri())
                    self.trouble, attempts = "", 0
                    if self._stopped.is_set():
                        return
            except Exception as error:
                if not self.trouble:
                    log.warning(
                        "The tracking store %s takes no metrics at the moment (%s). The run goes "
                        "on; what it logs is kept in %s until it can be delivered.",
                        *(shown_uri(), _short(error), self.outbox.folder),
                    )
                self.trouble = _short(error)
                self._stopped.wait(PAUSES[min(attempts, len(PAUSES) - 1)])
                attempts += 1


def deliver(client: mlflow.MlflowClient, outbox: Outbox, entry: Entry, place: int) -> None:
    """Make the store take one entry, or put it aside where the store never will.

    Raises:
        Exception: the store may take it later.
    """
    try:
        write(client, entry, outbox.folder / (entry.files or ""))
    except Exception as error:
        if may_pass(error):
            raise
        outbox.refuse(entry, _short(error))
        outbox.mark(place)
        return
    outbox.mark(place)
    if entry.files is not None:
        outbox.drop(entry.files)


def may_pass(error: Exception) -> bool:
    """Whether the store may take the same later: it is away, or busy, or does not let us in now."""
    if isinstance(error, requests.HTTPError) and error.response is not None:
        status = error.response.status_code
    elif isinstance(error, MlflowException):
        status = int(error.get_http_status_code())  # type: ignore[no-untyped-call]
    else:
        return isinstance(error, OSError)
    return status >= 500 or status in PASSING


_current: Delivery | None = None
_answered = False


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
            delivery.close()
    _tell_refused(delivery.outbox)


@dataclass(frozen=True)
class Left:
    """An outbox that an earlier process has left, after an attempt to deliver it."""

    folder: Path
    store: str
    requests: int
    """Taken by the store just now."""
    refused: int
    """Entries that the store will never take, or that could not be read; kept in the folder."""
    trouble: str
    """Why the store does not take the rest now; empty where there is none."""


def deliver_left() -> list[Left]:
    """Deliver what earlier processes have left for the store in use, as far as it takes it now."""
    left = []
    for outbox in Outbox.left():
        taken, trouble = 0, ""
        if outbox.store != shown_uri():
            trouble = f"it is for {outbox.store}: to deliver it, set MLFLOW_TRACKING_URI to that"
        else:
            try:
                client = mlflow.MlflowClient()
                for entry, place in merged(outbox.pending()):
                    deliver(client, outbox, entry, place)
                    taken += 1
            except Exception as error:
                trouble = _short(error)
        refused = outbox.kept(REFUSED) + outbox.kept(DAMAGED)
        left.append(Left(outbox.folder, outbox.store, taken, refused, trouble))
        outbox.close()
    return left


def ask(question: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """The store's answer, after it has what was written before; a server may be away for a while.

    A server that has never answered this process gets no time: its address may be wrong.

    Raises:
        MlflowException: what the store says; or it is still away.
        UserError: what was written before is not delivered yet.
    """
    global _answered
    until = time.monotonic() + patience()
    if _current is not None and not _current.settle(patience()):
        raise UserError(
            f"The tracking store {shown_uri()} cannot be asked before it has what was logged, and "
            f"it does not take that ({_current.trouble}). To deliver it later: {SYNC}"
        )
    attempts = 0
    while True:
        try:
            answer = question(*args, **kwargs)
        except MlflowException as error:
            away = mlflow.get_tracking_uri().startswith("http") and may_pass(error)
            if not away or not _answered or time.monotonic() >= until:
                raise
            if not attempts:
                log.warning("%s does not answer (%s): waiting.", shown_uri(), _short(error))
            time.sleep(PAUSES[min(attempts, len(PAUSES) - 1)])
            attempts += 1
        else:
            _answered = True
            return answer


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


def shown_uri() -> str:
    """The store in use, for people: without its password."""
    return re.sub(r"(://[^/@]*?):[^/]*@", r"\1:***@", mlflow.get_tracking_uri())


def _wait(delivery: Delivery, seconds: float) -> None:
    with undisturbed():  # an impatient second Ctrl-C must not leave the run RUNNING
        if delivery.settle(min(seconds, UNDISTURBED_SECONDS)):
            return
    log.warning("Waiting up to %.0f s for %s to take the rest.", seconds, shown_uri())
    if not delivery.settle(seconds):
        left = sum(1 for _ in merged(delivery.outbox.pending()))
        log.warning(
            "%d requests are not delivered to %s (%s). They are kept in %s; to deliver them: %s",
            *(left, shown_uri(), delivery.trouble or "too slow", delivery.outbox.folder, SYNC),
        )


def _tell_refused(outbox: Outbox) -> None:
    refused, damaged = outbox.kept(REFUSED), outbox.kept(DAMAGED)
    if refused or damaged:
        raise UserError(
            f"{outbox.folder}: the tracking store {shown_uri()} refused {refused} writes for good "
            f"and {damaged} could not be read again; they are kept there, with reasons, in the "
            f"files {REFUSED} and {DAMAGED}."
        )


def _short(error: BaseException) -> str:
    """An error in a line: HTTP libraries wrap theirs many times, and say most in the first."""
    inner: BaseException | None = error
    while inner is not None:
        if isinstance(inner, OSError) and inner.strerror:
            return inner.strerror
        inner = inner.__cause__ or inner.__context__
    return (str(error).splitlines() or [type(error).__name__])[0][:300]
