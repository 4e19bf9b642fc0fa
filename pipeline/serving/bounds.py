"""What one request over HTTP may ask, found out before memory is taken for it.

A few bytes can ask for much: a list of a thousand million places, lists in lists without end, or
rows of which each has columns of its own, so that the table of all is their product.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

import numpy as np

from pipeline.errors import UserError, brief
from pipeline.serving.answers import DEFAULT_K, REQUEST_COLUMNS

BODY_BYTES = 2 * 2**20
DEPTH = 8
"""Lists and objects in each other; what is asked here needs 5."""
VALUES = 100_000
"""In all, of any kind."""
ROWS = 1000
LIKING_ROWS = 100
"""Of them, those that name liked items: a network is fitted to each, which takes its time."""
K = 1000
PLACES = 50_000
"""Rows times k: what is answered has a line for each."""
ID_LENGTH = 200

FORMS = ("dataframe_records", "dataframe_split")
SURROGATE = re.compile("[\ud800-\udfff]")
STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_STEPS = np.zeros(256, np.int8)
_STEPS[list(b"[{")], _STEPS[list(b"]}")] = 1, -1


def check_request(body: bytes) -> None:
    """Refuse what is too much, or of another form than rows of requests in JSON.

    Raises:
        UserError: says what is wrong and what may be.
    """
    if len(body) > BODY_BYTES:
        raise UserError(f"The body has more than {BODY_BYTES:,} bytes: send fewer rows at a time.")
    _check_structure(STRING.sub(b"0", body))
    try:
        asked = json.loads(body.decode())
    except (ValueError, RecursionError) as error:
        raise UserError(f"The body is no JSON in UTF-8: {brief(error)}.") from None
    if not isinstance(asked, dict):
        raise UserError(f"The body is no JSON object: expected {' or '.join(FORMS)} in one.")
    forms = [name for name in FORMS if name in asked]
    others = [brief(name, 40) for name in asked if name not in (*FORMS, "params")]
    if len(forms) != 1 or others:
        raise UserError(
            f"The body has the fields {', '.join([*forms, *others][:5]) or 'none'}: expected "
            f"either of {', '.join(FORMS)}, and perhaps params."
        )
    read = _records if forms[0] == "dataframe_records" else _split
    rows = read(asked[forms[0]])
    if len(rows) > ROWS:
        raise UserError(f"There are {len(rows):,} rows: send at most {ROWS:,} at a time.")
    liking = sum(bool(row.get("items")) for row in rows)
    if liking > LIKING_ROWS:
        raise UserError(
            f"{liking:,} rows have items that somebody likes: send at most {LIKING_ROWS} of them "
            f"at a time."
        )
    k = _k(asked.get("params"))
    if len(rows) * k > PLACES:
        raise UserError(
            f"{len(rows):,} rows times k = {k} are {len(rows) * k:,} places: at most {PLACES:,} "
            f"are answered at a time. Send fewer rows, or a lower k."
        )
    for number, row in enumerate(rows):
        _check_ids(row.values(), number)


def _check_structure(bare: bytes) -> None:
    """Depth and number of values, of a body without its strings."""
    steps = _STEPS[np.frombuffer(bare, np.uint8)]
    depth = int(np.cumsum(steps, dtype=np.int32).max(initial=0))
    if depth > DEPTH:
        raise UserError(f"The body has lists in lists, {depth:,} deep: expected at most {DEPTH}.")
    values = bare.count(b",") + int(np.count_nonzero(steps > 0))
    if values > VALUES:
        raise UserError(f"The body has {values:,} values: send at most {VALUES:,} at a time.")


def _k(params: Any) -> int:
    if params is None:
        return DEFAULT_K
    if not isinstance(params, dict):
        raise UserError('params is no object: expected one as {"k": 10}.')
    k = params.get("k", DEFAULT_K)
    if isinstance(k, bool) or not isinstance(k, int) or not 1 <= k <= K:
        raise UserError(f"k is {brief(k, 40)}: expected a whole number from 1 to {K:,}.")
    return k


def _records(records: Any) -> list[dict[str, Any]]:
    """The cells of each row of ``dataframe_records``, by column."""
    if not isinstance(records, list) or not all(isinstance(row, dict) for row in records):
        raise UserError("dataframe_records is no list of objects.")
    for number, row in enumerate(records):
        _check_columns(row, f"Row {number}")
    return records


def _split(table: Any) -> list[dict[str, Any]]:
    """The cells of each row of ``dataframe_split``, by column."""
    if not isinstance(table, dict) or not {"columns", "data"} <= set(table) <= {
        "columns", "data", "index",
    }:  # fmt: skip
        raise UserError("dataframe_split is no object of columns and data, and perhaps index.")
    columns, data = table["columns"], table["data"]
    if not isinstance(columns, list) or len({str(name) for name in columns}) < len(columns):
        raise UserError("dataframe_split: columns is no list of different names.")
    _check_columns(columns, "columns")
    if not isinstance(data, list) or not all(
        isinstance(row, list) and len(row) == len(columns) for row in data
    ):
        raise UserError("dataframe_split: data is no list of rows with a cell for each column.")
    index = table.get("index", list(range(len(data))))
    if (
        not isinstance(index, list)
        or len(index) != len(data)
        or not all(isinstance(label, int | str) and len(str(label)) <= ID_LENGTH for label in index)
    ):
        raise UserError("dataframe_split: index is no list with a label for each row.")
    return [dict(zip(columns, row, strict=True)) for row in data]


def _check_columns(names: Iterable[Any], where: str) -> None:
    unknown = [brief(name, 40) for name in names if name not in REQUEST_COLUMNS]
    if unknown:
        raise UserError(
            f"{where}: {', '.join(unknown[:5])} is not known. Expected "
            f"{', '.join(REQUEST_COLUMNS)}."
        )


def _check_ids(cells: Iterable[Any], row: int) -> None:
    for cell in cells:
        if isinstance(cell, list):
            _check_ids(cell, row)
        elif isinstance(cell, str | int) and len(str(cell)) > ID_LENGTH:
            raise UserError(
                f"Row {row}: an id of {len(str(cell)):,} characters; expected at most {ID_LENGTH}."
            )
        elif isinstance(cell, str) and not cell.isascii() and SURROGATE.search(cell):
            raise UserError(f"Row {row}: an id that is no text: it has half a character.")
