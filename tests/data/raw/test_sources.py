from __future__ import annotations

import contextlib
import hashlib
import io
import os
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from pipeline.data.raw import sources
from pipeline.data.raw.ratings import read_ratings
from pipeline.data.raw.sources import find
from pipeline.errors import UserError


def archive(name: str = "ml-1m") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr(zipfile.ZipInfo(f"{name}/ratings.dat"), "1::10::5::978300760\n" * 5000)
    return buffer.getvalue()


class GroupLens:
    """A server on this machine: the files it has, and where it breaks off."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.breaks_after: int | None = None
        self.asked: list[str] = []


@contextlib.contextmanager
def serving(state: GroupLens) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.asked.append(self.path)
            content = state.files.get(self.path)
            if content is None:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: state.breaks_after])

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current directory, no configured one, and nothing listening for GroupLens."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.delenv(sources.DATA_DIR, raising=False)
    monkeypatch.setattr(sources, "GROUPLENS", "http://127.0.0.1:9/")
    return folder


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The one place, empty yet, in which pip looks for packages."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@pytest.fixture
def grouplens(here: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[GroupLens]:
    state = GroupLens()
    with serving(state) as url:
        monkeypatch.setattr(sources, "GROUPLENS", url)
        yield state


def publish(monkeypatch: pytest.MonkeyPatch, name: str, known: str | None) -> None:
    monkeypatch.setattr(sources, "PUBLISHED", {**sources.PUBLISHED, name: known})


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*"))


def refused(dataset: str) -> str:
    with pytest.raises(UserError) as caught:
        find(dataset)
    return str(caught.value)


def test_configured_directory_comes_before_data(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder, content in ((tmp_path / "mine", archive()), (here / "data", b"other")):
        folder.mkdir()
        (folder / "ml-1m.zip").write_bytes(content)
    monkeypatch.setenv(sources.DATA_DIR, str(tmp_path / "mine"))
    source = find("ml-1m")
    assert (source.name, source.path) == ("ml-1m", tmp_path / "mine" / "ml-1m.zip")
    assert source.sha256 == sha256(archive())
    monkeypatch.delenv(sources.DATA_DIR)
    assert find("ml-1m").path == here / "data" / "ml-1m.zip"


@pytest.mark.parametrize("algorithm", ["sha256", "md5"])
def test_archive_that_differs_is_used_with_a_warning(
    algorithm: str, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "data").mkdir()
    (here / "data" / "ml-1m.zip").write_bytes(archive())
    found = hashlib.new(algorithm, archive()).hexdigest()
    publish(monkeypatch, "ml-1m", f"{algorithm}:{'0' * len(found)}")
    (note,) = find("ml-1m").notes
    assert "warning" in note
    assert "differs from the published archive" in note
    assert found in note
    publish(monkeypatch, "ml-1m", f"{algorithm}:{found}")
    assert find("ml-1m").notes == ()


def test_extracted_folder(here: Path) -> None:
    folder = here / "data" / "ml-1m"
    folder.mkdir(parents=True)
    (folder / "ratings.dat").write_text("1::10::5::978300760\n")
    first = find("ml-1m")
    assert first.path == folder
    assert "not compared" in first.notes[0]
    (folder / "README").write_text("of no matter")
    assert find("ml-1m").sha256 == first.sha256
    (folder / "ratings.dat").write_text("1::10::4::978300760\n")
    assert find("ml-1m").sha256 != first.sha256


def test_the_name_of_a_packed_file(here: Path) -> None:
    Path("play.csv.gz").write_bytes(b"")
    assert find("play.csv.gz").name == "play"


def test_own_file_and_folder(here: Path) -> None:
    (here / "mine").mkdir()
    (here / "mine" / "shop.csv").write_text("u,i")
    source = find("mine/shop.csv")
    assert source == sources.Source("shop", Path("mine/shop.csv"), sha256(b"u,i"))
    assert find("mine").name == "mine"
    assert find(str(here / "mine")).sha256 == find("mine").sha256


@pytest.mark.parametrize("name", ["n" * 300, "~no-such-user/ratings.csv", "nul\0", "queue.csv"])
def test_name_that_no_file_has(here: Path, name: str) -> None:
    os.mkfifo("queue.csv")  # nobody writes into it: reading would wait for ever
    assert "neither a known name nor an existing file" in refused(name)


def test_file_that_cannot_be_read(here: Path) -> None:
    Path("ratings.csv").symlink_to("/proc/self/mem")
    assert refused("ratings.csv") == "ratings.csv: cannot be read (Input/output error)."


@pytest.mark.parametrize("place", [30, 70, -100, -60, -30])
def test_damaged_archive_of_the_package(
    here: Path, monkeypatch: pytest.MonkeyPatch, place: int
) -> None:
    (here / "data").mkdir()
    content = bytearray(archive("ml-100k"))
    content[place] ^= 0xFF
    (here / "data" / "ml-100k.zip").write_bytes(content)
    (note,) = find("ml-100k").notes
    assert "differs from the published archive" in note


def test_unknown_name(here: Path) -> None:
    text = refused("ml1m")
    assert "neither a known name nor an existing file" in text
    assert "Did you mean ml-1m" in text
    assert "ml-latest-small" in text
    (here / "ratings.csv").write_text("")
    assert "ratings.csv" in refused("rating.csv").partition("Did you mean")[2]
    assert "Did you mean" not in refused("qqqqqqqq")


def test_downloaded_once_and_whole(
    here: Path, grouplens: GroupLens, monkeypatch: pytest.MonkeyPatch
) -> None:
    grouplens.files["/ml-1m.zip"] = archive()
    publish(monkeypatch, "ml-1m", f"sha256:{sha256(archive())}")
    source = find("ml-1m")
    assert source == sources.Source("ml-1m", here / "data" / "ml-1m.zip", sha256(archive()))
    assert source.path.read_bytes() == archive()
    assert files(here / "data") == ["ml-1m.zip"]
    assert find("ml-1m") == source
    assert grouplens.asked == ["/ml-1m.zip"]


def test_configured_directory_is_never_written(
    tmp_path: Path, grouplens: GroupLens, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    monkeypatch.setenv(sources.DATA_DIR, str(mine))
    grouplens.files["/ml-latest-small.zip"] = archive()
    source = find("ml-latest-small")
    assert "was not verified" in source.notes[0]
    assert files(mine) == []


def test_wrong_checksum_leaves_nothing(here: Path, grouplens: GroupLens) -> None:
    grouplens.files["/ml-1m.zip"] = archive()
    text = refused("ml-1m")
    assert "does not match the known hash" in text
    assert sha256(archive()) in text
    assert files(here / "data") == []


def test_connection_that_breaks_off_leaves_nothing_and_can_be_repeated(
    here: Path, grouplens: GroupLens
) -> None:
    grouplens.files["/ml-latest-small.zip"] = archive()
    grouplens.breaks_after = 50_000
    assert "the connection broke off" in refused("ml-latest-small")
    assert files(here / "data") == []
    grouplens.breaks_after = None
    assert find("ml-latest-small").sha256 == sha256(archive())


def test_page_of_a_portal_is_no_archive(here: Path, grouplens: GroupLens) -> None:
    grouplens.files["/ml-latest-small.zip"] = b"<html>Log in</html>"
    assert "no whole zip archive" in refused("ml-latest-small")
    assert files(here / "data") == []


@pytest.mark.usefixtures("wheels")
def test_every_place_tried_is_told(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = refused("ml-100k")
    assert "PIPELINE_DATA_DIR: not set" in text
    assert f"{here / 'data'}: no such directory" in text
    assert "http://127.0.0.1:9/ml-100k.zip: cannot be reached" in text
    assert "package index, recbole==1.2.1: ERROR: No matching distribution" in text
    assert "Put ml-100k.zip into a directory and name that directory in PIPELINE_DATA_DIR" in text
    monkeypatch.setenv(sources.DATA_DIR, str(tmp_path))
    text = refused("ml-20m")
    assert f"{tmp_path}: no ml-20m.zip and no folder ml-20m" in text
    assert "recbole" not in text


def test_file_that_grouplens_lacks(grouplens: GroupLens) -> None:
    assert "404" in refused("ml-20m")


@pytest.mark.usefixtures("wheels")
def test_auto(here: Path, grouplens: GroupLens) -> None:
    assert "ml-1m could not be had" in refused("auto")
    (here / "data" / "ml-100k.zip").write_bytes(archive())
    source = find("auto")
    assert source.name == "ml-100k"
    assert "auto: ml-100k, because ml-1m could not be had" in source.notes[-1]
    assert "404" in source.notes[-1]
    (here / "data" / "ml-1m.zip").write_bytes(archive())
    source = find("auto")
    assert source.name == "ml-1m"
    assert source.notes[-1] == f"auto: ml-1m, found at {here / 'data' / 'ml-1m.zip'}"


def test_package_with_other_contents_is_refused(here: Path, wheels: Path) -> None:
    wheel = wheels / "recbole-1.2.1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as file:
        for name in ("inter", "item"):
            file.writestr(f"recbole/dataset_example/ml-100k/ml-100k.{name}", "changed")
        file.writestr("recbole-1.2.1.dist-info/METADATA", "Name: recbole\nVersion: 1.2.1\n")
        file.writestr("recbole-1.2.1.dist-info/WHEEL", "Wheel-Version: 1.0\n")
        file.writestr("recbole-1.2.1.dist-info/RECORD", "")
    assert "its SHA-256 differs" in refused("ml-100k")
    assert not (here / "data" / "ml-100k.zip").exists()


@pytest.mark.network
def test_ml_100k_from_the_package_index(here: Path) -> None:
    try:
        source = find("ml-100k")
    except UserError as error:
        pytest.skip(f"no package index can be reached: {error}")
    assert source.notes == ("ml-100k from the package recbole 1.2.1",)
    assert files(here / "data") == ["ml-100k.zip"]
    assert find("ml-100k") == source
    ratings = read_ratings(source.path)
    assert ratings.counts["rows_read"] == len(ratings.table) == 100_000
    assert ratings.table["user"].nunique() == 943
    assert ratings.table["item"].nunique() == len(ratings.items) == 1682
    assert ratings.table.iloc[0].tolist() == [196, 242, 3, 881250949]
    assert ratings.items.iloc[0].tolist() == [1, "Toy Story", "Animation|Children's|Comedy"]
    first = source.path.read_bytes()
    source.path.unlink()
    assert find("ml-100k").path.read_bytes() == first
