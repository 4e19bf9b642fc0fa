"""Tracking stores for tests: one with something of everything, and what any store holds."""

from __future__ import annotations

import hashlib
import math
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import yaml
from mlflow.entities import (
    Dataset,
    DatasetInput,
    InputTag,
    LoggedModelInput,
    LoggedModelStatus,
    Metric,
    Param,
    RunTag,
)
from mlflow.exceptions import MlflowException

from tests.steps.workplace import Workplace

BEGIN, END = 1_600_000_000_000, 1_600_000_060_000  # milliseconds since 1970, of a run long past
OURS = ("migrated", "migrated_from", "mlflow.modelVersions")


def fill(place: Workplace) -> None:
    """A trained, evaluated and registered model, and runs with all that runs can have."""
    train = ("train", "--config", "small.yaml", "--dataset", "ratings.csv", "--epochs=1")
    outcome = place.cli(*train, "--validate=false")
    assert outcome.status == 0, outcome.told
    client = place.client
    films = client.create_experiment("films", str(place.folder / "films"), {"team": "lists"})
    parent = make_run(client, films, "parent")
    child = make_run(client, films, "child", **{"mlflow.parentRunId": parent, "best": parent})
    points = [Metric("loss", 1 / (1 + i), BEGIN + i, i) for i in range(2500)]
    points += [Metric("loss", 7.0, BEGIN + 5, 5), Metric("loss", 7.0, BEGIN + 6, 5)]
    odd = [math.nan, math.inf, -math.inf, -0.0, 1e-300, 0.1]
    points += [Metric("odd", value, BEGIN, i) for i, value in enumerate(odd)]
    for start in range(0, len(points), 1000):
        client.log_batch(parent, points[start : start + 1000])
    for key in ("a", "b"):
        client.log_batch(parent, params=[Param(f"{key}{i}", f"{key * 3}{i}") for i in range(80)])
        client.log_batch(parent, tags=[RunTag(f"{key}/{i}", "ü" * i) for i in range(80)])
    client.set_tag(parent, "mlflow.note.content", "# What it is\n\nA *run*.")
    source = Dataset("films", "0123456789abcdef", "local", '{"uri": "films.csv"}', profile="{}")
    client.log_inputs(parent, [DatasetInput(source, [InputTag("mlflow.data.context", "training")])])
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "deep" / "er").mkdir(parents=True)
        (Path(folder) / "deep" / "er" / "bytes.bin").write_bytes(bytes(range(256)) * 500)
        (Path(folder) / "deep" / "empty").touch()
        (Path(folder) / "a name with spaces, ü.txt").write_text(f"of run {parent}")
        client.log_artifacts(parent, folder)
    model = client.create_logged_model(films, "lists", child, {"of": child}, {"k": "10"}, "lists")
    client.log_batch(
        child,
        [
            Metric("ndcg", 0.3, BEGIN, 1, model.model_id, "films", "0123456789abcdef"),
            Metric("ndcg", 0.4, BEGIN, 2, model.model_id),
            Metric("ndcg", math.nan, BEGIN, 3, model.model_id),
            Metric("ndcg", 0.5, BEGIN, 4),
        ],
    )
    client.finalize_logged_model(model.model_id, LoggedModelStatus.FAILED)
    client.log_inputs(parent, models=[LoggedModelInput(model.model_id)])
    client.set_terminated(child, "FAILED", END - 1)
    client.set_terminated(parent, "FINISHED", END)
    make_run(client, films, "still running")
    client.delete_run(make_run(client, films, "deleted"))
    client.delete_experiment(client.create_experiment("deleted"))
    register(place)


def make_run(client: mlflow.MlflowClient, experiment: str, name: str, **tags: str) -> str:
    """The id of a run of a user, begun long ago."""
    user = {"mlflow.user": "ada", "mlflow.source.name": "train.py"}
    made = client.create_run(experiment, BEGIN, {**user, **tags}, name)
    return str(made.info.run_id)


def register(place: Workplace) -> None:
    """Two versions of the trained model, and a third between them that is deleted."""
    client, run = place.client, place.run(step="train")
    (model,) = client.search_logged_models(["0"])
    client.create_registered_model("lists", {"for": "films"}, "What to see")
    with place.entered():
        for number in range(1, 4):
            client.create_model_version(
                "lists", f"models:/{model.model_id}", run.info.run_id, {"n": str(number)},
                description=f"of {number}", model_id=model.model_id,
            )  # fmt: skip
    client.delete_model_version("lists", "2")
    client.set_registered_model_alias("lists", "champion", "3")
    client.set_registered_model_alias("lists", "challenger", "1")


def held(uri: str) -> dict[str, Any]:
    """All that a store holds, in names instead of ids, so that stores can be compared."""
    return dict(_Held(uri).all())


class _Held:
    def __init__(self, uri: str) -> None:
        self.uri, self.client = uri, mlflow.MlflowClient(uri, uri)
        self.experiments = self.client.search_experiments()
        ids = [each.experiment_id for each in self.experiments]
        self.runs = list(self.client.search_runs(ids, max_results=1000))
        self.models = list(self.client.search_logged_models(ids))
        self.names = {str(run.info.run_id): f"run {run.info.run_name}" for run in self.runs}
        self.names |= {model.model_id: f"model {model.name}" for model in self.models}
        assert len(set(self.names.values())) == len(self.names), "something is there twice"
        self.experiment_names = {each.experiment_id: each.name for each in self.experiments}

    def all(self) -> Iterator[tuple[str, Any]]:
        for experiment in self.experiments:
            yield f"experiment {experiment.name}", experiment.tags
        for run in self.runs:
            yield self.names[run.info.run_id], self.run(run)
        for model in self.models:
            yield self.names[model.model_id], self.model(model)
        for registered in self.client.search_registered_models():
            yield f"registered {registered.name}", self.registered(registered)

    def named(self, text: str) -> str:
        for key, name in self.names.items():
            text = text.replace(key, name)
        return text

    def tags(self, tags: dict[str, str]) -> dict[str, str]:
        return {key: self.named(text) for key, text in tags.items() if key not in OURS}

    def run(self, run: Any) -> dict[str, Any]:
        history = self.client.get_metric_history
        info, data = self.client.get_run(run.info.run_id).info, run.data
        return {
            "experiment": self.experiment_names[info.experiment_id],
            "state": (info.status, info.start_time, info.end_time, info.user_id),
            "params": data.params,
            "tags": self.tags(data.tags),
            "last": {key: repr(value) for key, value in data.metrics.items()},
            "points": {
                key: sorted((p.step, p.timestamp, repr(p.value)) for p in history(info.run_id, key))
                for key in data.metrics
            },
            "datasets": [each.to_dictionary() for each in run.inputs.dataset_inputs],
            "inputs": sorted(self.names[each.model_id] for each in run.inputs.model_inputs),
            "outputs": sorted(
                (self.names[each.model_id], each.step) for each in run.outputs.model_outputs
            ),
            "files": self.files(info.artifact_uri),
        }

    def model(self, model: Any) -> dict[str, Any]:
        return {
            "experiment": self.experiment_names[model.experiment_id],
            "kind": (model.status, model.model_type or "", model.params),
            "run": self.names[model.source_run_id],
            "tags": self.tags(model.tags),
            "points": sorted(
                (p.key, p.step, p.timestamp, p.value, self.names[p.run_id], p.dataset_name or "")
                for p in model.metrics or []
            ),
            "files": self.files(model.artifact_location),
        }

    def registered(self, registered: Any) -> dict[str, Any]:
        found = self.client.search_model_versions(f"name = '{registered.name}'")
        versions = {str(each.version): each for each in found}
        aliases = {alias: versions[str(n)].tags["n"] for alias, n in registered.aliases.items()}
        return {
            "about": (registered.description, registered.tags, aliases),
            "versions": [
                (
                    each.description, self.tags(each.tags), self.named(str(each.source)),
                    self.names[str(each.run_id)],
                )
                for _, each in sorted(versions.items())
            ],
        }  # fmt: skip

    def files(self, location: str) -> dict[str, Any]:
        """A digest of each file; of MLmodel what it says, with names in the place of ids."""
        found: dict[str, Any] = {}
        with tempfile.TemporaryDirectory() as folder:
            try:
                mlflow.artifacts.download_artifacts(
                    location, dst_path=folder, tracking_uri=self.uri
                )
            except (OSError, MlflowException):  # a run without any has no folder, either
                return found
            for path in sorted(each for each in Path(folder).rglob("*") if each.is_file()):
                content = path.read_bytes()
                name = str(path.relative_to(folder))
                if path.name == "MLmodel":
                    text = content.decode().replace(location, "LOCATION")
                    found[name] = yaml.safe_load(self.named(text))
                else:
                    found[name] = hashlib.sha256(content).hexdigest()
        return found
