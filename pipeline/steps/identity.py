"""What makes a step the same step: its inputs, its parameters, and the code that it runs."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).parents[1]
ROOMS = ("settings.py", "config.py", "data", "models", "training", "evaluation")
"""Code whose change makes a finished step worth nothing; the rest only shows or logs."""


def step_key(step: str, inputs: dict[str, Any]) -> str:
    """32 hex digits by which a finished step is found again."""
    content = json.dumps([step, inputs, _code()], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:32]


@cache
def _code() -> str:
    digest = hashlib.sha256()
    for room in ROOMS:
        path = PACKAGE / room
        for file in [path] if path.is_file() else sorted(path.rglob("*.py")):
            digest.update(str(file.relative_to(PACKAGE)).encode() + file.read_bytes())
    return digest.hexdigest()
