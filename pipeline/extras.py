"""What only some need is installed as an extra of the package; who lacks it reads which."""

from __future__ import annotations

from importlib.util import find_spec

from pipeline.errors import UserError


def require(module: str, extra: str, what: str) -> None:
    """Refuse ``what`` where the module that it needs is not installed.

    Raises:
        UserError: naming the extra that brings it.
    """
    if find_spec(module) is None:
        raise UserError(f"{what} needs {module}: pip install 'ncf-pipeline[{extra}]'")
