"""Files of fields: what is no such file is told with its line, and costs no time or memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.config import read_suite
from pipeline.errors import UserError
from pipeline.fields import find_file, read_yaml

BOMB = "a: &a [1, 1]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


def message(path: Path, content: str | bytes) -> str:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(UserError) as caught:
        read_yaml(path)
    assert len(str(caught.value)) < 500
    return str(caught.value).removeprefix(str(path))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (BOMB, ", line 2: this cannot be read as YAML: *a stands for a value"),
        ("a: {b: 1}\nc: {<<: *a}", ", line 2: this cannot be read as YAML: *a stands for a value"),
        ("seed: 1\nk: 10\nseed: 2", ", line 3: this cannot be read as YAML: seed stands"),
        ("space:\n  l2: {low: 1, low: 2}", ", line 2: this cannot be read as YAML: low stands"),
        ("k: 1\nseed: " + "9" * 5000, ", line 2: this cannot be read as YAML: '999"),
        ("day: 2024-02-30", ", line 1: this cannot be read as YAML: '2024-02-30' is no timestamp"),
        ("day: !!timestamp soon", "'soon' is no timestamp"),
        ("seed: !!int many", "'many' is no int"),
        ("bias: !!bool maybe", "'maybe' is no bool"),
        ("x: !!python/object/apply:os.system [touch mark]", "could not determine a constructor"),
        ("k: " + "[" * 100_000, ": this cannot be read as YAML: it is nested too deep"),
        ("? [1]\n: 2", "found unhashable key"),
        ("k: \x07", "special characters are not allowed"),
        (b"k: \xff", "this cannot be read as YAML: 'utf-8' codec"),
        ("word " * 60_000, ": this is no file of fields: it has over 262,144 letters"),
    ],
)  # fmt: skip
def test_what_is_no_file_of_fields(tmp_path: Path, content: str | bytes, told: str) -> None:
    assert told in message(tmp_path / "mine.yaml", content)


def test_a_file_without_an_end() -> None:
    with pytest.raises(UserError, match=r"/dev/zero: this .*letters"):
        read_yaml(Path("/dev/zero"))


@pytest.mark.parametrize("name", ["n" * 300 + ".yaml", "nul\0.yaml", ""])
def test_a_name_that_no_file_has(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="cannot be read as YAML"):
        read_yaml(tmp_path / name)


def test_what_the_package_brings_is_found_from_any_folder_behind_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert read_yaml(find_file("experiments/ncf.yaml"))["model"] == "ncf"
    assert {"ncf", "ease"} <= {each.name for each in read_suite("ledger", {})}
    Path("experiments").mkdir()
    Path("experiments/ncf.yaml").write_text("model: svd\n")
    assert read_yaml(find_file("experiments/ncf.yaml"))["model"] == "svd"
    for other in ("experiments/none.yaml", "ncf.yaml", "pipeline/cli.py"):
        assert find_file(other) == Path(other)
