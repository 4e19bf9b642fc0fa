"""Which data a run used: as an MLflow dataset, and in tags."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlflow.data.meta_dataset import MetaDataset
from mlflow.data.sources import LocalArtifactDatasetSource  # type: ignore[attr-defined]

from pipeline.data.dataset import Dataset
from pipeline.data.prepared import Prepared
from pipeline.settings import AUTO
from pipeline.tracking.runs import Run


def log_dataset(run: Run, prepared: Prepared, context: str) -> None:
    """Log the prepared dataset as an input of ``run``; its digest is the fingerprint."""
    source = LocalArtifactDatasetSource(str(prepared.folder))
    name, digest = prepared.dataset.name, prepared.dataset.fingerprint
    meta = MetaDataset(source, name, digest)  # type: ignore[abstract]
    run.log_input(meta._to_mlflow_entity().to_dictionary(), context)


def dataset_tags(dataset: Dataset) -> dict[str, str]:
    """The tags by which runs on the same data are known."""
    return {
        "dataset": dataset.name,
        "dataset_fingerprint": dataset.fingerprint,
        "split": dataset.protocol,
        **dataset.notes,
    }


def settled(params: Mapping[str, Any], dataset: Dataset) -> dict[str, Any]:
    """Parameters with what "auto" was taken for on a dataset in the place of that word."""
    known = {
        "dataset": dataset.name,
        "protocol": dataset.split.protocol,
        "values": dataset.values_taken,
    }
    return {
        **params,
        **{name: value for name, value in known.items() if params.get(name) == AUTO},
    }
