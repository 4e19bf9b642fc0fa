"""The data that a run used, as MLflow shows them."""

from __future__ import annotations

import json

from pipeline.data.prepared import load, prepare
from pipeline.data.split_settings import SplitSettings
from pipeline.tracking.datasets import log_dataset, settled
from pipeline.tracking.track import track
from tests.steps.workplace import Workplace


def test_name_digest_and_place(workplace: Workplace) -> None:
    with workplace.entered():
        prepared = prepare("ratings.csv", SplitSettings())
        with track("mine", {"step": "train"}) as run:
            log_dataset(run, prepared, "training")
        (logged,) = workplace.client.get_run(run.id).inputs.dataset_inputs
        assert logged.dataset.name == "ratings"
        assert logged.dataset.digest == prepared.dataset.fingerprint
        assert {tag.key: tag.value for tag in logged.tags} == {"mlflow.data.context": "training"}
        source = json.loads(logged.dataset.source)["uri"]
        assert load(source.rpartition("/")[2]).folder == prepared.folder


def test_auto_is_what_it_was_taken_for(workplace: Workplace) -> None:
    with workplace.entered():
        made = prepare("ratings.csv", SplitSettings()).dataset
    asked = {"dataset": "auto", "protocol": "auto", "values": "auto", "device": "cpu"}
    assert settled(asked, made) == {
        "dataset": "ratings",
        "protocol": "time",
        "values": made.values_taken,
        "device": "cpu",
    }
    assert made.values_taken != "auto"
    assert settled({"dataset": "ratings.csv"}, made) == {"dataset": "ratings.csv"}
