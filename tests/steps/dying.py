"""Commands that are killed at a moment that a test chooses, by SIGKILL, each in its process."""

from __future__ import annotations

import signal
import subprocess
import sys

from tests.steps.workplace import DEADLINE, ROOT, Workplace, environment

# What is to be called, and how often before the process kills itself: before that call, or after.
DYING = """
import importlib, os, signal, sys
module, name, calls, after, *words = sys.argv[1:]
owner, _, method = name.rpartition(".")
place = importlib.import_module(module)
place = getattr(place, owner) if owner else place
original, left = getattr(place, method), [int(calls)]

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def dying(*args, **kwargs):
    left[0] -= 1
    if not left[0] and not int(after):
        die()
    result = original(*args, **kwargs)
    if not left[0]:
        die()
    return result

setattr(place, method, dying)
sys.argv = ["pipeline", *words]
from pipeline.cli import run
run()
"""
ENTRY = "pipeline.outbox.journal:Outbox.add"


def die(
    workplace: Workplace, moment: str, calls: int, *words: str, after: bool = True, **variables: str
) -> str:
    """Run ``python -m pipeline WORDS`` until it kills itself, at the call number ``calls`` of
    ``moment`` (MODULE:FUNCTION); what it told."""
    ended = subprocess.run(
        [sys.executable, "-c", DYING, *moment.split(":"), str(calls), str(int(after)), *words],
        cwd=workplace.folder,
        env={**environment(), "PYTHONPATH": str(ROOT), **variables},
        capture_output=True,
        text=True,
        timeout=2 * DEADLINE,
    )
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    return ended.stderr
