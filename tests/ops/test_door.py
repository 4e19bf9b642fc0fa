"""Who may knock how often, and which pages there are."""

from __future__ import annotations

import asyncio
import base64

import pytest

from pipeline.ops import door
from pipeline.ops.door import FREE, LONGEST_WAIT, OPEN, Door, Logins
from pipeline.serving.asgi import Message, Receive, Scope, Send

ADA = ("ada", "10.0.0.1")


class Clock:
    """A time that passes when it is told to."""

    def __init__(self) -> None:
        self.time = 1000.0

    def __call__(self) -> float:
        return self.time


def test_waits_double_and_end() -> None:
    clock = Clock()
    logins = Logins(clock)
    waits = []
    for number in range(FREE + 9):
        login = b"%d" % number
        wait = logins.wait(ADA, login)
        clock.time += wait
        if wait:
            waits.append(wait)
            assert logins.wait(ADA, login) == 0
        logins.tell(ADA, login, False)
    assert waits == [1, 2, 4, 8, 16, 32, LONGEST_WAIT, LONGEST_WAIT, LONGEST_WAIT]
    clock.time += door.FORGOTTEN_AFTER + 1
    assert logins.wait(ADA, b"again") == 0


def test_many_guesses_at_once_are_not_more_than_one_after_another() -> None:
    logins = Logins(Clock())
    passed = [logins.wait(ADA, b"%d" % number) == 0 for number in range(100)]
    assert sum(passed) == FREE  # none of them has been answered yet


def test_nobody_locks_others_out() -> None:
    logins = Logins(Clock())
    for number in range(20):
        logins.wait(ADA, b"%d" % number)
    assert logins.wait(ADA, b"right") > 0
    assert logins.wait(("ada", "10.0.0.2"), b"right") == 0
    assert logins.wait(("ben", "10.0.0.1"), b"right") == 0


def test_a_right_login_is_free_until_it_is_wrong() -> None:
    logins = Logins(Clock())
    assert logins.wait(ADA, b"right") == 0
    logins.tell(ADA, b"right", True)
    for number in range(20):
        if logins.wait(ADA, b"old %d" % number) == 0:
            logins.tell(ADA, b"old %d" % number, False)
    assert logins.wait(ADA, b"old") > 0
    assert logins.wait(ADA, b"right") == 0
    logins.tell(ADA, b"right", False)
    assert logins.wait(ADA, b"right") > 0


def test_memory_of_names_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "REMEMBERED", 50)
    logins = Logins(Clock())
    for number in range(500):
        logins.wait((str(number), ""), b"x")
        logins.tell((str(number), ""), b"x", True)
    assert len(logins.tries) <= 50
    assert len(logins.right) <= 50


@pytest.mark.parametrize(
    ("path", "is_open"),
    [
        ("/", True),
        ("/static-files/main.js", True),
        ("/api/2.0/mlflow/runs/create", True),
        ("/ajax-api/2.0/mlflow/logged-models/m-1/tags", True),
        ("/api/2.0/mlflow-artifacts/artifacts/1/r/artifacts/a b", True),
        ("/api/3.0/mlflow/gateway/secrets/list", False),
        ("/ajax-api/3.0/mlflow/assistant/config", False),
        ("/api/2.0/mlflow/runs-of-others", False),
        ("//api/2.0/mlflow/runs/create", False),
        ("/x/api/2.0/mlflow/runs/create", False),
        ("/v1/traces", False),
    ],
)
def test_pages(path: str, is_open: bool) -> None:
    assert (OPEN.fullmatch(path) is not None) == is_open


def test_one_login_at_a_time() -> None:
    """Of two MLflow would check one, and the tries of another's name would be counted."""
    asked = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        asked.append(scope)
        await send({"type": "http.response.start", "status": 401, "headers": []})

    async def status(*names: str) -> int:
        answer: list[Message] = []

        async def send(message: Message) -> None:
            answer.append(message)

        logins = [b"Basic " + base64.b64encode(f"{name}:guess".encode()) for name in names]
        scope = {"type": "http", "path": "/", "client": ("10.0.0.1", 1)}
        await door_(
            {**scope, "headers": [(b"authorization", login) for login in logins]}, receive, send
        )
        return int(answer[0]["status"])

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    door_ = Door(app)
    assert asyncio.run(status("ada", "decoy")) == 400
    assert not asked
    statuses = [asyncio.run(status("ada")) for _ in range(FREE + 2)]
    assert statuses == [401] * FREE + [429] * 2
    assert asyncio.run(status("ben")) == 401
