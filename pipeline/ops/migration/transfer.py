"""What copying from one store to another has in common, whatever is copied.

A copy carries two tags: ``migrated_from``, the id that it has at its source, by which it is found
again, and, as the last thing, ``migrated``, the digest of what was copied. A copy without a digest
was interrupted; one with another digest is of a source that has changed since.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_MODEL_VERSIONS

from pipeline.ops.migration.artifacts import Files, UnreadableError, carry, list_files
from pipeline.ops.migration.stores import Store, first_line

MIGRATED_FROM = "migrated_from"
MIGRATED = "migrated"
UNFINISHED = "unfinished "
OUR_TAGS = {MIGRATED_FROM, MIGRATED, MLFLOW_MODEL_VERSIONS}  # the last one a store writes itself
MODEL_FILE = "MLmodel"  # holds the ids of its run and model, and where it lies
ID = re.compile(r"\b(m-)?[0-9a-f]{32}\b")
ENDING = {"INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "UNAUTHENTICATED"}  # the next one fails, too

Counts = Counter[str]


@dataclass
class Transfer:
    """Two stores, which copy belongs to which original, and what has come of it so far."""

    source: Store
    target: Store
    copies: dict[str, str] = field(default_factory=dict)
    """Id at the target of a run or model, by its id at the source."""
    originals: dict[str, str] = field(default_factory=dict)
    """The other way round."""
    wanted: Counts = field(default_factory=Counter)
    before: Counts = field(default_factory=Counter)
    now: Counts = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    def add(self, original: str, copy: str) -> None:
        """Note that ``copy`` is that of ``original``."""
        self.copies[original], self.originals[copy] = copy, original

    def renamed(self, text: str) -> str:
        """``text`` with the copies' ids in the place of their originals'."""
        return ID.sub(lambda found: self.copies.get(found[0], found[0]), text)

    def tags(self, tags: Mapping[str, str]) -> dict[str, str]:
        """Those of an original that its copy is to have."""
        return {key: self.renamed(tags[key]) for key in tags if key not in OUR_TAGS}

    @contextmanager
    def trying(self, what: str) -> Iterator[None]:
        """Note what cannot be copied, and let the rest go on."""
        try:
            yield
        except UnreadableError as error:
            self.problems.append(f"{what}: artifacts cannot be read: {first_line(error)}")
        except MlflowException as error:
            if error.error_code in ENDING:
                raise
            self.problems.append(f"{what}: {first_line(error)}")

    def files(self, location: str | None, what: str) -> Files | None:
        """An original's files; none where they cannot be read, which is noted."""
        with self.trying(what):
            try:
                return list_files(self.source.artifacts(location))
            except (MlflowException, ImportError) as error:  # a kind of place that is not known
                raise UnreadableError(str(error)) from error
        return None

    def carry(self, source: str | None, target: str | None, paths: Sequence[str]) -> None:
        """Copy files byte for byte, but for the ids and the place in ``MLmodel``."""

        def edit(file: Path) -> None:
            if file.name == MODEL_FILE:
                text = file.read_bytes().decode()
                file.write_bytes(self.renamed(text.replace(str(source), str(target))).encode())

        if paths:
            carry(self.source.artifacts(source), self.target.artifacts(target), paths, edit)


def digest(content: Any) -> str:
    """What stands for plain values, whatever the order of their dictionaries."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def to_carry(files: Files, there: Files, mark: str | None, digest: str) -> list[str]:
    """Which files a copy with this mark lacks.

    All, where it is no copy of what the source is now: a file may have changed and kept its size.
    """
    if mark not in (digest, UNFINISHED + digest):
        return list(files)
    return [path for path in files if not _is_there(path, files, there)]


def count_files(files: Files, there: Files) -> Counts:
    """Files that are there, and their bytes, without those of files that are rewritten."""
    same = [path for path in files if _is_there(path, files, there)]
    sizes = (files[path] for path in same if Path(path).name != MODEL_FILE)
    return Counter({"artifacts": len(same), "bytes": sum(sizes)})


def _is_there(path: str, files: Files, there: Files) -> bool:
    if Path(path).name == MODEL_FILE:
        return there.get(path, 0) > 0
    return there.get(path) == files[path]
