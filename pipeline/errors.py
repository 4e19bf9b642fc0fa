"""The one exception that users see as a message instead of a traceback."""

from __future__ import annotations


class UserError(Exception):
    """Something that its user can mend: says what, where, what was expected and what to do."""
