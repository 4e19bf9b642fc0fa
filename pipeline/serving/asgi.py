"""The parts of an ASGI app that those of this project have in common."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

CODES = {404: "RESOURCE_DOES_NOT_EXIST", 429: "REQUEST_LIMIT_EXCEEDED"}


async def refuse(send: Send, status: int, why: str, *headers: tuple[bytes, bytes]) -> None:
    """Answer as MLflow does where something is wrong: JSON with a code and a message."""
    body = {"error_code": CODES.get(status, "INVALID_PARAMETER_VALUE"), "message": why}
    content = json.dumps(body).encode()
    kind = (b"content-type", b"application/json")
    length = (b"content-length", b"%d" % len(content))
    start = {"type": "http.response.start", "status": status, "headers": [kind, length, *headers]}
    await send(start)
    await send({"type": "http.response.body", "body": content})
