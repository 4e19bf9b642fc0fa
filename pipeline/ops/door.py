"""The door of a team's server: which pages it has, and how often somebody may knock.

An ASGI app around MLflow's, so that nothing of MLflow runs before it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import math
import re
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from pipeline.serving.asgi import App, Message, Receive, Scope, Send, refuse

FREE = 10
"""Logins in a row that may be wrong; after them each costs a wait twice as long as the last."""
LONGEST_WAIT = 60.0
FORGOTTEN_AFTER = 900.0  # seconds without a try
REMEMBERED = 10_000  # names at addresses

# What experiments, runs, models and users are, in all versions of MLflow's interface and for its
# pages. Not here: gateways and their secrets, assistants, jobs, webhooks, traces, prompts, reviews,
# MCP servers. Some of them run programs, or keep other people's keys.
ROOMS = (
    "experiments|runs|metrics|artifacts|upload-artifact|logged-models|registered-models|"
    "model-versions|users|roles|server-info"
)
OPEN = re.compile(
    rf"/|/(health|version|signup|graphql|get-artifact|model-versions/get-artifact|favicon\.ico)"
    rf"|/static-files/.*|/(ajax-)?api/[23]\.0/mlflow-artifacts/.*"
    rf"|/(ajax-)?api/[23]\.0/?mlflow/({ROOMS})(/.*)?",
    re.DOTALL,
)

Who = tuple[str, str]
"""A user's name and the address that it is said from, so that nobody locks others out."""


class Logins:
    """Who has tried to log in how often without success."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self.now = now
        self.tries = OrderedDict[Who, tuple[int, float]]()
        self.right = OrderedDict[Who, bytes]()

    def wait(self, who: Who, login: bytes) -> float:
        """Seconds until ``login`` may be tried, which counts as a try if it is 0.

        One that was right the last time may always: a forgotten job with an old password keeps
        nobody of the same name and address out.
        """
        if self.right.get(who) == _digest(login):
            return 0.0
        count, last = self.tries.get(who, (0, 0.0))
        now = self.now()
        if now - last > FORGOTTEN_AFTER:
            count = 0
        pause = min(LONGEST_WAIT, 2.0 ** (count - FREE)) if count >= FREE else 0.0
        if now < last + pause:
            return last + pause - now
        _remember(self.tries, who, (count + 1, now))
        return 0.0

    def tell(self, who: Who, login: bytes, is_right: bool) -> None:
        """Learn how a try went."""
        if is_right:
            self.tries.pop(who, None)
            _remember(self.right, who, _digest(login))
        elif self.right.get(who) == _digest(login):
            del self.right[who]  # the password has been changed


class Door:
    """An ASGI app around that of MLflow."""

    def __init__(self, app: App) -> None:
        self.app, self.logins = app, Logins()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on that is for a page of this server, by who may try to log in."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if not OPEN.fullmatch(scope["path"]):
            await refuse(send, 404, "This server has no such page.")
            return
        logins = [value for name, value in scope["headers"] if name == b"authorization"]
        if not logins:
            await self.app(scope, receive, send)
            return
        if len(logins) > 1:  # MLflow would take one, and another would be counted here
            await refuse(send, 400, "More than one login.")
            return
        (login,) = logins
        who = (_name(login), str((scope.get("client") or ("",))[0]))
        if pause := self.logins.wait(who, login):
            seconds = math.ceil(pause)
            why = f"Too many wrong logins: try again in {seconds} s."
            await refuse(send, 429, why, (b"retry-after", b"%d" % seconds))
            return

        async def heard(message: Message) -> None:
            if message["type"] == "http.response.start":
                self.logins.tell(who, login, message["status"] != 401)
            await send(message)

        await self.app(scope, receive, heard)


def _name(login: bytes) -> str:
    try:
        named = base64.b64decode(login.partition(b" ")[2]).partition(b":")[0]
    except (binascii.Error, ValueError):
        return ""
    return named.decode(errors="replace")


def _digest(login: bytes) -> bytes:
    return hashlib.sha256(login).digest()


def _remember(kept: OrderedDict[Who, Any], who: Who, what: Any) -> None:
    kept[who] = what
    kept.move_to_end(who)
    if len(kept) > REMEMBERED:
        kept.popitem(last=False)
