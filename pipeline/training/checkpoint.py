"""A journal of the fits of one run, on disk after every epoch, so that a killed run goes on.

A run fits its model several times: once per validation window, then on the whole training part.
The journal keeps each fit's epochs and the state of the fit in progress.
"""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from pipeline.errors import UserError, brief
from pipeline.process import undisturbed

EpochMetrics = dict[str, float]


class _Content(BaseModel):
    """What the file of a journal holds."""

    model_config = ConfigDict(extra="forbid", strict=True)

    epochs: dict[str, list[EpochMetrics]]
    finished: list[str]
    state: dict[str, Any] | None


class Journal:
    """What the fits of a run have done so far.

    ``epochs[fit]`` holds one record of numbers per epoch; a fit named in ``finished`` is not
    done again. Without a path it remembers, but nothing outlives the process.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self.records: dict[str, list[EpochMetrics]] = {}
        self.finished: list[str] = []
        self._state: dict[str, Any] | None = None

    @classmethod
    def load(cls, path: Path) -> Journal:
        """The journal that ``path`` holds.

        Raises:
            UserError: the file is missing, damaged or no journal.
        """
        import torch

        journal = cls(path)
        try:
            _require_whole(path)
            content = _Content(**torch.load(path, map_location="cpu", weights_only=True))
            journal.records, journal.finished = content.epochs, content.finished
            journal._state = content.state
        except FileNotFoundError:
            raise UserError(f"{path}: no checkpoint here to resume from.") from None
        except Exception as error:  # torch.load raises many kinds for what is not its own
            raise UserError(
                f"{path}: this is not a checkpoint that can be read ({type(error).__name__}). "
                f"Train again without --resume."
            ) from None
        return journal

    @property
    def stand(self) -> str:
        """How far the latest fit has come, in words; empty where none has begun."""
        for fit in reversed(self.records):
            records = self.records[fit]
            in_epochs = bool(records) and "loss" in records[-1]
            return f"epoch {len(records)} of {fit}" if in_epochs else fit
        return ""

    def state(self, fit: str) -> dict[str, Any] | None:
        """The trainer's state to go on from, where ``fit`` is the one in progress."""
        begun = fit in self.records and fit not in self.finished
        return self._state if begun else None

    def record(self, fit: str, record: EpochMetrics, state: dict[str, Any]) -> None:
        """Note an epoch of ``fit`` and the trainer's state after it.

        Raises:
            UserError: it cannot be written; the file is what it was.
        """
        self.records.setdefault(fit, []).append(record)
        self._state = state
        self._write()

    def finish(self, fit: str) -> None:
        """Note that ``fit`` is complete: it is not gone on with, and its state is not asked for."""
        self.records.setdefault(fit, [])
        self.finished.append(fit)
        self._write()

    def _write(self) -> None:
        if self.path is None:
            return
        import torch  # takes a second, and not all who import this have anything to write

        content = {"epochs": self.records, "finished": self.finished, "state": self._state}
        part = self.path.with_name(f".{self.path.name}.partial")  # no other writes this journal
        try:
            # PyTorch makes an error of its own of an interrupt amid its writing, or aborts.
            with undisturbed(), part.open("wb") as file:
                torch.save(content, file)
                file.flush()
                os.fsync(file.fileno())
            part.replace(self.path)
        except (OSError, RuntimeError) as error:  # PyTorch makes one of the other
            why = getattr(error, "strerror", None) or brief(error)
            raise UserError(
                f"{self.path}: the checkpoint cannot be written ({why}). Make room, or see to it "
                f"that you may write there; train --resume goes on with the last one that is whole."
            ) from None
        finally:
            part.unlink(missing_ok=True)


def _require_whole(path: Path) -> None:
    """Compare checksums, which torch writes and does not read: it takes any bits for numbers."""
    with zipfile.ZipFile(path) as archive:
        packed = [entry for entry in archive.infolist() if entry.compress_type]
        if packed or archive.testzip() is not None:  # torch packs nothing, a bomb does
            raise zipfile.BadZipFile
