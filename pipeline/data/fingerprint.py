"""The fingerprint of a Dataset: what it holds and how it was split, in 16 hex digits."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from pipeline.data.dataset import Dataset

FORMAT = 1  # raise it when the same rows and settings would give another Dataset
COLUMNS = ("user", "item", "rating", "timestamp")
"""Of a table of interactions."""


def fingerprint_of(dataset: Dataset) -> str:
    """16 hex digits over rows, metadata and settings; the order of the file is not in it.

    Every column is read once, in pieces as the dataset has them.
    """
    start = [FORMAT, dataset.protocol, dataset.split.identity]
    digest = hashlib.sha256(json.dumps(start).encode())
    items = dataset.items if dataset.found_items is None else dataset.found_items
    for table in (dataset.users, items):
        for name in table.columns:
            for piece in canonical_bytes([table[name]]):
                digest.update(piece)
    # Where no pair came again, the fingerprint is that of before these rows were kept.
    for table_name in ("train", "later", *(["superseded"] if dataset.has_superseded else [])):
        for name in (*COLUMNS, *(["segment"] if table_name == "later" else [])):
            chunks = (rows[name] for rows in dataset.chunks(table_name, [name]))
            for piece in canonical_bytes(chunks):
                digest.update(piece)
    return digest.hexdigest()[:16]


def canonical_bytes(column: Iterable[pd.Series[Any]]) -> Iterator[bytes | memoryview]:
    """Little-endian numbers, or texts as a JSON list; what a digest takes, piece by piece.

    ``column`` comes in pieces, too: at least one, which may be empty.
    """
    between, is_text = "", False
    for piece in column:
        if piece.dtype.kind in "iuf":
            values = piece.to_numpy()
            yield np.ascontiguousarray(values, values.dtype.newbyteorder("<")).data
            continue
        if not is_text:
            yield b"["
        is_text = True
        # Segments are a few texts in many rows, so each text is spelled once.
        codes, distinct = pd.factorize(piece, use_na_sentinel=False)
        spelled = np.array([json.dumps(str(text)) for text in distinct], object)
        if len(piece):
            yield (between + ", ".join(spelled[codes])).encode()
            between = ", "
    if is_text:
        yield b"]"
