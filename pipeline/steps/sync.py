"""sync: deliver what was logged while there was no server, or none that answered."""

from __future__ import annotations

import logging

from pipeline.console import waiting
from pipeline.errors import UserError
from pipeline.ops.offline import deliver_offline_store, offline_uri
from pipeline.outbox.delivery import shown_uri
from pipeline.steps.migrate import check
from pipeline.tracking.store import deliver_left

log = logging.getLogger("pipeline")


def sync() -> None:
    """Deliver to the store in use what outboxes here hold for it, and the runs of ``--offline``.

    Raises:
        UserError: something is not delivered still; the messages before say what and why.
    """
    undelivered = 0
    with waiting("Delivering"):
        found = deliver_left(again=True)
    for left in found:
        if left.store == offline_uri():
            continue  # delivered below
        log.info("%s: %d requests delivered to %s", left.folder, left.requests, left.store)
        for what in left.refused:
            log.warning("%s: refused by %s: %s", left.folder, left.store, what)
        if left.damaged:
            log.warning("%s: %d entries are damaged; they are kept", left.folder, left.damaged)
        if left.refused or left.damaged:
            log.warning("Remove the folder %s when you need it no more.", left.folder)
            undelivered += 1
        elif left.trouble:
            undelivered += 1
        if left.trouble:
            log.warning("%s: not delivered: %s", left.folder, left.trouble)
    migration = deliver_offline_store()
    if migration is not None:
        check(migration, "offline runs")
    if undelivered:
        raise UserError(f"{undelivered} outboxes are not delivered; nothing of them is lost.")
    log.info("Nothing that was logged here is left to deliver to %s.", shown_uri())
