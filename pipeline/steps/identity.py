"""What makes a step the same step: its inputs, its parameters, and the code that makes its result.

That code is read off the imports: the modules of what the step calls, and all that they import. A
comment in a plot or a table makes nothing worthless, a line of the sampler only what was trained
by it. Modules that are imported for annotations alone change no result.
"""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

PACKAGE = __name__.partition(".")[0]
RECORDS = tuple(f"{PACKAGE}.{room}" for room in ("outbox", "tracking", "console", "errors"))
"""They keep, show and explain, and make no result."""


def step_key(step: str, inputs: dict[str, Any], made_by: Iterable[Callable[..., Any]]) -> str:
    """32 hex digits by which a finished step is found again.

    Args:
        step: its name.
        inputs: what it is given, as JSON.
        made_by: the functions and classes that make its result of that.
    """
    files = code_of(sorted({each.__module__ for each in made_by}))
    code = {module: hashlib.sha256(file.read_bytes()).hexdigest() for module, file in files.items()}
    content = json.dumps([step, inputs, code], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:32]


def code_of(modules: Iterable[str]) -> dict[str, Path]:
    """The files of these modules and of all of this package that they import, by module."""
    found: dict[str, Path] = {}
    wanted = list(modules)
    while wanted:
        name = wanted.pop()
        file = None if name in found else _file(name)
        if file is not None:
            found[name] = file
            wanted += _imported(file)
    return found


@cache
def _file(module: str) -> Path | None:
    """Where a module is; None for a name inside one."""
    try:
        spec = find_spec(module)
    except ModuleNotFoundError:  # what it would be in is no package
        return None
    return Path(spec.origin) if spec is not None and spec.origin else None


@cache
def _imported(file: Path) -> tuple[str, ...]:
    """What a file imports of this package; a name may be a module or stand in one."""
    names = []
    for node in _executed(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Import):
            names += [each.name for each in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{each.name}" for each in node.names)]
    own = (name for name in names if name.startswith(f"{PACKAGE}."))
    return tuple(name for name in own if not name.startswith(RECORDS))


def _executed(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes below ``node``, without what only type checkers read."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            continue
        yield child
        yield from _executed(child)
