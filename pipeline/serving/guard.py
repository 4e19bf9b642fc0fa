"""What stands between the network and a served model: nothing too large gets to MLflow's parser."""

from __future__ import annotations

import asyncio
import ctypes
import platform
import sys
from typing import Any

from pipeline.errors import UserError
from pipeline.serving.asgi import App, Message, Receive, Scope, Send, refuse
from pipeline.serving.bounds import BODY_BYTES, check_request

AT_ONCE = 2
"""Requests in work; others wait, so that memory is that of so many."""
WAITING = 64
"""Requests that are here at all: each holds a body."""
BODY_SECONDS = 30.0  # for all of a body to come
JSON = "application/json"
SERVER = "mlflow.pyfunc.scoring_server.app"
ARENA_MAX = -8  # glibc's M_ARENA_MAX: how many heaps threads have; each keeps what lay in it once


class RefusedError(Exception):
    """A status of HTTP and why, in words."""

    def __init__(self, status: int, why: str) -> None:
        self.status, self.why = status, why


class Guard:
    """An ASGI app around that of MLflow's scoring server; other routes than its own pass."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.turn = asyncio.Semaphore(AT_ONCE)
        self.here = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check a request, then pass it on, or answer with a 4xx."""
        if scope["type"] != "http" or scope["path"] != "/invocations" or scope["method"] != "POST":
            await self.app(scope, receive, send)
            return
        self.here += 1
        try:
            if self.here > WAITING:
                raise RefusedError(429, "Too many requests are waiting: ask again in a moment.")
            body = await _body(scope, receive)
            if body is None:
                return
            try:
                check_request(body)
            except UserError as error:
                raise RefusedError(400, str(error)) from None
            async with self.turn:
                await self.app(scope, _again(body, receive), send)
        except RefusedError as refused:
            await refuse(send, refused.status, refused.why)
        finally:
            self.here -= 1


async def _body(scope: Scope, receive: Receive) -> bytes | None:
    """All of a body of JSON that is not too long; None where the client has gone.

    Raises:
        RefusedError: it is something else.
    """
    headers = {name.lower(): value for name, value in scope["headers"]}
    kind = headers.get(b"content-type", b"").partition(b";")[0].strip().decode("latin-1")
    if kind != JSON:
        raise RefusedError(415, f"The body is {kind or 'of no type'}: expected {JSON}.")
    long = RefusedError(
        413, f"The body has more than {BODY_BYTES:,} bytes: send fewer rows at a time."
    )
    length = headers.get(b"content-length", b"0")
    if length.isdigit() and int(length) > BODY_BYTES:
        raise long
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return None
                body += message.get("body", b"")
                if len(body) > BODY_BYTES:
                    raise long
                if not message.get("more_body"):
                    return bytes(body)
    except TimeoutError:
        raise RefusedError(408, f"The body did not come within {BODY_SECONDS:.0f} s.") from None


def _again(body: bytes, receive: Receive) -> Receive:
    """``receive`` for who has not read the body yet."""
    messages = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def given() -> Message:
        return next(messages, None) or await receive()

    return given


def guard_scoring_server() -> None:
    """Put a ``Guard`` around the app of ``mlflow models serve``, where this process is one.

    MLflow has no place for it: its server loads the model and makes its app afterwards, of what
    ``fastapi`` then calls FastAPI. No other process that loads the model is touched.
    """
    if SERVER not in sys.modules:
        return
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).mallopt(ARENA_MAX, AT_ONCE)
    import fastapi

    class Guarded(fastapi.FastAPI):
        def build_middleware_stack(self) -> Any:
            return Guard(super().build_middleware_stack())

    fastapi.FastAPI = Guarded  # type: ignore[misc]
