"""Fields in a YAML file: all that an experiment, a suite or a study is written with."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml

from pipeline.errors import UserError, brief

EXPERIMENTS = "experiments"  # the folder of what the package brings
_LARGEST = 1 << 18  # characters; beyond it is something else, over which YAML would take minutes


def find_file(path: str | Path) -> Path:
    """``path``, or, where nothing is there, the file that the package brings under that name.

    experiments/ncf.yaml is found so from any folder. What it brings lies in the wheel, or beside
    the package in a checkout.
    """
    given, package = Path(path), Path(__file__).parent
    brought = [folder / given for folder in (package, package.parent)]
    if os.path.exists(given) or given.parts[:1] != (EXPERIMENTS,):  # of any name
        return given
    return next((each for each in brought if os.path.isfile(each)), given)


def read_yaml(path: Path) -> dict[str, Any]:
    """The fields that a YAML file holds.

    Raises:
        UserError: the file is missing, or no mapping in YAML; a field stands there twice.
    """
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(_LARGEST + 1)
        if len(text) > _LARGEST:
            raise UserError(f"{path}: this is no file of fields: it has over {_LARGEST:,} letters.")
        content = yaml.load(text, _Loader)  # a SafeLoader
    except FileNotFoundError:
        near = ", ".join(sorted(file.name for file in path.parent.glob("*.yaml")))
        hint = f" In {path.parent} there are: {near}." if near else ""
        raise UserError(f"{path}: there is no such file.{hint}") from None
    except RecursionError:
        raise UserError(f"{path}: this cannot be read as YAML: it is nested too deep.") from None
    except yaml.MarkedYAMLError as error:
        line = "" if error.problem_mark is None else f", line {error.problem_mark.line + 1}"
        problem = brief(error.problem)
        raise UserError(f"{path}{line}: this cannot be read as YAML: {problem}") from None
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(f"{path}: this cannot be read as YAML: {brief(error)}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected fields and values, as in 'model: ncf'.")
    return content


class _Loader(yaml.SafeLoader):
    """YAML without aliases, which can make a few lines endless, and without repeated keys."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(
                problem=f"*{event.anchor} stands for a value: write the value itself",
                problem_mark=event.start_mark,
            )
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"{key.value} stands there twice: keep one", problem_mark=key.start_mark
                )
            seen.add(key.value if isinstance(key, yaml.ScalarNode) else id(key))
        return super().construct_mapping(node, deep)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, KeyError, AttributeError, TypeError):  # PyYAML checks no number or date
            kind = node.tag.rpartition(":")[2]
            raise yaml.MarkedYAMLError(
                problem=f"{brief(node.value)!r} is no {kind}", problem_mark=node.start_mark
            ) from None
