"""From an outbox to the tracking store: in order, in the background, as soon as it is taken."""

from __future__ import annotations

import logging
import re
import threading
import time

import mlflow

from pipeline.outbox.journal import Entry, Outbox
from pipeline.outbox.known import Known
from pipeline.outbox.replies import is_about_a_part, is_refusal, short
from pipeline.outbox.writes import halves, merged, write

PAUSES = (0.2, 0.5, 1.0, 2.0)  # between attempts, the last for as long as it takes
JOIN_SECONDS = 5.0  # for the request that is under way when delivery is to stop

log = logging.getLogger("pipeline")


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
        self._thread.join(JOIN_SECONDS)
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
                        *(shown_uri(), short(error), self.outbox.folder),
                    )
                self.trouble = short(error)
                self._stopped.wait(pause(attempts))
                attempts += 1


def deliver(client: mlflow.MlflowClient, outbox: Outbox, entry: Entry, place: int) -> None:
    """Make the store take one entry, or put aside what it says that it never will.

    Raises:
        Exception: the store may take it later.
    """
    taken = _is_taken(client, outbox, entry)
    outbox.mark(place)
    if taken and entry.files is not None:
        outbox.drop(entry.files)


def _is_taken(client: mlflow.MlflowClient, outbox: Outbox, entry: Entry) -> bool:
    """Whether the store has taken an entry; of a batch, what it does not refuse."""
    try:
        write(client, entry, outbox.folder / (entry.files or ""))
    except Exception as error:
        if not is_refusal(error):
            raise
        one, other = halves(entry) if is_about_a_part(error) else (entry, None)
        if other is None:
            outbox.refuse(entry, short(error))
            return False
        first = _is_taken(client, outbox, one)
        return _is_taken(client, outbox, other) and first
    return True


def pause(attempts: int) -> float:
    """Seconds to wait after so many attempts in vain."""
    return PAUSES[min(attempts, len(PAUSES) - 1)]


def shown_uri() -> str:
    """The store in use, for people: without its password."""
    return re.sub(r"(://[^/@]*?):[^/]*@", r"\1:***@", mlflow.get_tracking_uri())
