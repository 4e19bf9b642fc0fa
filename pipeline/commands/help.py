"""What the help says of fields: their meaning, what they take, and what they are when not given.

All of it is read off what checks the values, so that help and checks cannot differ.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import click

from pipeline.commands.flags import Groups

if TYPE_CHECKING:
    from pipeline.settings import Settings

KINDS = {
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "object": "fields and values",
}
BOUNDS = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
FIELDS_NOTE = (
    "A field stands in the file of an experiment (embedding_dim: 16) or is given as a flag "
    "(--embedding_dim 16), which counts before the file; what neither names has its default."
)


def write_fields(formatter: click.HelpFormatter, groups: Groups) -> None:
    """Where fields are read from, and a section for each group that has any."""
    formatter.write_paragraph()
    formatter.write_text(FIELDS_NOTE)
    for title, group in groups.items():
        rows = list(_rows(group))
        if rows:
            with formatter.section(f"{title} fields"):
                formatter.write_dl(rows)


def write_models(formatter: click.HelpFormatter, command: str) -> None:
    """The models that there are, each with a line on it."""
    from pipeline.models import FAMILIES, family

    with formatter.section("Models"):
        formatter.write_dl([(name, _first_line(family(name))) for name in FAMILIES])
        formatter.write_paragraph()
        formatter.write_text(f"The fields of one: {command} --model NAME --help")


def _rows(group: type[Settings]) -> Iterator[tuple[str, str]]:
    for name, meaning, taken, default in described(group):
        standard = "no default" if default is None else f"default: {default}"
        yield f"--{name}", f"{meaning} [{taken}; {standard}]"


def described(group: type[Settings]) -> Iterator[tuple[str, str, str, str | None]]:
    """Of each field its name, what it means, what it takes, and its default, if it has one."""
    schema = group.model_json_schema()
    for name in group.given():
        field = schema["properties"][name]
        meaning = " ".join((group.model_fields[name].description or "").replace("``", "").split())
        default = _shown(field["default"]) if "default" in field else None
        yield name, meaning, taken_by(field, schema.get("$defs", {})), default


def taken_by(field: Mapping[str, Any], named: Mapping[str, Any]) -> str:
    """The values that a field takes, in words, by its JSON schema; ``named`` are its ``$defs``."""
    words = list(_taken_by(field, named))
    return " or ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def _taken_by(field: Mapping[str, Any], named: Mapping[str, Any]) -> Iterator[str]:
    """The same as alternatives."""
    kind = field.get("type")
    if "$ref" in field:
        yield from _taken_by(named[str(field["$ref"]).rpartition("/")[2]], named)
    elif "anyOf" in field:
        for each in field["anyOf"]:
            yield from _taken_by(each, named)
    elif "enum" in field or "const" in field:
        yield from map(_shown, field.get("enum", [field.get("const")]))
    elif kind == "null":
        yield "none"
    elif kind == "array":
        yield f"{taken_by(field.get('items', {}), named)}, and more of them after commas"
    else:
        bounds = [f"{sign} {field[name]:,.12g}" for name, sign in BOUNDS.items() if name in field]
        yield " ".join(filter(None, [KINDS.get(str(kind), "text"), " and ".join(bounds)]))


def _shown(value: Any) -> str:
    """A default as one would type it."""
    if value is None:
        return "none"
    if isinstance(value, list | tuple):
        return ",".join(_shown(each) for each in value) or "none"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def _first_line(model: type) -> str:
    return (model.__doc__ or "").strip().partition("\n")[0]
