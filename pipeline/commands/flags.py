"""Flags: options that several commands share, and fields of settings as flags of their own."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from pipeline.errors import UserError

if TYPE_CHECKING:
    from pipeline.settings import Settings

Groups = dict[str, "type[Settings]"]
EXPERIMENT, SPLIT = "Experiment", "Split"  # groups of fields
REUSE = click.option(
    "--reuse",
    type=bool,
    default=True,
    show_default=True,
    help="Take finished steps again; false does them anew.",
)
KEEP_OFFLINE = "Use no tracking server: keep runs in data/offline, for sync to deliver."
DATASET = click.option(
    "--dataset",
    default="auto",
    help="ml-1m, ml-100k, ... or a path to ratings, a file or a folder; auto takes ml-1m where it "
    "can be had. What does not fit into memory is prepared on disk.",
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
        help="error names them and stops; drop leaves them out and counts them.",
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
        from pipeline.data.raw.reading import Reading

        given = {name: kwargs.pop(name) for name in Reading.model_fields}
        command(*args, reading=Reading(**given), **kwargs)

    return run


def launcher(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the flags that say where its work is done, as one ``placed``."""

    @click.option(
        "--launcher",
        type=click.Choice(["local", "ray"]),
        default="local",
        help="ray does the work on the nodes of a Ray cluster.",
    )
    @click.option(
        "--ray_address", help="Of that cluster [default: RAY_ADDRESS, else that of this machine]."
    )
    @functools.wraps(command)
    def run(*args: Any, launcher: str, ray_address: str | None, **kwargs: Any) -> None:
        if launcher == "local" and ray_address:
            raise UserError("--ray_address is of a Ray cluster: give --launcher ray, too.")

        from pipeline.cluster.connection import connected, here

        placed = here if launcher == "local" else functools.partial(connected, ray_address or None)
        command(*args, placed=placed, **kwargs)

    return run


def offline(command: Callable[..., None], text: str = KEEP_OFFLINE) -> Callable[..., None]:
    """Give a command the flag ``--offline``, with which all of it happens in the embedded store."""

    @functools.wraps(command)
    def run(*args: Any, offline: bool, **kwargs: Any) -> None:
        if not offline:
            command(*args, **kwargs)
            return
        from pipeline.ops.offline import use_offline_store

        with use_offline_store():
            command(*args, **kwargs)

    return click.option("--offline", is_flag=True, help=text)(run)


class FieldsCommand(click.Command):
    """A command that takes fields as flags, and lists them in its help.

    ``fields`` gives the groups for the model that ``--model`` names, and without one those that
    every model has; then the models are listed.
    """

    def __init__(self, *args: Any, fields: Callable[[str | None], Groups], **kwargs: Any) -> None:
        kwargs["context_settings"] = {"ignore_unknown_options": True, "allow_extra_args": True}
        super().__init__(*args, **kwargs)
        self.fields = fields

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Remember the model before ``--help`` is seen, which ends the parsing."""
        ctx.meta["model"] = _model_in(args)
        return super().parse_args(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Options, and fields as if they were."""
        names = (
            name for group in self.fields(ctx.meta["model"]).values() for name in group.given()
        )
        fields = [f"--{name}" for name in names if f"--{name}".startswith(incomplete or " ")]
        return [*super().shell_complete(ctx, incomplete), *map(CompletionItem, fields)]

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The fields, and the models where none is chosen."""
        from pipeline.commands.help import write_fields, write_models

        model = ctx.meta["model"]
        groups = self.fields(model)
        write_fields(formatter, groups)
        if model is None and EXPERIMENT in groups:
            write_models(formatter, ctx.command_path)


def _model_in(words: Sequence[str]) -> str | None:
    """What ``--model NAME`` or ``--model=NAME`` says, the last time."""
    found = None
    for word, following in zip_longest(words, words[1:]):
        name, given, value = word.partition("=")
        if name == "--model":
            found = value if given else following
    return found


def experiment_fields(model: str | None) -> Groups:
    """The fields of an experiment, with those of its model where that is known."""
    from pipeline.config import Experiment, field_groups
    from pipeline.data.split_settings import SplitSettings

    if model is None:
        return {EXPERIMENT: Experiment, SPLIT: SplitSettings}
    experiment, split, params = field_groups(model).values()
    return {f"Model {model}": params, EXPERIMENT: experiment, SPLIT: split}


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
