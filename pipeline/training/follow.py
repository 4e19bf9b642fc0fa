"""Taking part in the fits of another process, which leads."""

from __future__ import annotations

from contextlib import suppress

from pipeline.training.parts import receive_part, unpacked
from pipeline.training.processes import joined
from pipeline.training.trainer import DivergedError, Trainer, choose_device


def follow() -> None:
    """Train along with the first process of torchrun until it has nothing more to train.

    Raises:
        LostError: another process has ended.
        UserError: there is no such device here, or too little memory.
    """
    with joined():
        while (part := receive_part()) is not None:
            device = choose_device(part.device)
            network, generator = unpacked(part.network, device)
            trainer = Trainer(network, part.portion, part.settings, generator)
            with suppress(DivergedError):  # the first one has that, too, and says it
                trainer.run()
