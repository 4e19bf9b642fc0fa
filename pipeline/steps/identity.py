"""What makes a step the same step: its inputs, its parameters, and the code that makes its result.

That code is read off the imports: the modules of what the step calls, and all that they import. A
comment in a plot or a table makes nothing worthless, a line of the sampler only what was trained
by it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from typing import Any

from pipeline.code import code_of


def step_key(
    step: str,
    inputs: dict[str, Any],
    made_by: Iterable[Callable[..., Any]],
    own: Iterable[str] = (),
) -> str:
    """32 hex digits by which a finished step is found again.

    Args:
        step: its name.
        inputs: what it is given, as JSON.
        made_by: the functions and classes that make its result of that.
        own: further modules that do, by name.
    """
    files = code_of(sorted({*own, *(each.__module__ for each in made_by)}))
    code = {module: hashlib.sha256(file.read_bytes()).hexdigest() for module, file in files.items()}
    content = json.dumps([step, inputs, code], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:32]
