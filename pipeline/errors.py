"""What users see as a message instead of a traceback, and what it may quote."""

from __future__ import annotations


class UserError(Exception):
    """Something that its user can mend: says what, where, what was expected and what to do."""


class LostError(UserError):
    """Another of the processes that train together has ended."""


def brief(text: object, length: int = 200) -> str:
    """What comes from a file or a library, for a message: a line without control characters."""
    line = "".join(c if c.isprintable() else "?" for c in " ".join(str(text).split()))
    return line if len(line) <= length else f"{line[: length - 3]}..."
