"""Prepared datasets on disk: stored under their fingerprint, found again, never half written."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.data.dataset import FORMAT, Dataset
from pipeline.data.ratings import OnBadRows, read_ratings
from pipeline.data.sources import find
from pipeline.data.split import SplitSettings
from pipeline.errors import UserError

TABLES = ("users", "items", "train", "later")
META = "meta.json"


@dataclass(frozen=True)
class Prepared:
    """A dataset ready for use, and how it came about."""

    dataset: Dataset
    folder: Path
    notes: tuple[str, ...]
    """What a person should know: warnings, and choices made for them."""
    counts: dict[str, int]
    """rows_read, bad_rows_dropped, duplicates_dropped."""
    reused: bool
    """Whether it was found prepared."""


def home() -> Path:
    """Where prepared datasets are kept: ``data/prepared`` in the current directory."""
    return Path("data") / "prepared"


def prepare(
    dataset: str, split: SplitSettings, on_bad_rows: OnBadRows = "error", *, reuse: bool = True
) -> Prepared:
    """Find, read, check and split a dataset, or take it as it was prepared before.

    Raises:
        UserError: the data cannot be had, are not what they should be, or are too few.
    """
    source = find(dataset)
    inputs = {
        "format": FORMAT,
        "source": source.sha256,
        "split": split.model_dump(mode="json"),
        "on_bad_rows": on_bad_rows,
    }
    for meta in home().glob(f"[!.]*/{META}") if reuse else ():
        if _read_meta(meta.parent)["inputs"] == inputs:
            return _load(meta.parent, source.notes)
    ratings = read_ratings(source.path, on_bad_rows)
    if ratings.held_out is None:
        made = Dataset.from_ratings(source.name, ratings.table, ratings.items, split)
    else:
        made = Dataset.from_existing_split(
            source.name, ratings.table, ratings.held_out, ratings.items, split
        )
    folder = home() / made.fingerprint
    told = {"name": source.name, "protocol": made.protocol, "notes": list(source.notes)}
    store(made, folder, {"inputs": inputs, "counts": ratings.counts, **told})
    return Prepared(made, folder, source.notes, ratings.counts, reused=False)


def load(fingerprint: str) -> Prepared:
    """The prepared dataset with this fingerprint.

    Raises:
        UserError: it is not here.
    """
    folder = home() / fingerprint
    if not (folder / META).is_file():
        raise UserError(
            f"{folder}: the dataset with fingerprint {fingerprint} is not prepared here. "
            f"Run 'prepare' with the dataset and split that made it."
        )
    return _load(folder)


def receive(fingerprint: str, fetch: Callable[[Path], Path]) -> Prepared:
    """The prepared dataset with this fingerprint; where it is not here, ``fetch`` brings it.

    ``fetch`` downloads it into the folder that it is given and answers where in it.

    Raises:
        UserError: it cannot be fetched, or is not what the fingerprint says.
    """
    folder = home() / fingerprint
    if not (folder / META).is_file():
        home().mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=home(), prefix=".partial-") as partial:
            fetched = fetch(Path(partial))
            try:
                fetched.replace(folder)
            except OSError:
                if not folder.exists():  # another process was quicker otherwise
                    raise
    return _load(folder)


def _load(folder: Path, notes: Sequence[str] = ()) -> Prepared:
    meta = _read_meta(folder)
    split = SplitSettings.read(meta["inputs"]["split"], where=str(folder / META))
    try:
        files = {name: folder / f"{name}.parquet" for name in TABLES}
        tables = {name: pd.read_parquet(file, memory_map=True) for name, file in files.items()}
    except (OSError, ValueError) as error:  # what pyarrow raises for a damaged file is of these
        raise _damaged(folder, error) from None
    dataset = Dataset(meta["name"], split, meta["protocol"], **tables)
    if dataset.fingerprint != folder.name:
        raise UserError(
            f"{folder}: the tables no longer have the fingerprint that names the folder "
            f"(they have {dataset.fingerprint}). Delete the folder and prepare again."
        )
    return Prepared(dataset, folder, tuple(notes), meta["counts"], reused=True)


def _read_meta(folder: Path) -> dict[str, Any]:
    try:
        meta: dict[str, Any] = json.loads((folder / META).read_text())
        return meta
    except (OSError, ValueError) as error:
        raise _damaged(folder, error) from None


def _damaged(folder: Path, error: Exception) -> UserError:
    return UserError(f"{folder}: damaged ({error}). Delete the folder and prepare again.")


def store(dataset: Dataset, folder: Path, meta: dict[str, Any]) -> None:
    """Store a dataset and the record ``meta`` in ``folder``, which its fingerprint names.

    Everything is written beside the final place, then renamed: the folder is whole or absent.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".partial-"))
    try:
        for name in TABLES:
            getattr(dataset, name).to_parquet(partial / f"{name}.parquet", index=False)
        content = {**meta, "statistics": dataset.statistics}
        (partial / META).write_text(json.dumps(content, indent=2) + "\n")
        for file in partial.iterdir():
            with file.open("rb") as opened:
                os.fsync(opened.fileno())
        if folder.exists():  # the same fingerprint from other inputs: only the record is new
            (partial / META).replace(folder / META)
        else:
            partial.replace(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
