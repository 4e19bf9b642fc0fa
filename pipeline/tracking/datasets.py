"""Which data a run used, as MLflow datasets."""

from __future__ import annotations

from mlflow.data.meta_dataset import MetaDataset
from mlflow.data.sources import LocalArtifactDatasetSource  # type: ignore[attr-defined]

from pipeline.data.prepared import Prepared
from pipeline.tracking.runs import Run


def log_dataset(run: Run, prepared: Prepared, context: str) -> None:
    """Log the prepared dataset as an input of ``run``; its digest is the fingerprint."""
    source = LocalArtifactDatasetSource(str(prepared.folder))
    name, digest = prepared.dataset.name, prepared.dataset.fingerprint
    meta = MetaDataset(source, name, digest)  # type: ignore[abstract]
    run.log_input(meta._to_mlflow_entity().to_dictionary(), context)
