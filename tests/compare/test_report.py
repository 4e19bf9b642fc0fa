"""The report to send: it needs nothing but itself, and says what may be concluded and what not."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import pytest

from pipeline.compare.contenders import Protocol
from pipeline.compare.report import Report, _split
from pipeline.compare.tables import Section
from pipeline.drawing import Drawn, in_style, new_figure

EVIL = "<script>alert('x')</script>"


@in_style
def drawing() -> Drawn:
    figure, axes = new_figure(2, 2)
    axes.plot([0, 1], [0, 1])
    axes.set_title(EVIL)
    return Drawn(figure, pd.DataFrame({"x": np.arange(2)}), f"{EVIL} rises")


class Page(HTMLParser):
    """The elements of a page, the addresses in it, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [str(value) for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def html() -> str:
    table = Section(
        f"of {EVIL}", ["experiment", EVIL], [[(EVIL, False), ("0.3", True)]], [EVIL], [EVIL]
    )
    links = [(EVIL, "http://127.0.0.1:5000/#/experiments/0/runs/1")]
    facts, said = [("Models", EVIL)], [f"a is better than {EVIL}"]
    return Report(
        EVIL, f"About {EVIL}.", facts, said, said, [table], [drawing()], links, EVIL
    ).html()


@pytest.mark.parametrize("kind", ["png", "svg"])
def test_what_is_drawn_alike_is_the_same_file(kind: Literal["png", "svg"], tmp_path: Path) -> None:
    for name in ("one", "other"):
        drawing().save(tmp_path / name, kind)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()


def test_what_users_have_named_is_text(html: str) -> None:
    page = Page(html)
    assert "script" not in page.tags
    assert "<script" not in html
    assert page.text.count(EVIL) >= 10


def test_it_needs_nothing_but_itself(html: str) -> None:
    page = Page(html)
    assert not {"link", "script", "iframe", "object"} & set(page.tags)
    figures = [each for each in page.addresses if each.startswith("data:image/svg+xml;base64,")]
    assert len(figures) == page.tags.count("img") == 1
    outside = [each for each in page.addresses if each not in figures]
    assert outside == ["http://127.0.0.1:5000/#/experiments/0/runs/1"]  # to be followed
    style = re.search(r"<style>(.*?)</style>", html, re.DOTALL)
    assert style is not None
    assert "url(" not in style[1]
    assert "@import" not in style[1]


def test_a_split_is_told_in_words() -> None:
    def told(split: str) -> str:
        return _split(Protocol("films", "f", split, "seen", 10))

    moment = "One moment for all users, the 0.85 quantile of the timestamps, ends the training."
    assert told("time-0.85-5-15-10") == f"time-0.85-5-15-10. {moment}"
    assert "Of each user a share of 0.8 trains, drawn" in told("random-0.8-5-15-10")
    assert "Of each user the latest" in told("leave-one-out-5-15")
    assert told("given") == "given"


def test_nothing_found_is_said(html: str) -> None:
    assert "Nothing: no difference was found" not in html
    page = Report("t", "a", [], [], ["b"], [], [], [], "m").html()
    assert "Nothing: no difference was found that could not be chance." in page
