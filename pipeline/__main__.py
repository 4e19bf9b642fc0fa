"""``python -m pipeline NAME --flag value``: the entry points of MLproject, and nothing else."""

import sys
from importlib.util import find_spec

NEEDED = ("click", "rich", "pydantic", "yaml", "mlflow")  # of what is installed, enough to tell

if __name__ == "__main__":
    if missing := [name for name in NEEDED if find_spec(name) is None]:
        sys.exit(
            f"error: {sys.executable} has no {missing[0]}: make this project's own Python, `make "
            f".venv/installed`, and enter it, `source .venv/bin/activate`."
        )
    from pipeline.cli import run

    run()
