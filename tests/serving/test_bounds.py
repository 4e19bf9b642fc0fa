"""What is too much for one request is refused before it is made."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import pytest

from pipeline.errors import UserError
from pipeline.serving.bounds import check_request

ROW = {"user": "1"}
DEEP = 900_000


def body(value: Any, **more: Any) -> bytes:
    return json.dumps({"dataframe_records": value, **more}).encode()


def split(**table: Any) -> bytes:
    return json.dumps({"dataframe_split": table}).encode()


@pytest.mark.parametrize(
    "sent",
    [
        body([]),
        body([ROW] * 1000),
        body([ROW] * 50, params={"k": 1000}),
        body([{"items": ["x"] * 10}] * 100 + [ROW] * 900),
        body([{"items": ["x"] * 99_000}]),
        body([{"user": "[" * 100, "items": ['"[{', "\\", '\\"[[[[[[[[[[[']}]),
        body([{"user": None, "items": [1, 2.5, None], "exclude": [], "allowed": None}]),
        body([ROW], params=None),
        split(columns=["user", "items"], data=[["1", ["2"]]], index=[7]),
    ],
)
def test_what_may_be_asked(sent: bytes) -> None:
    check_request(sent)


@pytest.mark.parametrize(
    ("sent", "why"),
    [
        (b" " * (2 * 2**20 + 1), "more than 2,097,152 bytes"),
        (b'{"dataframe_records": ' + b"[" * DEEP, "900,001 deep: expected at most 8"),
        (b'{"a":' * 300_000, "300,000 deep: expected at most 8"),
        (b"[]," * 300_000, "has 600,000 values: send at most 100,000"),
        (body([ROW] * 1001), "1,001 rows: send at most 1,000"),
        (body([{"items": ["x"]}] * 101), "101 rows have items that somebody likes: send at most"),
        (body([ROW] * 51, params={"k": 1000}), "51,000 places: at most 50,000"),
        (body([ROW], params={"k": 10**9}), "k is 1000000000: expected a whole number from 1 to"),
        (body([ROW], params={"k": 0}), "k is 0"),
        (body([ROW], params={"k": True}), "k is True"),
        (body([ROW], params={"k": 1e9}), "k is 1000000000.0"),
        (body([ROW], params=[]), "params is no object"),
        (body([{"user": "x" * 201}]), "Row 0: an id of 201 characters; expected at most 200"),
        (body([{"items": [["x" * 201]]}]), "Row 0: an id of 201"),
        (body([{"user": "\ud800"}]), "Row 0: an id that is no text: it has half a character"),
        (body([{"user": 10**200}]), "Row 0: an id of 201"),
        (body([ROW, {"c1": 1}]), "Row 1: c1 is not known. Expected user, items, exclude, allowed"),
        (body(["1"]), "no list of objects"),
        (body({}), "no list of objects"),
        (split(columns=["user"], data=[["1"], ["1"] * 9]), "a cell for each column"),
        (split(columns=["user", "user"], data=[]), "no list of different names"),
        (split(columns=["film"], data=[]), "columns: film is not known"),
        (split(columns=["user"], data=[["1"]], index=3), "index is no list"),
        (split(columns=["user"], data=[["1"]], index=["x" * 201]), "index is no list"),
        (split(columns=["user"]), "no object of columns and data"),
        (b"[]", "no JSON object"),
        (b"{}", "has the fields none: expected either of dataframe_records"),
        (b'{"inputs": []}', "has the fields inputs"),
        (body([ROW], parms={}), "has the fields dataframe_records, parms"),
        (b"", "no JSON in UTF-8"),
        (b'{"dataframe_records": [{"user": 1' + b"0" * 5000 + b"}]}", "no JSON in UTF-8: Exceeds"),
        ('{"dataframe_records": []}'.encode("utf-16"), "no JSON in UTF-8"),
        (b'{"dataframe_records": [{"user": "\xff"}]}', "no JSON in UTF-8"),
    ],
)
def test_what_is_refused(sent: bytes, why: str) -> None:
    with pytest.raises(UserError, match=why):
        check_request(sent)


def test_refusing_takes_little_memory() -> None:
    """A table of which every row has columns of its own would have 73 million cells."""
    wide = body([{f"c{row}_{column}": 1 for column in range(90)} for row in range(900)])
    tracemalloc.start()
    for sent in (wide, b'{"dataframe_records": ' + b"[" * DEEP, body([ROW], params={"k": 10**9})):
        with pytest.raises(UserError):
            check_request(sent)
    assert tracemalloc.get_traced_memory()[1] < 60 * 2**20
    tracemalloc.stop()
