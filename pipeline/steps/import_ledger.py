"""import_ledger: each row of the notebook's ledger as a run, repaired, audited, once."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from pipeline.console import console, house_table
from pipeline.errors import UserError
from pipeline.evaluation.audit import Finding, audit
from pipeline.evaluation.warnings import WARNING, WARNING_NOTE
from pipeline.ledger.names import read_name
from pipeline.ledger.reading import LedgerRow, read_ledger
from pipeline.tracking.past_runs import PastRun, PastRuns
from pipeline.tracking.runs import Run
from pipeline.tracking.track import adopted, track

SAME = 6e-7  # the notebook rounded to six decimals in the CSV file and not in the JSON files

log = logging.getLogger("pipeline")


def import_ledger(
    paths: Sequence[Path],
    dataset: str = "unknown",
    split: str = "unknown",
    n_items: int | None = None,
    n_users: int | None = None,
) -> None:
    """Import rows of CSV and JSON files as runs, and tell what was repaired, flagged, left out.

    ``n_items`` (of the training catalogue) and ``n_users`` (evaluated) let the audit check counts;
    rows of JSON files may tell their own.

    Raises:
        UserError: a file is no ledger, no row can be read, or a row that has been imported now
            has other values; the other rows are imported all the same.
    """
    ledger = read_ledger(paths)
    for problem in ledger.left_out:
        log.warning("Left out: %s", problem)
    if not ledger.rows:
        raise UserError(f"{_names(paths)}: no row can be read, so nothing was imported.")
    with _own_run(f"import_ledger {_names(paths)}") as own:
        runs = PastRuns()
        counts, conflicts = Counter({"left out": len(ledger.left_out)}), []
        for row in ledger.rows:
            for repair in row.repairs:
                log.warning("Repaired: %s: %s", row.where, repair)
            findings = audit(
                row.metrics,
                n_items or row.counts.get("n_items"),
                n_users or row.counts.get("n_users"),
            )
            for finding in findings:
                log.warning("Flagged: %s: %s: %s", row.where, row.name, finding.note)
            state, conflict = _take(row, findings, runs, {"dataset": dataset, "split": split})
            if conflict:
                conflicts.append(conflict)
            counts.update({state: 1, "repaired": bool(row.repairs), "flagged": bool(findings)})
        _show(counts, own)
        if conflicts:
            raise UserError("\n".join(conflicts))


def _own_run(name: str) -> AbstractContextManager[Run | None]:
    """A run of the import itself, only where ``mlflow run`` has made one."""
    if adopted() is None:
        return nullcontext()
    return track(name, {"step": "import", "model": "none"})


def _take(
    row: LedgerRow, findings: Sequence[Finding], runs: PastRuns, tags: Mapping[str, str]
) -> tuple[str, str | None]:
    """Import a row where that is still to be done: the outcome, and what contradicts the row."""
    complete = runs.complete.get(row.key)
    begun = complete or runs.unfinished.get(row.key)
    conflict = _conflict(begun, row) if begun else None
    if conflict:
        return "changed", conflict
    if complete is None:
        runs.add(_past_run(row, findings, tags))
        return "imported", None
    if findings and WARNING not in complete.tags:
        _flag(complete, findings)
    return "already there", None


def _past_run(row: LedgerRow, findings: Sequence[Finding], tags: Mapping[str, str]) -> PastRun:
    found = read_name(row.name)
    tags = {
        **tags,
        "step": "import_ledger",
        "model": found.model,
        "dataset_fingerprint": "unknown",  # so that it is never ranked with runs on known data
        "mask": "seen" if found.masked else "none",
        "mlflow.source.name": row.where,
        **({"experiment": found.experiment} if found.experiment else {}),
        **_warning_tags(findings),
    }
    metrics = {f"test/{name}": float(value) for name, value in row.metrics.items()}
    note = _warning(findings) + _describe(row)
    return PastRun(
        row.key, row.name, row.time, tags, found.params, metrics, note, row.raw_name, row.raw
    )


def _conflict(run: Run, row: LedgerRow) -> str | None:
    """A message, where ``run`` has other values than the row that it was imported from."""
    there = run.metrics
    changes = [
        f"{name} was {there[f'test/{name}']}, now {value}"
        for name, value in row.metrics.items()
        if abs(there.get(f"test/{name}", float(value)) - float(value)) > SAME
    ]
    if not changes:
        return None
    return (
        f"{row.where}: {row.key} has been imported as run {run.id} with other values: "
        f"{'; '.join(changes)}. Mend the file, or delete that run and import again."
    )


def _flag(run: Run, findings: Sequence[Finding]) -> None:
    """Warn on a run that was imported without the counts that show the problem."""
    run.set_tags(_warning_tags(findings))
    run.describe(_warning(findings) + run.tags.get("mlflow.note.content", ""))


def _warning_tags(findings: Sequence[Finding]) -> dict[str, str]:
    if not findings:
        return {}
    names = dict.fromkeys(f"impossible-{finding.metric.replace('_', '-')}" for finding in findings)
    note = "; ".join(finding.note for finding in findings)
    return {"audit": "impossible", WARNING: ", ".join(names), WARNING_NOTE: note}


def _warning(findings: Sequence[Finding]) -> str:
    return "".join(f"**Warning:** this cannot be true: {f.note}.\n\n" for f in findings)


def _describe(row: LedgerRow) -> str:
    metrics = [f"| {name} | {value} |" for name, value in row.metrics.items()]
    repairs = [f"\nRepaired: {repair}." for repair in row.repairs]
    where = (
        f"Imported from {row.where}, {row.time:%Y-%m-%d %H:%M:%S} (a time without zone is taken "
        f"as UTC). The ledger does not say which data, code or seed made it.\n"
    )
    return "\n".join([where, "| metric | test |", "|---|---|", *metrics, *repairs])


def _show(counts: Counter[str], own: Run | None) -> None:
    shown = ("imported", "already there", "changed", "repaired", "flagged", "left out")
    table = house_table("", "rows")
    for name in shown:
        table.add_row(name, str(counts[name]))
    console.print(table)
    if own is not None:
        lines = (shown, ["---"] * len(shown), [str(counts[name]) for name in shown])
        own.describe("\n".join(f"| {' | '.join(line)} |" for line in lines))


def _names(paths: Sequence[Path]) -> str:
    return ", ".join(str(path) for path in paths)
