"""Which files a result is made by, read off the imports: of this package, and of one's own code."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.metadata import packages_distributions
from importlib.util import find_spec
from pathlib import Path

PACKAGE = __name__.partition(".")[0]
RECORDS = tuple(f"{PACKAGE}.{room}" for room in ("outbox", "tracking", "console", "errors"))
"""They keep, show and explain, and make no result."""


def code_of(modules: Iterable[str]) -> dict[str, Path]:
    """The files of these modules and of all that they import, by module.

    Of this package the modules, of one's own packages the whole, and of a file by itself the files
    beside it. Modules that are imported for annotations alone change no result.
    """
    found: dict[str, Path] = {}
    wanted = list(modules)
    while wanted:
        name = wanted.pop()
        files = {} if name in found else _files(name)
        found |= files
        wanted += [each for file in files.values() for each in _followed(file, name)]
    return found


def own_code(modules: Iterable[str]) -> list[Path]:
    """What of one's own has to travel with a model: whole packages, and files; none of ours."""
    roots = sorted({_root(name) for name in code_of(modules) if not _is_ours(name)})
    files = [file for root in roots if (file := _file(root)) is not None]
    return [file.parent if file.name == "__init__.py" else file for file in files]


def distributions(modules: Iterable[str]) -> list[str]:
    """The names of installed distributions that one's own code imports."""
    files = [path for name, path in code_of(modules).items() if not _is_ours(name)]
    if not files:  # nothing is one's own: what is installed need not be gone through
        return []
    known = packages_distributions()
    roots = {_root(name) for file in files for name in _imported(file)} - {PACKAGE}
    return sorted({known[root][0] for root in roots if root in known})


def _files(module: str) -> dict[str, Path]:
    """The file of a module by its name; of an own package all files, of what is none nothing."""
    file = _file(module if _is_ours(module) else _root(module))
    if file is None:
        return {}
    if _is_ours(module) or file.name != "__init__.py":
        return {module: file}
    return {
        ".".join([_root(module), *path.relative_to(file.parent).with_suffix("").parts]): path
        for path in sorted(file.parent.rglob("*.py"))
    } | {module: file}


def _followed(file: Path, importer: str) -> Iterator[str]:
    """What a file imports that makes its result, too."""
    alone = not _is_ours(importer) and file.stem == importer
    for name in _imported(file):
        if _is_ours(name):
            if not name.startswith(RECORDS):
                yield name
        elif alone and _beside(file, _root(name)):
            yield _root(name)


def _beside(file: Path, name: str) -> bool:
    return (file.parent / f"{name}.py").exists() or (file.parent / name / "__init__.py").exists()


def _is_ours(module: str) -> bool:
    return _root(module) == PACKAGE


def _root(module: str) -> str:
    return module.partition(".")[0]


@cache
def _file(module: str) -> Path | None:
    """Where a module is; None for a name inside one, and for what is no file of Python's."""
    parent = module.rpartition(".")[0]
    if parent:  # ``find_spec`` would import it, to see whether it is a package
        within = _file(parent)
        if within is None or within.name != "__init__.py":
            return None
    try:
        spec = find_spec(module)
    except (ModuleNotFoundError, ValueError):
        return None
    return Path(spec.origin) if spec is not None and spec.origin else None


@cache
def _imported(file: Path) -> tuple[str, ...]:
    """What a file imports; a name may be a module or stand in one."""
    names = []
    for node in _executed(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Import):
            names += [each.name for each in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names += [node.module, *(f"{node.module}.{each.name}" for each in node.names)]
    return tuple(names)


def _executed(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes below ``node``, without what only type checkers read."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            continue
        yield child
        yield from _executed(child)
