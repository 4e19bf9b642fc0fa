"""Models, metrics and losses of one's own, found by import path.

my_file.py:Graph             a file, from the folder of the command or by its whole path
my_package.models:Graph      a module that Python finds, in the folder of the command too
"""

from __future__ import annotations

import re
import sys
import traceback
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from pipeline.errors import UserError, brief

IMPORT_PATH = re.compile(r"[^:{}\[\]]+:[A-Za-z_]\w*")


def is_own(name: str) -> bool:
    """Whether a name is an import path and none of the package's own."""
    return IMPORT_PATH.fullmatch(name) is not None


def find(name: str, what: str, fits: Callable[[Any], bool]) -> Any:
    """What the import path ``name`` says: a ``what``, as ``fits`` tells.

    Raises:
        UserError: there is no such file, module or name, it cannot be imported, or does not fit.
    """
    place, _, attribute = name.rpartition(":")
    module = _module(name, place, what)
    found = getattr(module, attribute, None)
    if found is not None and fits(found):
        return found
    there = [each for each, value in vars(module).items() if fits(value)]
    names = f"; it has: {', '.join(there)}" if there else ""
    why = f"has no {attribute}" if found is None else f"has a {attribute} that is no {what}"
    raise UserError(f"{what}={name}: {place} {why}{names} (docs/extending.md).")


def module_name(name: str) -> str:
    """The module of an import path as Python calls it, also where the path names a file."""
    place = name.rpartition(":")[0]
    return Path(place).stem if place.endswith(".py") else place


def portable(name: str) -> str:
    """The import path by which the same is found where its code is on Python's path."""
    return f"{module_name(name)}:{name.rpartition(':')[2]}" if is_own(name) else name


def _module(name: str, place: str, what: str) -> ModuleType:
    folder, module = Path(), module_name(name)
    file = Path(place).expanduser() if place.endswith(".py") else None
    if file is not None:
        if not file.is_file():
            raise UserError(
                f"{what}={name}: there is no file {file}. Expected FILE.py:NAME or "
                f"package.module:NAME."
            )
        folder = file.parent
    on_path = str(folder.resolve())
    if on_path not in sys.path:
        sys.path.insert(0, on_path)
    try:
        found = import_module(module)
    except Exception as error:
        raise UserError(f"{what}={name}: {place} cannot be imported: {_brief(error)}") from None
    if file is not None and Path(str(found.__file__)).resolve() != file.resolve():
        raise UserError(
            f"{what}={name}: Python knows another {module}, {found.__file__}. Give the file "
            f"another name."
        )
    return found


def _brief(error: Exception) -> str:
    """An error with the line of one's own code that it came from."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [each for each in frames if "importlib" not in each.filename][1:]
    where = f" ({Path(own[-1].filename).name}, line {own[-1].lineno})" if own else ""
    return f"{type(error).__name__}: {brief(error)}{where}."
