"""Prepared datasets on disk: stored under their fingerprint, found again, never half written."""

from __future__ import annotations

import errno
import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import BaseModel, ValidationError

from pipeline.data.dataset import Dataset
from pipeline.data.large import memory
from pipeline.data.raw.files import Part
from pipeline.data.raw.parquet import count_rows
from pipeline.data.raw.ratings import read_chosen
from pipeline.data.raw.reading import AS_IT_IS, Reading
from pipeline.data.raw.sources import Source, find
from pipeline.data.raw.which_files import ChosenFiles, choose
from pipeline.data.split_check import check_split
from pipeline.data.split_settings import SplitSettings
from pipeline.data.stored import SUPERSEDED, StoredDataset
from pipeline.data.titles import add_titles, with_kept_titles
from pipeline.disk import remove_left, sync, unfinished
from pipeline.errors import UserError, brief
from pipeline.extras import require
from pipeline.memory import available_memory

PREPARATION = 2  # raise it when the same bytes and settings would be prepared otherwise
TABLES = ("users", "items", "train", "later")
META = "meta.json"
DATASET = "dataset"  # what is unfinished, by name
READ_AT_ONCE = 30_000_000  # interactions up to which a dataset is read when it is loaded
GIB = 2**30


@dataclass(frozen=True)
class Prepared:
    """A dataset ready for use, and how it came about."""

    dataset: Dataset
    folder: Path
    notes: tuple[str, ...]
    """What a person should know: warnings, and choices made for them."""
    counts: dict[str, int]
    """rows_read, bad_rows_dropped, duplicates_dropped, repeats_left_out."""
    reused: bool
    """Whether it was found prepared."""


class MetaFile(BaseModel):
    """What the folder of a prepared dataset says of it in ``meta.json``, and is needed again."""

    inputs: dict[str, Any]
    """What it was made of: another preparation of the same takes it instead."""
    name: str
    protocol: str
    counts: dict[str, int]
    split: dict[str, Any] = {}
    """How it was split, where auto is settled; records of before auto say it in ``inputs``."""
    split_notes: dict[str, str] = {}
    reading_notes: tuple[str, ...] = ()
    """How the file was read, where that had to be found out."""


def home() -> Path:
    """Where prepared datasets are kept: ``data/prepared`` in the current directory."""
    return Path("data") / "prepared"


def prepare(
    dataset: str, split: SplitSettings, reading: Reading = AS_IT_IS, *, reuse: bool = True
) -> Prepared:
    """Find, read, check and split a dataset, or take it as it was prepared before.

    What lies there damaged is named in the notes and put aside where it is in the way.

    Raises:
        UserError: the data cannot be had, are not what they should be, or are too few.
    """
    prepared = _prepare(dataset, split, reading, reuse=reuse)
    if reading.items is None:
        return prepared
    titled, note = add_titles(prepared.dataset, Path(reading.items), prepared.folder)
    return replace(prepared, dataset=titled, notes=(*prepared.notes, note))


def _prepare(dataset: str, split: SplitSettings, reading: Reading, *, reuse: bool) -> Prepared:
    remove_left(home(), DATASET)
    source = find(dataset, reading)
    inputs = {
        "format": PREPARATION,
        "source": source.sha256,
        "split": split.model_dump(mode="json"),
        **reading.model_dump(mode="json", exclude={"items"}),
    }
    notes = list(source.notes)
    for meta in home().glob(f"[!.]*/{META}") if reuse else ():
        try:
            if _read_record(meta.parent).inputs == inputs:
                return _load(meta.parent, notes)
        except UserError as error:
            notes.append(f"warning: not used: {error}")
    choice = choose(source.path, reading)
    if note := _too_large(source.name, choice):
        return _prepare_large(source, choice, split, reading, inputs, (*notes, note))
    ratings = read_chosen(choice, reading)
    if ratings.held_out is None:
        made = Dataset.from_ratings(source.name, ratings.table, ratings.items, split)
    else:
        tables = ratings.table, ratings.held_out
        accept = reading.accept_split
        checked = check_split(source.name, *tables, repeats=split.repeats, accept=accept)
        made = Dataset.from_existing_split(source.name, *tables, ratings.items, split)
        made = replace(made, notes=made.notes | checked)
    made = replace(made, counts=ratings.counts | made.counts)
    folder = home() / made.fingerprint
    notes += ratings.notes
    if folder.exists():
        notes += _put_aside_damaged(folder)
    store(made, folder, _record(made, source, ratings.notes, inputs))
    notes += made.notes.values()
    return Prepared(with_kept_titles(made, folder), folder, tuple(notes), made.counts, reused=False)


def _record(
    made: Dataset, source: Source, reading_notes: Sequence[str], inputs: dict[str, Any]
) -> dict[str, Any]:
    """What the folder of a prepared dataset says of it: see ``MetaFile``."""
    return {
        "inputs": inputs, "name": made.name, "protocol": made.protocol,
        "split": made.split.model_dump(mode="json"), "counts": made.counts,
        "split_notes": made.notes, "notes": source.notes, "reading_notes": reading_notes,
    }  # fmt: skip


def _too_large(name: str, choice: ChosenFiles) -> str | None:
    """Why ratings are prepared on disk, in words; None where they fit into memory.

    Raises:
        UserError: they do not fit, and cannot be prepared on disk.
    """
    needed, there = sum(map(memory.needed, choice.tables)), available_memory()
    if needed <= there:
        return None
    why = (
        f"{name} would take about {needed / GIB:.1f} GiB of memory to be prepared in it, and "
        f"{there / GIB:.1f} are free"
    )
    if len(choice.tables) > 1:
        raise UserError(
            f"{why}. A split that is given has to fit: use a machine with more, or give all rows "
            f"in one table, to have them split here."
        )
    require("duckdb", "large", f"{why}: preparing it on disk")
    return f"{why}: it is prepared on disk, by DuckDB"


def _prepare_large(
    source: Source,
    choice: ChosenFiles,
    split: SplitSettings,
    reading: Reading,
    inputs: dict[str, Any],
    notes: Sequence[str],
) -> Prepared:
    from pipeline.data.large.preparation import prepare_large

    home().mkdir(parents=True, exist_ok=True)
    with unfinished(home(), DATASET) as partial:
        partial.mkdir()
        made, told = prepare_large(
            source.name, choice, split, reading, partial, int(available_memory())
        )
        folder = home() / made.fingerprint
        if folder.exists():
            notes = [*notes, *_put_aside_damaged(folder)]
        _finish(made, partial, folder, _record(made, source, told, inputs))
    made = made.moved(folder)
    notes = (*notes, *told, *made.notes.values())
    return Prepared(with_kept_titles(made, folder), folder, notes, made.counts, reused=False)


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
        with unfinished(home(), DATASET) as partial:
            partial.mkdir()
            fetched = fetch(partial)
            try:
                fetched.replace(folder)
            except OSError:
                if not folder.exists():  # another process was quicker otherwise
                    raise
    return _load(folder)


def _load(folder: Path, notes: Sequence[str] = ()) -> Prepared:
    record = _read_record(folder)
    notes = (*notes, *record.reading_notes)
    made_by = record.split or {"protocol": "time", **record.inputs.get("split", {})}
    split = SplitSettings.read(made_by, where=str(folder / META))
    try:
        dataset = _read(folder, record, split)
        fingerprint = dataset.fingerprint
    except Exception as error:  # pandas raises many kinds for what it stumbles over
        raise _damaged(folder, error) from None
    if fingerprint != folder.name:
        raise UserError(
            f"{folder}: the tables no longer have the fingerprint that names the folder "
            f"(they have {fingerprint}). Delete the folder and prepare again."
        )
    dataset = with_kept_titles(dataset, folder)
    notes = (*notes, *record.split_notes.values())
    return Prepared(dataset, folder, notes, record.counts, reused=True)


def _read(folder: Path, record: MetaFile, split: SplitSettings) -> Dataset:
    """A dataset whose tables are read, or, where they are large, will be when they are used."""
    known: dict[str, Any] = {"name": record.name, "split": split, "protocol": record.protocol}
    known |= {"counts": record.counts, "notes": record.split_notes}
    sizes = [count_rows(Part(folder / f"{name}.parquet")) for name in ("train", "later")]
    small = [] if sum(sizes) > READ_AT_ONCE else ["train", "later"]
    files = [folder / f"{name}.parquet" for name in ("users", "items", *small)]
    files += folder.glob(f"{SUPERSEDED}.parquet") if small else []
    tables: dict[str, Any] = {file.stem: pd.read_parquet(file, memory_map=True) for file in files}
    return Dataset(**known, **tables) if small else StoredDataset(folder, **known, **tables)


def _read_record(folder: Path) -> MetaFile:
    try:
        return MetaFile.model_validate_json((folder / META).read_bytes())
    except (OSError, ValidationError) as error:
        raise _damaged(folder, error) from None


def _damaged(folder: Path, error: Exception) -> UserError:
    return UserError(f"{folder}: damaged ({brief(error)}). Delete the folder and prepare again.")


def _put_aside_damaged(folder: Path) -> list[str]:
    """Make room in the place of a damaged dataset, keeping what there is; what was done."""
    try:
        _load(folder)
        return []
    except UserError:
        aside = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".damaged-{folder.name}-"))
        folder.replace(aside / folder.name)
        return [f"warning: the damaged {folder} is kept as {aside / folder.name}"]


def store(dataset: Dataset, folder: Path, meta: dict[str, Any]) -> None:
    """Store a dataset and the record ``meta`` in ``folder``, which its fingerprint names.

    Everything is written beside the final place, then renamed: the folder is whole or absent.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with unfinished(folder.parent, DATASET) as partial:
        partial.mkdir()
        for name in TABLES if dataset.superseded.empty else (*TABLES, SUPERSEDED):
            getattr(dataset, name).to_parquet(partial / f"{name}.parquet", index=False)
        _finish(dataset, partial, folder, meta)


def _finish(dataset: Dataset, partial: Path, folder: Path, meta: dict[str, Any]) -> None:
    """Give the folder with the tables of a dataset its record and its name."""
    content = {**meta, "statistics": dataset.statistics}
    (partial / META).write_text(json.dumps(content, indent=2) + "\n")
    for file in partial.iterdir():
        sync(file)
    try:
        partial.replace(folder)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        # The same fingerprint, from other inputs or by another process just now: only the record
        # is new.
        (partial / META).replace(folder / META)
