"""sync: deliver what could not be delivered when it was logged."""

from __future__ import annotations

import logging

from pipeline.errors import UserError
from pipeline.tracking.delivery import shown_uri
from pipeline.tracking.store import deliver_left

log = logging.getLogger("pipeline")


def sync() -> None:
    """Deliver to the store in use what earlier processes have left here for it.

    Raises:
        UserError: something is not delivered still; the messages before say what and why.
    """
    waiting = 0
    for left in deliver_left():
        log.info("%s: %d requests delivered to %s", left.folder, left.requests, left.store)
        if left.refused:
            log.warning(
                "%s: %d entries were refused by the store for good, or damaged; they are kept "
                "there. Remove the folder when you need them no more.",
                *(left.folder, left.refused),
            )
        if left.trouble:
            log.warning("%s: not delivered: %s", left.folder, left.trouble)
            waiting += 1
    if waiting:
        raise UserError(f"{waiting} outboxes are not delivered; nothing of them is lost.")
    log.info("%s has everything that was logged here.", shown_uri())
