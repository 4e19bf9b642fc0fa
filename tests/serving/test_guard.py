"""What reaches a served model: bodies that came whole, in time, and are not too large."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from typing import Any

import pytest

from pipeline.serving import guard
from pipeline.serving.asgi import Message, Receive, Scope, Send
from pipeline.serving.guard import Guard

BODY = b'{"dataframe_records": [{"user": "1"}]}'


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """An app that answers with the body that it was given."""
    message = await receive()
    assert not message["more_body"]
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": message["body"]})


def scope(kind: bytes = b"application/json", **more: Any) -> Scope:
    headers = [(b"Content-Type", kind)]
    return {"type": "http", "path": "/invocations", "method": "POST", "headers": headers, **more}


async def sent(guarded: Guard, scope: Scope, parts: Iterable[bytes | None]) -> tuple[int, bytes]:
    """Status and body of the answer to a body in parts; None is a client that waits, or is gone."""
    answer: list[Message] = []
    waiting = iter(parts)

    async def receive() -> Message:
        part = next(waiting, b"")
        if part is None:
            await asyncio.sleep(60)
        return {"type": "http.request", "body": part, "more_body": part != b""}

    async def send(message: Message) -> None:
        answer.append(message)

    await guarded(scope, receive, send)
    return answer[0]["status"], answer[1]["body"]


def asked(*parts: bytes | None, scope: Scope = scope()) -> tuple[int, bytes]:  # noqa: B008
    return asyncio.run(sent(Guard(echo), scope, parts))


def test_a_good_body_passes_whole() -> None:
    assert asked(BODY[:9], BODY[9:]) == (200, BODY)
    assert asked(BODY, scope=scope(b"application/json; charset=utf-8")) == (200, BODY)


def test_other_routes_pass_as_they_are() -> None:
    assert asyncio.run(sent(Guard(_status), scope(path="/ping"), [])) == (204, b"")
    assert asyncio.run(sent(Guard(_status), scope(method="GET"), [])) == (204, b"")


async def _status(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b""})


def test_what_is_too_long_is_not_read_to_its_end() -> None:
    read = []

    def parts() -> Iterable[bytes]:
        while True:
            read.append(1)
            yield b" " * 2**20

    status, told = asyncio.run(sent(Guard(echo), scope(), parts()))
    assert (status, len(read)) == (413, 3)
    assert "more than 2,097,152 bytes" in json.loads(told)["message"]
    length = [(b"content-type", b"application/json"), (b"content-length", b"9000000")]
    assert asked(None, scope=scope(headers=length))[0] == 413


def test_other_content_is_refused() -> None:
    for kind in (b"text/csv", b"application/vnd.apache.parquet", b""):
        status, told = asked(BODY, scope=scope(kind))
        assert status == 415
        assert b"expected application/json" in told
    assert asked(BODY, scope=scope(headers=[]))[0] == 415


def test_a_body_that_does_not_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "BODY_SECONDS", 0.05)
    assert asked(BODY[:9], None)[0] == 408


def test_what_is_wrong_is_told() -> None:
    status, told = asked(b'{"dataframe_records": [], "params": {"k": 1000000000}}')
    assert status == 400
    assert json.loads(told) == {
        "error_code": "INVALID_PARAMETER_VALUE",
        "message": "k is 1000000000: expected a whole number from 1 to 1,000.",
    }


def test_few_at_once_and_not_too_many_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "WAITING", 6)
    working = most = 0

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal working, most
        working += 1
        most = max(most, working)
        await asyncio.sleep(0.02)
        working -= 1
        await echo(scope, receive, send)

    async def crowd() -> list[int]:
        guarded = Guard(slow)
        came = await asyncio.gather(*(sent(guarded, scope(), [BODY]) for _ in range(9)))
        again = await sent(guarded, scope(), [BODY])
        return [status for status, _ in [*came, again]]

    statuses = asyncio.run(crowd())
    assert sorted(statuses[:9]) == [200] * 6 + [429] * 3
    assert (statuses[9], most) == (200, guard.AT_ONCE)


def test_a_client_that_has_gone_is_not_answered() -> None:
    async def gone() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        pytest.fail("nobody listens")

    asyncio.run(Guard(echo)(scope(), gone, send))
