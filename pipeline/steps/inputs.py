"""What a run of ``train`` was asked for; kept with it, so that the run alone is enough later."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.config import Experiment
from pipeline.data.prepared import Prepared, load
from pipeline.data.raw.reading import Reading
from pipeline.errors import UserError
from pipeline.evaluation.prepared import prepare_and_tell
from pipeline.tracking.runs import Run

ARTIFACT = "inputs.json"


@dataclass(frozen=True)
class Inputs:
    """An experiment and the data that it is to learn from."""

    experiment: Experiment
    dataset: str
    """As it was asked for: a name, or a path."""
    reading: Reading
    fingerprint: str
    """Of the prepared dataset."""

    def log(self, run: Run) -> None:
        """Keep them with ``run``."""
        run.log_json(self.content(), ARTIFACT)

    def content(self) -> dict[str, Any]:
        """All of it as plain values."""
        experiment = self.experiment.model_dump(mode="json")
        reading = self.reading.model_dump(mode="json")
        return {**vars(self), "experiment": experiment, "reading": reading}

    @classmethod
    def of(cls, run: Run) -> Inputs:
        """Those kept with ``run``.

        Raises:
            UserError: it is no run of ``train``.
        """
        with tempfile.TemporaryDirectory() as folder:
            content = json.loads(run.fetch(ARTIFACT, Path(folder)).read_text())
        return cls.read(content, f"run {run.id}")

    @classmethod
    def read(cls, content: Mapping[str, Any], where: str) -> Inputs:
        """Those of ``content``, which is ``where`` the errors say.

        Raises:
            UserError: they are of another version.
        """
        experiment = Experiment.restore(content["experiment"], where)
        # Runs of before there was more to say than this have it by itself.
        said = content.get("reading", {"on_bad_rows": content.get("on_bad_rows", "error")})
        reading = Reading.read(said, where)
        return cls(experiment, content["dataset"], reading, content["fingerprint"])

    @property
    def wants_gpu(self) -> bool:
        """Whether the model takes a GPU where there is one."""
        return self.experiment.device not in (None, "cpu")

    def prepared(self) -> Prepared:
        """The dataset, as it is prepared here, or prepared again.

        Raises:
            UserError: it can no longer be had, or is no longer what it was.
        """
        try:
            return load(self.fingerprint)
        except UserError:
            again = prepare_and_tell(self.dataset, self.experiment.split, self.reading)
        if again.dataset.fingerprint != self.fingerprint:
            raise UserError(
                f"{self.dataset} now has fingerprint {again.dataset.fingerprint}, the run was made "
                f"on {self.fingerprint}: that data is no longer to be had here. Train again."
            )
        return again
