"""What a person sees: words stay whole in a terminal, and there are no colours if so asked."""

from __future__ import annotations

import logging
import os
import pty
import re
import subprocess
import sys
import time

import pytest

from pipeline import console
from pipeline.console import waiting
from tests.steps.workplace import ROOT, environment

MISTAKE = ("-m", "pipeline", "train", "--config", "experiments/nfc.yaml")
TOLD = "error: experiments/nfc.yaml: there is no such file. In experiments there are: als.yaml,"


def in_a_terminal(columns: int, **variables: str) -> list[str]:
    """The lines that a mistake is told in."""
    ours, theirs = pty.openpty()
    variables = {"COLUMNS": str(columns), "TERM": "xterm-256color", **variables}
    process = subprocess.Popen(
        [sys.executable, *MISTAKE], cwd=ROOT, env={**environment(), **variables}, stderr=theirs
    )
    os.close(theirs)
    told = b""
    while True:
        try:
            part = os.read(ours, 4096)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        told += part
    assert process.wait() == 1
    os.close(ours)
    return told.decode().splitlines()


def test_sentences_wrap_at_words_and_no_color_is_heeded() -> None:
    lines = in_a_terminal(80, NO_COLOR="1")
    assert "\x1b[31m" not in "".join(lines)
    plain = [re.sub(r"\x1b\[[0-9;]*m", "", line).rstrip() for line in lines]
    assert len(plain) > 1
    assert max(map(len, plain)) <= 80
    assert " ".join(plain).startswith(TOLD)
    assert "\x1b[31m" in in_a_terminal(120)[0]


def test_what_takes_long_is_told(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO, "pipeline")
    monkeypatch.setattr(console.log, "propagate", True)
    monkeypatch.setattr(console, "PLAIN_SECONDS", 0.0)
    with waiting("Fitting slim"):
        while not caplog.messages:
            time.sleep(0.001)
    assert caplog.messages == ["Fitting slim ..."]
    monkeypatch.setattr(console, "PLAIN_SECONDS", 3600.0)
    with waiting("Fitting svd"):
        pass
    assert caplog.messages == ["Fitting slim ..."]
