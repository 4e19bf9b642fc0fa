"""What a run keeps of its test, and whether it still fits together: edited results are found."""

from __future__ import annotations

import hashlib
import json
import logging
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from pipeline.errors import UserError
from pipeline.evaluation.audit import audit_evaluation
from pipeline.evaluation.metrics import parse
from pipeline.tracking.runs import Run
from pipeline.tracking.search import EvaluatedRun

PER_USER, LISTS = "test/per_user.parquet", "test/recommendations.parquet"
EVIDENCE = "test_evidence"
"""The tag with the size of the catalogue and the checksums of both files."""
COLUMNS = {PER_USER: None, LISTS: ["user", "rank", "item", "hit"]}  # that are needed
THREADS = 8

log = logging.getLogger("pipeline")


@dataclass(frozen=True)
class Evidence:
    """A run's values per user, and what of its results does not fit together."""

    per_user: pd.DataFrame
    """A column per metric, indexed by user, in their order; empty where it cannot be read."""
    findings: list[str]


def evidence_tag(n_items: int, checksums: Mapping[str, str]) -> str:
    """What the tag ``EVIDENCE`` holds: the catalogue's size, and SHA-256 by name of file."""
    return json.dumps({"n_items": n_items, "sha256": dict(checksums)})


def gather(runs: Sequence[EvaluatedRun]) -> dict[str, Evidence]:
    """The evidence of runs by id; a warning names those that have none."""
    with ThreadPoolExecutor(THREADS) as pool:
        found = zip((run.id for run in runs), pool.map(_read, runs), strict=True)
        return {run_id: evidence for run_id, evidence in found if evidence is not None}


def _read(run: EvaluatedRun) -> Evidence | None:
    findings: list[str] = []
    try:
        told = json.loads(run.tags.get(EVIDENCE, "{}"))
    except ValueError:
        told, findings = {}, [f"the tag {EVIDENCE} cannot be read"]
    checksums = told.get("sha256", {})
    tables: dict[str, pd.DataFrame] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in (PER_USER, LISTS):
            try:
                path = Run(run.id).fetch(name, Path(folder))
            except UserError as error:
                if name == PER_USER:
                    log.warning("Left out: %s", error)
                    return None
                if name in checksums:  # what was evaluated long ago may have no lists
                    findings.append(f"{name} is missing")
                continue
            if checksums.get(name) not in (None, hashlib.sha256(path.read_bytes()).hexdigest()):
                findings.append(f"{name} is not the file that evaluate wrote")
            try:
                tables[name] = pd.read_parquet(path, columns=COLUMNS[name])
            except (ValueError, KeyError, OSError):
                findings.append(f"{name} cannot be read")
    if PER_USER not in tables:
        return Evidence(pd.DataFrame(), findings)
    per_user = tables[PER_USER].set_index("user").sort_index()
    metrics = {
        name.removeprefix("test/"): value
        for name, value in run.metrics.items()
        if name.startswith("test/") and parse(name.removeprefix("test/"))
    }
    found = audit_evaluation(metrics, per_user, tables.get(LISTS), told.get("n_items"))
    return Evidence(per_user, [*findings, *(finding.note for finding in found)])
