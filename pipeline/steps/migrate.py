"""migrate: all runs and models of one tracking store copied to another, and both compared."""

from __future__ import annotations

from pipeline.console import console, house_table, show_line
from pipeline.errors import UserError
from pipeline.ops.migration.migrate import KINDS, Migration
from pipeline.ops.migration.migrate import migrate as copy


def migrate(source: str, target: str) -> None:
    """Copy what ``target`` has not of ``source``, show what was there and what is there now.

    Raises:
        UserError: a store cannot be used, or not everything is there in the end.
    """
    check(copy(source, target), "migrate")


def check(migration: Migration, title: str) -> None:
    """Show what was compared.

    Raises:
        UserError: not everything is there.
    """
    table = house_table("", "source", "there before", "copied", "there now", title=title)
    for kind in KINDS:
        source, before, now = (
            counts[kind] for counts in (migration.source, migration.before, migration.now)
        )
        style = None if source == now else "red"
        table.add_row(kind, *(f"{n:,}" for n in (source, before, now - before, now)), style=style)
    console.print(table)
    for problem in migration.problems:
        show_line(problem, "yellow")
    if not migration.is_whole:
        raise UserError("Not everything is there. The same command tries the rest again.")
