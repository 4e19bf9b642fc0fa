"""A served model under requests that nobody should send: is each refused, and does memory stay?

    python -m benchmarks.abuse [--dataset ml-1m] [--requests 10000] [--seconds 60] [--json]

The model is that of benchmarks.serving, behind ``mlflow models serve``. First one client sends
requests of many broken kinds, drawn with a seed; then eight send the largest that are answered and
the broken ones at the same time. A status of 500 and above, or no answer at all, is a failure.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from urllib.parse import urlsplit

from benchmarks.report import Bar, Report, Row, Table, parser, progress
from benchmarks.servers import model_server
from benchmarks.serving import logged_model
from pipeline.serving.bounds import BODY_BYTES, LIKING_ROWS, PLACES, ROWS

CLIENTS = 8
WARM_SECONDS = 15.0
GROWTH_MB = 100.0
JSON = "application/json"


@dataclass(frozen=True)
class Sent:
    """A request: what kind it is, and how it goes over the wire."""

    kind: str
    body: bytes
    content_type: str | None = JSON
    method: str = "POST"
    chunked: bool = False


def whole(users: Sequence[str], random: Random, rows: int = 3, k: int = 10) -> Sent:
    """A good request."""
    records = [{"user": random.choice(users)} for _ in range(rows)]
    return Sent("good", json.dumps({"dataframe_records": records, "params": {"k": k}}).encode())


def largest(users: Sequence[str], items: Sequence[str], random: Random) -> Sent:
    """As much as is answered at a time: many rows with what somebody likes, or long lists."""
    liking = [{"items": random.choices(items, k=20)} for _ in range(LIKING_ROWS)]
    others = [{"user": user} for user in random.choices(users, k=ROWS - LIKING_ROWS)]
    body = {"dataframe_records": [*liking, *others], "params": {"k": PLACES // ROWS}}
    return Sent("the largest answered", json.dumps(body).encode())


def broken(random: Random, users: Sequence[str], items: Sequence[str]) -> Sent:
    """A request of one of many kinds that are wrong, or too much."""
    kind = random.choice(sorted(KINDS))
    sent = KINDS[kind](random, users, items)
    return Sent(kind, sent.body, sent.content_type, sent.method, sent.chunked)


def _of(value: object, **more: object) -> Sent:
    return Sent("", json.dumps({"dataframe_records": value, **more}).encode())


def _k(random: Random, users: Sequence[str], items: Sequence[str]) -> Sent:
    values = [10**9, 2**31, 2**63, 10**400, -1, 0, 1.5, 1e9, 1e308, True, "10", [10], {}, 1001]
    return _of([{"user": random.choice(users)}], params={"k": random.choice(values)})


def _rows(random: Random, users: Sequence[str], items: Sequence[str]) -> Sent:
    return _of(
        [{"user": user} for user in random.choices(users, k=random.choice([ROWS + 1, 30_000]))]
    )


def _deep(random: Random, users: Sequence[str], items: Sequence[str]) -> Sent:
    depth = random.choice([9, 500, 5000, 900_000])
    opens, closes = random.choice([("[", "]"), ('{"a":', "}")])
    inner = opens * depth + "1" + closes * random.choice([0, depth])
    return Sent("", ('{"dataframe_records": [{"items": ' + inner + "}]}").encode()[:BODY_BYTES])


def _large(random: Random, users: Sequence[str], items: Sequence[str]) -> Sent:
    body = b" " * random.randrange(BODY_BYTES + 1, 3 * BODY_BYTES)
    return Sent("", body, chunked=random.random() < 0.5)


def _wide(random: Random, users: Sequence[str], items: Sequence[str]) -> Sent:
    records = [{f"c{row}_{column}": 1 for column in range(90)} for row in range(900)]
    return _of(records)


def _ragged(random: Random, users: Sequence[str], items: Sequence[str]) -> Sent:
    data = [[1] for _ in range(900)] + [[1] * 80_000]
    table = {"columns": random.choice([["user"], [], "user", [["user"]]]), "data": data}
    return Sent("", json.dumps({"dataframe_split": table}).encode())


def _ids(random: Random, users: Sequence[str], items: Sequence[str]) -> Sent:
    ids = [
        "x" * 10**6, "\ud800", "\x00", "🎬" * 150, 10**199, -1, 1.5, float("inf"), float("nan"),
        1e308, {}, {"a": 1}, [[["x"]]], None, True, "", " ", "' OR 1=1 --", "../../etc/passwd",
    ]  # fmt: skip
    column = random.choice(["user", "items", "exclude", "allowed"])
    cell = [random.choice(ids) for _ in range(random.randrange(5))]
    return _of([{column: random.choice([cell, random.choice(ids)])}], params={"k": 1000})


def _many_ids(random: Random, users: Sequence[str], items: Sequence[str]) -> Sent:
    return _of([{"items": ["x"] * random.choice([99_000, 250_000])}])


def _other_forms(random: Random, users: Sequence[str], items: Sequence[str]) -> Sent:
    user = random.choice(users)
    bodies: list[object] = [
        {"inputs": {"user": [user]}}, {"instances": [{"user": user}]}, {"messages": [user]},
        {"dataframe_records": [], "dataframe_split": {}}, {"dataframe_records": {}}, [], 1, None,
        {"dataframe_records": [{"film": user}]}, {"dataframe_records": [user]}, "text", {},
        {"params": {"k": 3}}, {"dataframe_records": [{"user": user}], "params": 3},
        {"dataframe_split": {"columns": ["user"], "data": [[user]], "index": [1.5]}},
    ]  # fmt: skip
    return Sent("", json.dumps(random.choice(bodies)).encode())


def _bytes(random: Random, users: Sequence[str], items: Sequence[str]) -> Sent:
    return Sent("", random.randbytes(random.randrange(200)))


def _damaged(random: Random, users: Sequence[str], items: Sequence[str]) -> Sent:
    body = bytearray(whole(users, random).body)
    for _ in range(random.randrange(1, 4)):
        body[random.randrange(len(body))] = random.randrange(256)
    return Sent("", bytes(body[: random.randrange(len(body) // 2, len(body) + 1)]))


def _encoded(random: Random, users: Sequence[str], items: Sequence[str]) -> Sent:
    text = whole(users, random).body.decode()
    return Sent("", text.encode(random.choice(["utf-16", "utf-32", "utf-8-sig", "utf-16-be"])))


def _typed(random: Random, users: Sequence[str], items: Sequence[str]) -> Sent:
    types = [None, "", "text/csv", "text/plain", "application/vnd.apache.parquet", f"{JSON}; x=1"]
    types += [f"{JSON}; charset=latin-1", f"{JSON};", "a" * 5000]
    return Sent("", b"user\n1\n" + b"," * 500_000, random.choice(types))


def _method(random: Random, users: Sequence[str], items: Sequence[str]) -> Sent:
    return Sent("", b"{}", method=random.choice(["GET", "PUT", "DELETE", "PATCH"]))


KINDS: dict[str, Callable[[Random, Sequence[str], Sequence[str]], Sent]] = {
    "k": _k, "rows": _rows, "deep": _deep, "large": _large, "wide": _wide, "ragged": _ragged,
    "ids": _ids, "many ids": _many_ids, "other forms": _other_forms, "bytes": _bytes,
    "damaged": _damaged, "encoded": _encoded, "content type": _typed, "method": _method,
}  # fmt: skip


class Client:
    """One connection that is made again where the server has ended it."""

    def __init__(self, url: str) -> None:
        self.address = str(urlsplit(url).netloc)
        self.connection = http.client.HTTPConnection(self.address, timeout=120)

    def send(self, sent: Sent) -> int:
        """The status of the answer; 0 where there is none.

        Raises:
            ConnectionRefusedError: there is no server.
        """
        headers = {} if sent.content_type is None else {"Content-Type": sent.content_type}
        if not sent.chunked:
            headers["Content-Length"] = str(len(sent.body))
        try:
            self.connection.putrequest(sent.method, "/invocations")
            for name, value in headers.items():
                self.connection.putheader(name, value)
            if sent.chunked:
                self.connection.putheader("Transfer-Encoding", "chunked")
            self._send_body(sent)
            answer = self.connection.getresponse()
            answer.read()
        except ConnectionRefusedError:
            raise
        except (http.client.HTTPException, OSError):
            self.connection.close()
            return 0
        if answer.status == 413:  # the rest of the body was not read
            self.connection.close()
        return answer.status

    def _send_body(self, sent: Sent) -> None:
        self.connection.endheaders()
        size = 2**16
        try:
            for start in range(0, len(sent.body), size):
                part = sent.body[start : start + size]
                self.connection.send(b"%x\r\n%s\r\n" % (len(part), part) if sent.chunked else part)
            if sent.chunked:
                self.connection.send(b"0\r\n\r\n")
        except (BrokenPipeError, ConnectionResetError):
            pass  # refused before all was there: the answer may still be read


def memory_mb(url: str, field: str = "VmRSS") -> float:
    """Of the process that serves ``url``, as Linux counts it; VmHWM is the most it ever had."""
    port = url.rpartition(":")[2].encode()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
            if port in words and any(word.startswith(b"mlflow.pyfunc.scoring") for word in words):
                (line,) = (
                    line
                    for line in (process / "status").read_text().splitlines()
                    if line.startswith(field)
                )
                return int(line.split()[1]) / 1024
        except OSError:
            continue
    raise RuntimeError(f"Nothing serves {url} any more.")


def fuzz(url: str, requests: Iterator[Sent]) -> dict[str, Counter[int]]:
    """How often each kind of request got which status."""
    client, statuses = Client(url), dict[str, Counter[int]]()
    for sent in requests:
        statuses.setdefault(sent.kind, Counter())[client.send(sent)] += 1
    return statuses


def crowd(
    url: str, users: Sequence[str], items: Sequence[str], seconds: float
) -> dict[str, Counter[int]]:
    """The same of several clients at once, for a time."""
    until, found = time.monotonic() + seconds, list[dict[str, Counter[int]]]()

    def requests(random: Random) -> Iterator[Sent]:
        while time.monotonic() < until:
            draw = random.random()
            if draw < 0.1:
                yield largest(users, items, random)
            elif draw < 0.5:
                yield whole(users, random)
            else:
                yield broken(random, users, items)

    threads = [
        threading.Thread(target=lambda seed=seed: found.append(fuzz(url, requests(Random(seed)))))
        for seed in range(CLIENTS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if len(found) < CLIENTS:
        raise RuntimeError("A client has lost its server.")
    every = {kind for each in found for kind in each}
    return {kind: sum((each.get(kind, Counter()) for each in found), Counter()) for kind in every}


def table(title: str, statuses: dict[str, Counter[int]]) -> Table:
    """A row per kind of request."""
    rows: list[Row] = []
    for kind, counts in sorted(statuses.items()):
        refused = sum(count for status, count in counts.items() if 400 <= status < 500)
        rows.append(
            {
                "request": kind,
                "sent": sum(counts.values()),
                "answered": counts[200],
                "refused": refused,
                "5xx or none": sum(counts.values()) - counts[200] - refused,
            }
        )
    return Table(title, rows)


def report(dataset: str, count: int, seconds: float) -> Report:
    """Train, serve, attack."""
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as temporary:
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{temporary}/mlflow.db"
        os.chdir(temporary)
        try:
            uri, users, items = logged_model(dataset, 1)
            with model_server(uri, Path(temporary)) as url:
                random = Random(0)
                # Two requests at once, and what PyTorch and pandas load when they are first used.
                crowd(url, users, items, WARM_SECONDS)
                at_first = memory_mb(url)
                progress(f"{count} broken requests")
                one = fuzz(url, (broken(random, users, items) for _ in range(count)))
                after_fuzz = memory_mb(url)
                progress(f"{CLIENTS} clients for {seconds:.0f} s")
                many = crowd(url, users, items, seconds)
                after_crowd, most = memory_mb(url), memory_mb(url, "VmHWM")
        finally:
            os.chdir(before)
    tables = [
        table(f"One client, {count:,} requests", one),
        table(f"{CLIENTS} clients, {seconds:.0f} s", many),
        Table(
            "Memory of the server [MB]",
            [
                {
                    f"after {WARM_SECONDS:.0f} s of {CLIENTS} clients": at_first,
                    "after the one": after_fuzz,
                    f"after {seconds:.0f} s of {CLIENTS}": after_crowd,
                    "most ever": most,
                }
            ],
        ),
    ]
    failed = sum(int(row["5xx or none"]) for each in tables[:2] for row in each.rows)
    bars = [
        Bar("5xx or no answer", float(failed), 0.0),
        Bar("growth of memory", after_crowd - at_first, GROWTH_MB, "MB"),
    ]
    return Report("Abuse", tables, bars)


def main() -> None:
    """Command line."""
    arguments = parser(__doc__)
    arguments.add_argument("--dataset", default="ml-1m", help="what to prepare and train on")
    arguments.add_argument("--requests", type=int, default=10_000, help="of the one client")
    arguments.add_argument("--seconds", type=float, default=60.0, help="of the many clients")
    given = arguments.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # not without ending the server
    report(given.dataset, given.requests, given.seconds).publish(given.json)


if __name__ == "__main__":
    main()
