"""The notebook's ledger: its CSV file and its NAME_TIMESTAMP.json files, as checked rows.

    find_files -> cells of a line, or of a JSON object -> time (repaired) -> metrics -> Row

Files are only read. A line is read by itself, so that damage to one never reaches the next, and
every number keeps the digits it was written with, so that later checks know its precision.
"""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from pipeline.errors import UserError, brief

LEDGER = "all_experiments_results.csv"
NAME, TIMESTAMP, DATE = "model_name", "timestamp", "evaluation_date"
_METRIC = re.compile(r"(hit_rate|precision|recall|ndcg|map|coverage)@([1-9]\d*)")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?")
_LONGEST_NAME = 250  # as MLflow stores it
_UNSTORABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_STAMP = re.compile(r"\d{8}_\d{6}")
_STAMP_FORMAT = "%Y%m%d_%H%M%S"
_JSON_FILE = re.compile(rf"(?P<{NAME}>.+)_(?P<{TIMESTAMP}>{_STAMP.pattern})\.json")


@dataclass(frozen=True)
class LedgerRow:
    """One model of the ledger.

    ``metrics`` are exactly as written, in 0..1, under the project's names (ndcg_at_10). ``time``
    is in UTC; a time without zone is taken as UTC. ``key`` names the row for good: its name and
    its time to the second, the same in the CSV and in the JSON file. ``raw`` is what the file
    holds, to the letter (for a CSV file the header and the line), to be kept as ``raw_name``.
    ``counts`` has n_items and n_users where the row tells them.
    """

    where: str
    name: str
    key: str
    time: datetime
    metrics: Mapping[str, Decimal]
    counts: Mapping[str, int]
    repairs: Sequence[str]
    raw_name: str
    raw: bytes


@dataclass(frozen=True)
class Ledger:
    """Rows that could be read, and for each that could not, where it stands and why."""

    rows: list[LedgerRow] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


class _BadRowError(ValueError):
    """Why a row cannot be read."""


def read_ledger(paths: Iterable[Path]) -> Ledger:
    """Read ledgers: CSV files, JSON files, or folders with them, in this order.

    Raises:
        UserError: a file is missing, is neither CSV nor JSON, or is no ledger.
    """
    ledger = Ledger()
    for path in paths:
        for file in _files(path):
            raw = _read(file)
            rows = _csv_rows(file, raw) if file.suffix == ".csv" else _json_rows(file, raw)
            for where, result in rows:
                if isinstance(result, LedgerRow):
                    ledger.rows.append(result)
                else:
                    ledger.left_out.append(f"{where}: {result}")
    return ledger


def _files(path: Path) -> list[Path]:
    if not os.path.isdir(path):  # which takes every text for a name
        if path.suffix not in (".csv", ".json"):
            raise UserError(f"{path}: expected a .csv or .json file, or a folder with them.")
        return [path]
    ledgers = [path / LEDGER] if (path / LEDGER).is_file() else []
    found = ledgers + sorted(f for f in path.glob("*.json") if _JSON_FILE.fullmatch(f.name))
    if not found:
        raise UserError(f"{path}: this folder has no {LEDGER} and no NAME_TIMESTAMP.json.")
    return found


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise UserError(f"{file}: this cannot be read: {error.strerror}") from None


Result = tuple[str, LedgerRow | str]  # where, and the row or why there is none


def _csv_rows(file: Path, raw: bytes) -> Iterator[Result]:
    header_line, *lines = raw.splitlines(keepends=True) or [b""]
    try:
        header = _cells(header_line.removeprefix(b"\xef\xbb\xbf"))
    except _BadRowError as error:
        raise UserError(f"{file}, line 1: {error}") from None
    if NAME not in header or not any(map(_METRIC.fullmatch, header)):
        raise UserError(
            f"{file}, line 1: expected the columns of the notebook's ledger, {NAME} and metrics "
            f"such as ndcg@10, but found: {brief(', '.join(header))}"
        )
    if len(set(header)) < len(header):
        twice = next(name for name in header if header.count(name) > 1)
        raise UserError(f"{file}, line 1: there are several columns '{brief(twice)}'; keep one.")
    for number, line in enumerate(lines, start=2):
        if not line.strip():
            continue
        where = f"{file}, line {number}"
        ended = header_line if header_line.endswith((b"\n", b"\r")) else header_line + b"\n"
        try:
            fields = _fields(header, _cells(line))
            yield where, _row(where, fields, "row.csv", ended + line)
        except _BadRowError as error:
            yield where, str(error)


def _json_rows(file: Path, raw: bytes) -> Iterator[Result]:
    try:
        content = json.loads(raw, parse_float=str, parse_int=str, parse_constant=str)
        if not isinstance(content, dict):
            raise _BadRowError("expected one JSON object with the fields of a row")
        named = _JSON_FILE.fullmatch(file.name)
        fields = {**(named.groupdict() if named else {}), **content}
        yield str(file), _row(str(file), fields, "row.json", raw)
    except UnicodeDecodeError as error:
        yield str(file), f"this is no UTF-8 text: {error.reason}"
    except RecursionError:
        yield str(file), "this is nested too deep to be a row"
    except json.JSONDecodeError as error:
        yield f"{file}, line {error.lineno}", f"this is no JSON: {error.msg}"
    except _BadRowError as error:
        yield str(file), str(error)


def _cells(line: bytes) -> list[str]:
    try:
        (cells,) = csv.reader([line.decode().rstrip("\r\n")])
        return [cell.strip() for cell in cells]
    except (UnicodeDecodeError, csv.Error, ValueError) as error:
        raise _BadRowError(f"this is no line of UTF-8 text with commas: {brief(error)}") from None


def _fields(header: list[str], cells: list[str]) -> dict[str, str]:
    """Cells by name. Too many or too few are damage to the date where the date stands last."""
    dated = header[-1] == DATE and TIMESTAMP in header
    first, date = cells[: len(header) - 1], cells[len(header) - 1 :]
    if len(cells) != len(header):
        known = dict(zip(header, first, strict=False))
        if not (dated and len(first) == len(header) - 1 and _stamp(known[TIMESTAMP])):
            raise _BadRowError(f"{len(cells)} fields where the header has {len(header)}")
    return dict(zip(header, [*first, ",".join(date)], strict=True))


def _row(where: str, fields: Mapping[str, Any], raw_name: str, raw: bytes) -> LedgerRow:
    name = fields.get(NAME)
    if not isinstance(name, str) or not name:
        raise _BadRowError(f"{NAME} is empty")
    if len(name) > _LONGEST_NAME or _UNSTORABLE.search(name):
        raise _BadRowError(
            f"{NAME} is {brief(repr(name))}, expected up to {_LONGEST_NAME} characters without "
            f"control characters"
        )
    metrics = {
        f"{found[1]}_at_{found[2]}": _metric(column, fields[column])
        for column in fields
        if (found := _METRIC.fullmatch(column))
    }
    if not metrics:
        raise _BadRowError("there is no metric such as ndcg@10")
    time, repairs = _time(fields)
    stamp = _stamp(fields.get(TIMESTAMP)) or time
    key = f"{name} {stamp.strftime(_STAMP_FORMAT)}"
    counts = {
        what: int(text)
        for what in ("n_items", "n_users")
        if isinstance(text := fields.get(what), str) and re.fullmatch(r"[1-9]\d{0,17}", text)
    }
    return LedgerRow(where, name, key, time, metrics, counts, repairs, raw_name, raw)


def _metric(column: str, text: Any) -> Decimal:
    if not isinstance(text, str) or not _NUMBER.fullmatch(text):
        raise _BadRowError(f"{brief(column)} is {brief(repr(text))}, expected a number")
    value = Decimal(text)
    if not 0 <= value <= 1:
        raise _BadRowError(f"{brief(column)} is {brief(text)}, expected a number from 0 to 1")
    return value


def _time(fields: Mapping[str, Any]) -> tuple[datetime, list[str]]:
    """The row's time, from its date or else its timestamp, and what had to be repaired."""
    stamp = _stamp(fields.get(TIMESTAMP))
    if DATE in fields:
        text = str(fields[DATE] or "")
        if time := _iso(text):
            return time, []
        if time := _iso(text.strip(", ")) or _iso(text.replace(",", "")):
            note = f"{DATE} '{brief(text)}' read as {time.isoformat()} without its stray commas"
            return time, [note]
    if stamp is None:
        note = ", ".join(f"{name} is {brief(repr(fields.get(name)))}" for name in (DATE, TIMESTAMP))
        raise _BadRowError(f"there is no date: {note}")
    if DATE not in fields:
        return stamp, []
    problem = f"'{brief(text)}' is no date" if text.strip(", ") else "is empty"
    return stamp, [f"{DATE} {problem}: {stamp.isoformat()} taken from {TIMESTAMP}"]


def _iso(text: str) -> datetime | None:
    try:
        time = datetime.fromisoformat(text)
        time = time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None
    return time if time.timestamp() > 0 else None


def _stamp(text: Any) -> datetime | None:
    if not isinstance(text, str) or not _STAMP.fullmatch(text.strip(", ")):
        return None
    date, clock = text.strip(", ").split("_")
    return _iso(f"{date}T{clock}")
