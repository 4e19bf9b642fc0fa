"""Flags: options that several commands share, and fields of settings as flags of their own."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from pipeline.errors import UserError

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

    from pipeline.settings import Settings

Groups = dict[str, "type[Settings]"]
REUSE = click.option(
    "--reuse", type=bool, default=True, help="Take finished steps again; false does them anew."
)
DATASET = click.option(
    "--dataset",
    default="auto",
    help="ml-1m, ml-100k, ... or a path to ratings; auto takes ml-1m where it can be had.",
)


def reading(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the flags that say how a file of ratings is read, as one ``reading``."""

    @click.option(
        "--columns",
        help="Names or numbers of columns: user=userID,item=artistID,rating=weight,timestamp=none.",
    )
    @click.option("--table", help="The file with the ratings among several in a folder or zip.")
    @click.option("--items", help="A table with titles and genres of items.")
    @click.option(
        "--on_bad_rows",
        type=click.Choice(["error", "drop"]),
        default="error",
        help="Drop counts them.",
    )
    @click.option(
        "--accept_split",
        type=bool,
        is_flag=False,
        flag_value=True,
        default=False,
        help="Take a split that came with the data though it is contaminated.",
    )
    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        from pipeline.data.reading import Reading

        given = {name: kwargs.pop(name) for name in Reading.model_fields}
        command(*args, reading=Reading(**given), **kwargs)

    return run


def offline(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the flag ``--offline``, with which all of it happens in the embedded store."""

    @functools.wraps(command)
    def run(*args: Any, offline: bool, **kwargs: Any) -> None:
        if not offline:
            command(*args, **kwargs)
            return
        from pipeline.ops.offline import use_offline_store

        with use_offline_store():
            command(*args, **kwargs)

    told = "Use no tracking server: keep runs in data/offline, for sync to deliver."
    return click.option("--offline", is_flag=True, help=told)(run)


class FieldsCommand(click.Command):
    """A command that takes fields as flags, and lists them in its help."""

    def __init__(self, *args: Any, fields: Callable[[], Groups], **kwargs: Any) -> None:
        kwargs["context_settings"] = {"ignore_unknown_options": True, "allow_extra_args": True}
        super().__init__(*args, **kwargs)
        self.fields = fields

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, group in self.fields().items():
            fields = ((name, group.model_fields[name]) for name in group.given())
            rows = [(f"--{name}", _help(field)) for name, field in fields]
            if rows:
                with formatter.section(f"{title} fields"):
                    formatter.write_dl(rows)


def _help(field: FieldInfo) -> str:
    default = "" if field.is_required() else f" [default: {field.default}]"
    return f"{field.description}{default}"


def experiment_fields() -> Groups:
    from pipeline.config import Experiment
    from pipeline.data.split import SplitSettings
    from pipeline.models import FAMILIES, family

    models = {f"Model {name}": family(name).settings_class for name in FAMILIES}
    return {"Experiment": Experiment, "Split": SplitSettings, **models}


def read_fields(words: Sequence[str]) -> dict[str, Any]:
    """Flags that are no options of the command, as fields: ``--name value`` or ``--name=value``."""
    fields: dict[str, Any] = {}
    rest = list(words)
    while rest:
        name, given, value = rest.pop(0).partition("=")
        if not name.startswith("--") or not (given or rest):
            raise UserError(f"'{name}': expected flags with values, as in --embedding_dim 16.")
        fields[name.removeprefix("--")] = value if given else rest.pop(0)
    return fields
