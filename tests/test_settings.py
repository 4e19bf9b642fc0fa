from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import pytest
from pydantic import Field, ValidationError, model_validator

from pipeline.errors import UserError
from pipeline.settings import Settings, unknown_field


class Example(Settings):
    """Settings of every kind of field that the project has."""

    count: int = Field(3, ge=1)
    """How many."""
    rate: float = 0.1
    limit: int | None = None
    widths: tuple[int, ...] = (16, 8)
    shares: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = ()
    kind: Literal["plain", "fancy"] = "plain"
    bias: bool = False


class Needy(Settings):
    low: int
    high: int = 9

    @model_validator(mode="after")
    def _in_order(self) -> Needy:
        if self.low > self.high:
            raise ValueError(f"low={self.low} is above high={self.high}")
        return self


def message(values: dict[str, Any], settings: type[Settings] = Example) -> str:
    with pytest.raises(UserError) as caught:
        settings.read(values, "here.yaml")
    return str(caught.value)


@pytest.mark.parametrize(
    ("field", "text", "value"),
    [
        ("count", "7", 7),
        ("count", 7.0, 7),
        ("rate", "1e-3", 1e-3),
        ("rate", 2, 2.0),
        ("limit", "none", None),
        ("limit", "None", None),
        ("limit", "null", None),
        ("limit", "5", 5),
        ("widths", "32,16", (32, 16)),
        ("widths", "[32, 16]", (32, 16)),
        ("widths", "(32,)", (32,)),
        ("widths", " 32 , 16, 8 ", (32, 16, 8)),
        ("widths", "64", (64,)),
        ("widths", "", ()),
        ("widths", "[]", ()),
        ("widths", "none", ()),
        ("widths", [4, 2], (4, 2)),
        ("shares", "0.4,0.85", (0.4, 0.85)),
        ("kind", "fancy", "fancy"),
        ("bias", "true", True),
        ("bias", "False", False),
    ],
)
def test_text_becomes_what_the_field_holds(field: str, text: object, value: object) -> None:
    found = getattr(Example.read({field: text}, "flags"), field)
    assert found == value
    assert type(found) is type(value)


def test_defaults() -> None:
    assert Example.read({}, "nowhere") == Example()


def test_an_unknown_field_is_told_with_the_nearest_known_one() -> None:
    assert message({"widhts": 3}) == "here.yaml: unknown field 'widhts' (did you mean 'widths'?)"


def test_an_unknown_field_like_none_is_told_with_all_known_ones() -> None:
    assert unknown_field("zzz", ["b", "a"]) == "unknown field 'zzz' (known are: a, b)"
    assert message({"zzz": 3}).endswith(
        "(known are: bias, count, kind, limit, rate, shares, widths)"
    )


def test_a_missing_field() -> None:
    assert message({}, Needy) == "here.yaml: low is missing"


def test_fields_that_do_not_go_together() -> None:
    found = message({"low": "12"}, Needy)
    assert found.startswith("here.yaml: Needy=")
    assert found.endswith(": low=12 is above high=9")


@pytest.mark.parametrize(
    ("field", "value", "content"),
    [
        ("count", "0", "count='0': Input should be greater than or equal to 1"),
        ("count", "2.5", "count='2.5': Input should be a valid integer"),
        ("count", "none", "count=None: Input should be a valid integer"),
        ("rate", "fast", "rate='fast': Input should be a valid number"),
        ("rate", "nan", "rate='nan': Input should be a finite number"),
        ("rate", float("inf"), "rate=inf: Input should be a finite number"),
        ("widths", "16,x", "widths.1='x': Input should be a valid integer"),
        ("shares", "0.4,1", "shares.1='1': Input should be less than 1"),
        ("kind", "odd", "kind='odd': Input should be 'plain' or 'fancy'"),
        ("bias", "perhaps", "bias='perhaps': Input should be a valid boolean"),
    ],
)
def test_a_wrong_value_is_told_with_field_value_and_expectation(
    field: str, value: object, content: str
) -> None:
    found = message({field: value})
    assert found.startswith("here.yaml: ")
    assert content in found


def test_all_problems_are_told_at_once() -> None:
    found = message({"count": 0, "rate": "x", "nonsense": 1})
    assert "count=0" in found
    assert "rate='x'" in found
    assert "'nonsense'" in found


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Example().count = 4  # type: ignore[misc]


def test_the_docstring_of_a_field_is_its_description() -> None:
    assert Example.model_fields["count"].description == "How many."


class Within:
    """A bound that knows nothing of pydantic."""

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        return {**handler(source), "ge": 1}


@dataclass(frozen=True)
class Plain:
    """What is needed where there is no pydantic."""

    __pydantic_config__: ClassVar[dict[str, bool]] = {"use_attribute_docstrings": True}

    size: Annotated[int, Within()] = 5
    """How large."""


class Checked(Settings, Plain):
    more: bool = False
    """What else."""


class Further(Checked):
    pass


def test_settings_inherit_the_fields_of_a_plain_dataclass() -> None:
    for cls in (Checked, Further):
        fields = {name: info.description for name, info in cls.model_fields.items()}
        assert fields == {"size": "How large.", "more": "What else."}
        assert isinstance(cls.read({"size": "7"}, "flags"), Plain)
        assert cls.read({"size": "7"}, "flags") == cls(size=7)
        assert cls().size == 5
    assert message({"size": 0}, Checked).endswith(
        "size=0: Input should be greater than or equal to 1"
    )
    with pytest.raises(ValidationError, match="frozen"):
        Checked().size = 4  # type: ignore[misc]
