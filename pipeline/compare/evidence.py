"""What a run keeps of its test, and whether it still fits together: edited results are found."""

from __future__ import annotations

import hashlib
import logging
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from pydantic import BaseModel, Field, ValidationError

from pipeline.compare.evaluated import EvaluatedRun
from pipeline.errors import UserError
from pipeline.evaluation.audit import audit_evaluation
from pipeline.evaluation.names import parse

PER_USER, LISTS = "test/per_user.parquet", "test/recommendations.parquet"
EVIDENCE = "test_evidence"
"""The tag with the size of the catalogue and the checksums of both files."""
NEEDED = {PER_USER: None, LISTS: ["user", "rank", "item", "hit"]}  # that are needed
NUMBERS = {"rank": "iu", "hit": "b"}  # kinds of columns; those of metrics are floats
THREADS = 8

log = logging.getLogger("pipeline")


@dataclass(frozen=True)
class Evidence:
    """A run's values per user, and what of its results does not fit together."""

    per_user: pd.DataFrame
    """A column per metric, indexed by user, in their order; empty where it cannot be read."""
    findings: list[str]


class EvidenceTag(BaseModel):
    """What the tag ``EVIDENCE`` holds."""

    n_items: int | None = Field(None, ge=1)
    """Size of the catalogue."""
    sha256: dict[str, str] = {}
    """By name of file."""


def evidence_tag(n_items: int, checksums: Mapping[str, str]) -> str:
    """The text of the tag ``EVIDENCE``."""
    return EvidenceTag(n_items=n_items, sha256=dict(checksums)).model_dump_json()


def gather(runs: Sequence[EvaluatedRun]) -> dict[str, Evidence]:
    """The evidence of runs by id; a warning names those that have none."""
    with ThreadPoolExecutor(THREADS) as pool:
        found = zip((run.id for run in runs), pool.map(_read, runs), strict=True)
        return {run_id: evidence for run_id, evidence in found if evidence is not None}


def _read(run: EvaluatedRun) -> Evidence | None:
    findings: list[str] = []
    try:
        tag = EvidenceTag.model_validate_json(run.tags.get(EVIDENCE, "{}"))
    except ValidationError:
        tag, findings = EvidenceTag(), [f"the tag {EVIDENCE} cannot be read"]
    tables: dict[str, pd.DataFrame] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in (PER_USER, LISTS):
            try:
                path = run.fetch(name, Path(folder))
            except UserError as error:
                if name in tag.sha256:  # what was evaluated long ago may have no lists
                    findings.append(f"{name} is missing")
                elif name == PER_USER:
                    log.warning("Left out: %s", error)
                    return None
                continue
            if tag.sha256.get(name) not in (None, hashlib.sha256(path.read_bytes()).hexdigest()):
                findings.append(f"{name} is not the file that evaluate wrote")
            try:
                table = pd.read_parquet(path, columns=NEEDED[name])
            except (ValueError, KeyError, OSError):
                findings.append(f"{name} cannot be read")
                continue
            if wrong := _wrong(name, table):
                findings.append(f"{name} {wrong}")
            else:
                tables[name] = table
    if PER_USER not in tables:
        return Evidence(pd.DataFrame(), findings)
    per_user = tables[PER_USER].set_index("user").sort_index()
    metrics = {
        name.removeprefix("test/"): value
        for name, value in run.metrics.items()
        if name.startswith("test/") and parse(name.removeprefix("test/"))
    }
    found = audit_evaluation(metrics, per_user, tables.get(LISTS), tag.n_items)
    return Evidence(per_user, [*findings, *(finding.note for finding in found)])


def _wrong(name: str, table: pd.DataFrame) -> str | None:
    """Why a table is none that ``evaluate`` could have written, whatever its numbers."""
    if "user" not in table:
        return "has no column user"
    for column in table.columns.drop("user"):
        if column != "item" and table[column].dtype.kind not in NUMBERS.get(column, "f"):
            return f"has {table[column].dtype} in the column {column}"
    if name == PER_USER and (table.empty or not table["user"].is_unique):
        return "has no user" if table.empty else "has users twice"
    return None
