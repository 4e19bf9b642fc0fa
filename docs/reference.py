"""The reference, made from what the program itself reads: commands, fields, metrics.

What a field or a flag means stands in its docstring, and what it takes is read off what checks it:
nothing is said here a second time.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import click

from pipeline.cli import cli
from pipeline.commands.flags import FieldsCommand, experiment_fields
from pipeline.commands.help import FIELDS_NOTE, described
from pipeline.evaluation import metrics
from pipeline.models import FAMILIES, family
from pipeline.settings import Settings

KINDS = {"boolean": "true or false", "integer": "a whole number", "integer range": "a whole number"}


def write(folder: Path) -> None:
    """Write the pages; one that is as it was keeps its time, so that Sphinx need not read it."""
    folder.mkdir(exist_ok=True)
    for name, lines in (("commands", commands()), ("fields", fields()), ("metrics", measures())):
        page, text = folder / f"{name}.md", "\n".join(lines) + "\n"
        if not page.exists() or page.read_text() != text:
            page.write_text(text)


def commands() -> Iterator[str]:
    """Every command with its own flags."""
    yield "# Commands"
    yield "\nEach is `ncf NAME`, and `python -m pipeline NAME`. A command that takes fields takes"
    yield "those of an experiment, of its split and of its model as flags, too: [](fields.md)."
    for name, command in sorted(cli.commands.items()):
        yield f"\n## {name}\n\n{_text(command.help or '')}\n"
        options = [each for each in command.params if isinstance(each, click.Option)]
        shown = [each for each in options if not each.hidden]
        rows = [(f"`{each.opts[0]}`", each.help or "", _taken(each)) for each in shown]
        if rows:
            yield from _table(("flag", "", "takes"), rows)
        if isinstance(command, FieldsCommand):
            own = command.fields(None).keys() - experiment_fields(None).keys()
            yield "\nIt takes fields, too."
            for title in sorted(own):
                yield f"\n### {title} fields of {name}\n"
                yield from _fields(command.fields(None)[title])


def fields() -> Iterator[str]:
    """Every field of every model, and those that all experiments have."""
    yield "# Fields"
    yield f"\n{FIELDS_NOTE}"
    yield "Those of an experiment and of its split come first, then those of each model."
    for title, group in experiment_fields(None).items():
        yield f"\n## {title}\n\n{_text(group.__doc__ or '')}\n"
        yield from _fields(group)
    for name in FAMILIES:
        model = family(name)
        yield f"\n## {name}\n\n{_text(model.__doc__ or '')}\n"
        if list(model.settings_class.given()):
            yield from _fields(model.settings_class)
        if model.space:
            entries = (f"`{field}` {each.in_words()}" for field, each in model.space.items())
            yield f"\nA study without a space of its own varies {', '.join(entries)}."


def measures() -> Iterator[str]:
    """Every metric with its formula."""
    yield "# Metrics"
    yield "\nR_u are the held-out items of user u, L_u is the list of u, cut at k. A metric is"
    yield "logged as `test/NAME_at_K`, of a validation window as `val/NAME_at_K`."
    for metric in metrics.BUILT_IN:
        yield f"\n## {metric.name}\n\n{metric.meaning.capitalize()}.\n"
        yield f"{_text(_formula(metric))}\n"
        if metric.per_user:
            ranked = " Models can be ranked by it." if metric.accuracy else ""
            yield f"A value per user, so that it has intervals and tests.{ranked}"
        else:
            yield "One value of all lists together, which has neither interval nor test."


def _formula(metric: metrics.Metric) -> str:
    """The docstring of the function that the metric's entry calls."""
    called = (vars(metrics).get(name) for name in metric.of.__code__.co_names)
    (function,) = (each for each in called if inspect.isfunction(each))
    return inspect.getdoc(function) or ""


def _fields(group: type[Settings]) -> Iterator[str]:
    rows = (
        (f"`{name}`", meaning, taken, "" if default is None else f"`{default}`")
        for name, meaning, taken, default in described(group)
    )
    yield from _table(("field", "", "takes", "default"), rows)


def _taken(option: click.Option) -> str:
    """What a flag takes, and what it is when it is not given."""
    if option.is_flag:
        return "nothing"
    if isinstance(option.type, click.Choice):
        kind = " or ".join(map(str, option.type.choices))
    else:
        kind = KINDS.get(option.type.name, option.type.name)
    if not isinstance(option.default, str | int) or option.default == "":
        return kind
    return f"{kind}, `{str(option.default).lower()}` by default"


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(heads)} |"
    yield f"|{'---|' * len(heads)}"
    for row in rows:
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |"


def _text(docstring: str) -> str:
    """A docstring as Markdown: literals as it writes them, tables kept as they are."""
    blocks = inspect.cleandoc(docstring).replace("``", "`").split("\n\n")
    return "\n\n".join(_block(block) for block in blocks)


def _block(block: str) -> str:
    lines = block.splitlines()
    if lines[0].strip() != "\b":  # click's mark for what is not to be wrapped
        return block.replace("*", r"\*").replace("_", r"\_") if "`" not in block else block
    return "\n".join(["```text", *lines[1:], "```"])
