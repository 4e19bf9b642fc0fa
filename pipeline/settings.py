"""The base of every group of settings, and how values typed by a person become theirs."""

from __future__ import annotations

import difflib
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import is_dataclass
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError, model_validator

from pipeline.errors import UserError, brief

UNKNOWN = "extra_forbidden"  # pydantic's word
AUTO = "auto"
"""Of a field that is taken as the data or the machine have it."""


class Settings(BaseModel):
    """Immutable, checked settings; unknown names are refused, docstrings are descriptions."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False
    )
    absolute: ClassVar[Mapping[str, str]] = {}
    """Fields in units of the data, each with the field that says the same as a plain number. The
    plain number counts where there is one."""

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """Fields that come from a plain dataclass are described by its docstrings, too, and those
        with another default than their base's by that base's."""
        super().__pydantic_init_subclass__(**kwargs)
        for base in cls.__mro__:
            if issubclass(base, BaseModel):
                for name in base.model_fields.keys() & cls.model_fields.keys():
                    field = cls.model_fields[name]
                    field.description = field.description or base.model_fields[name].description
            if is_dataclass(base) and not issubclass(base, BaseModel):
                for name, described in TypeAdapter(base).json_schema()["properties"].items():
                    field = cls.model_fields[name]
                    field.description = field.description or described.get("description")

    @model_validator(mode="before")
    @classmethod
    def _read_words(cls, values: Any) -> Any:
        """Flags are text: "none" means None or an empty list, and commas separate."""
        if not isinstance(values, Mapping):
            return values
        return {name: cls._word(name, value) for name, value in values.items()}

    @classmethod
    def _word(cls, name: str, value: Any) -> Any:
        field = cls.model_fields.get(name)
        is_list = field is not None and "tuple" in str(field.annotation)
        if field is None or not isinstance(value, str):
            return [value] if is_list and isinstance(value, int | float) else value
        none = value.lower() in ("none", "null")
        if is_list:
            parts = "" if none else value.strip("[]() ")
            return [part.strip() for part in parts.split(",") if part.strip()]
        return None if none else value

    @classmethod
    def overruled(cls, fields: Container[str]) -> set[str]:
        """The fields that mean nothing any more once ``fields`` are given: in the other unit."""
        pairs = [*cls.absolute.items(), *((b, a) for a, b in cls.absolute.items())]
        return {other for name, other in pairs if name in fields and other not in fields}

    @classmethod
    def given(cls) -> list[str]:
        """The fields that a file or a flag can give."""
        return list(cls.model_fields)

    @classmethod
    def read(cls, values: Mapping[str, Any], where: str) -> Self:
        """Check ``values``; ``where`` names their source in messages.

        Raises:
            UserError: naming every field that is wrong, its value and what was expected.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            names = [_name(cls, each) for each in error.errors() if each["type"] == UNKNOWN]
            problems = [_explain(cls, each) for each in error.errors() if each["type"] != UNKNOWN]
            problems += unknown_fields(names, list(cls.model_fields))
            raise UserError(f"{where}: " + "; ".join(problems)) from None


@contextmanager
def refusing_values() -> Iterator[None]:
    """Make errors of the form ``field=value: why`` those of a validator, whose field is known."""
    try:
        yield
    except UserError as error:
        raise ValueError(str(error).partition(": ")[2]) from None


def unknown_fields(names: Sequence[str], known: Sequence[str]) -> Iterator[str]:
    """Messages for names that are no fields, with the nearest one that is, or once with all."""
    near = {name: difflib.get_close_matches(name, known, n=1, cutoff=0.6) for name in names}
    for name, found in near.items():
        if found:
            yield f"unknown field '{brief(name)}' (did you mean '{found[0]}'?)"
    others = [f"'{brief(name)}'" for name, found in near.items() if not found]
    if others:
        fields = "field" if len(others) == 1 else "fields"
        yield f"unknown {fields} {', '.join(others)} (known are: {', '.join(sorted(known))})"


def unknown_field(name: str, known: Sequence[str]) -> str:
    """The message for one such name."""
    return next(unknown_fields([name], known))


def _name(cls: type[Settings], problem: Any) -> str:
    return ".".join(str(part) for part in problem["loc"]) or cls.__name__


def _explain(cls: type[Settings], problem: Any) -> str:
    name = _name(cls, problem)
    if problem["type"] == "missing":
        return f"{name} is missing"
    message = problem["msg"].removeprefix("Value error, ")
    return f"{brief(name)}={brief(repr(problem['input']))}: {message}"
